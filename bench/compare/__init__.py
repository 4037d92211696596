"""Worker designs on the same tasks: what each costs in time, memory and money.

run          one comparison: what is measured in which order (plan, ladders), on a rig of its own
rows/        a file a design; the programs that are no AgentFlow worker are in bench/workers
drive        submits the tasks and keeps the answers; figures makes numbers of them
comparison   the result as data, as bench/results/compare.json has it
report       the page and the charts from it (claims: the design document's table; money; tables)
"""
