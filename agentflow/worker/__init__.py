"""The worker: takes tasks, runs handlers, writes what became of them.

held.py      the messages this process holds, and their renewal
intake.py    what to do with a delivery: the protocol's table, carried out
suspect.py   a message delivered too often is parsed by a process of its own first
attempt.py   one run of a handler, and the record with which it ends
handed.py    what a handler hands over, made fit for a record
progress.py  what a handler reports, as records
tokens.py    generated text on its way to whoever watches
reply.py     the answer to whoever asked for the result
worker.py    the actor that joins them
"""
