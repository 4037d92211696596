"""The worker: takes tasks, runs handlers, writes what became of them.

held.py       the messages this process holds, their renewal, and the interruption of what is done
intake.py     what to do with a delivery: the protocol's table, carried out
parsed.py     what a delivery says, as far as it can be read
suspect.py    a message delivered too often is parsed by a process of its own first
attempt.py    one attempt, through its stages: admit, claim, run, end
gates.py      what an attempt waits for before it is claimed, and a request before it is sent
deaf.py       handlers that do not end when their run is over
starved.py    whether all slots wait for tasks that only they would run
kinds.py      the handlers, and what they say of themselves
handed.py     what a handler hands over, made fit for a record; failed.py: how it failed
progress.py   what a handler reports, as records
tokens.py     generated text on its way to whoever watches
endings.py    the record with which a message is done, and the answer to the queue
reply.py      the answer to whoever asked for the result
observer.py   who is told of each attempt
shared.py     what all attempts share
consumers.py  the streams and consumers pulled from
lag.py        whether the event loop is on time
worker.py     the actor that joins them; process.py, prefork.py, children.py: its processes
orderly.py    the exit status by which an end in order is known
"""
