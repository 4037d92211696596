"""A whole file of tasks as one job: check it, submit what is missing, keep every result.

source.py   the file: lines to tasks, all checked before anything is spent
ledger.py   results.jsonl: what has ended, across interruptions and the log's seven days
job.py      drives it: read the log, submit in a window, append results as they end
report.py   the progress bar and the summary
"""
