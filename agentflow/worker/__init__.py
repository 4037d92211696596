"""The worker: takes tasks, runs handlers, writes what became of them.

held.py      the messages this process holds, and their renewal
intake.py    what to do with a delivery: the protocol's table, carried out
attempt.py   one run of a handler, and the record with which it ends
tokens.py    generated text on its way to whoever watches
worker.py    the actor that joins them
"""
