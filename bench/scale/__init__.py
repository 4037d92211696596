"""How the cost of a task grows: with workers, backlog, payload, history and more.

`axes.py` is what is varied, as data; `servers.py` starts one server or three; `point.py` measures
one value of one axis, all processes fresh; `page.py` writes the tables of docs/scaling.md.
"""
