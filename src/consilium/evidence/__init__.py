"""Evidence: one typed schema of what lies in a study's folder, for those who write it and those who read it.

fields            the kinds of a field, read tolerantly (a report) or strictly (a run that goes on)
measure, threat, finding, audit, privacy, merge -> cell     ``cells/DIGEST/evidence.json``
study             ``study.json``
read, write       from plain JSON to these records and back; files and seals are the callers'
"""
