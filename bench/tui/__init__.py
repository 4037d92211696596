"""The dashboard in a terminal.

`terminal.py` is a pseudo-terminal that somebody reads; in it runs `dashboard.py`, the real app that
tells what its parts took; `records.py` writes to the server of the live cases; `run.py` measures.
"""
