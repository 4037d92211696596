"""The local stack: nats-server, master and workers on this machine, from one command.

    store        the directory of a stack, and who may use it
    server       the embedded nats-server
    child        any other part: a process with a log file
    parent       how a part notices that the process which started it has died
    supervisor   starts parts, restarts what crashes, stops all in order
    stack        the whole, as one async context manager
    nats_context a context of the nats CLI, so that it knows the password too

Only `running` is offered here: every command asks it first, so it must cost nothing.
"""

from agentflow.local.store import StackInfo, running

__all__ = ["StackInfo", "running"]
