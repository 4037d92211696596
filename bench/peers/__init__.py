"""AgentFlow beside other task queues, on the same three shapes of work.

A file a queue holds its tasks, for its own worker program, and its client; it runs in that queue's
virtual environment and speaks JSON (shapes.py). `catalogue.py` says how each is started and what it
promises, `turn.py` runs one of them, `figures.py` judges, `rounds.py` takes them in turn.

This package is imported in the queues' own environments: shapes.py and this file need only the
standard library.
"""
