"""The batch lane: tasks that wait for half the price, gathered, sent, and settled.

    pace      how long each thing may take
    place     what the steps of one pool and queue share: its table, changed by compare-and-set
    entries   what waits there, read page by page
    gather    when enough waits, it becomes a row of the table
    body      an open row as the body of a create
    create    a create, its last byte held back until the table says that it may go
    adopt     what became of a create whose answer was lost
    settle    the results of a batch, each written into its task's log as it is read
    batcher   does all of this for the places of a worker's credential

Tasks, subjects and the order of writes: docs/protocol.md; what may follow what in the table:
rules/batches.py. Any number of batchers may work at one place: a lease keeps them from it, and
nothing depends on that.
"""
