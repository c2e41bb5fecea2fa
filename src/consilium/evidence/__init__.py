"""Evidence: one typed schema of the files in a study's folder, for writers and readers.

fields            the kinds of a field, read tolerantly (a report) or strictly (a run that goes on)
measure, threat, finding, audit, privacy, merge -> cell     ``cells/DIGEST/evidence.json``
study             ``study.json``
read, write       from plain JSON to these records and back; files and seals are the callers'
"""
