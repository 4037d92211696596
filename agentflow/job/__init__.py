"""A whole file of tasks as one job: check it, submit what is missing, keep every result.

spec.py       what is wanted of a job, and what it tells whoever wants it
formats/      what the file may be: bytes to rows
source.py     the file: rows to tasks, all checked before anything is spent, then read again
defaults.py   what holds for lines that do not say it
checks.py     what a worker or the SDK would refuse
ledger.py     the file of results: what has ended, across interruptions and the log's seven days
ownership.py  whose results a file holds
outputs.py    the results as CSV or Parquet
served.py     which kinds somebody would run
estimate.py   what it will cost
tally.py      the figures
placement.py  where it runs: a server elsewhere, the stack of its store, or one of its own
driver.py     drives tasks through a queue there: read the log, submit in a window, keep results
job.py        the job: what is left, at one placement after another, until it is done or stopped

Nothing here prints, reads a terminal or ends a process: a front end does, such as `agentflow run`.
"""
