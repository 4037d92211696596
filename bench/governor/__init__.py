"""A fleet against the limits of its account, as docs/limits.md has it.

`shapes.py` is what is run, as data; `stage.py` starts the real server, the real workers and the
simulator with its buckets; `run.py` measures and prints; `page.py` writes the table.
"""
