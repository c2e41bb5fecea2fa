"""Evidence to tables, figures and one page: reads a study's folder, runs nothing, trains nothing.

read -> records        the folder: its evidence and the files beside it; what is missing, failed or added is tolerated
columns -> summary     what is shown of a cell; arms over seeds, with intervals
verdict, effects       what was found, and what each defence buys and costs
table                  table.csv and the terminal
heat, figures, cell    what the page shows; page, templates/: report.html, one self-contained file
"""
