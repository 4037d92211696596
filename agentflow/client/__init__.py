"""The Python client: submit tasks, wait for results, watch, steer.

flow.py        what users call
submission.py  from a call's arguments to a stored task message
waiting.py     results as they are pushed, for everybody who waits
handle.py      one submitted task
lookup.py      is there such a task?
mapping.py     many tasks, a bounded number at once
watching.py    events of one task or of all
live.py        all that a dashboard shows, as it comes
following.py   both streams as rows
older.py       unfinished tasks that only a master knows
history.py     the past, from the records themselves
prompts.py     what a task was told to do
parts.py       background work that starts again when it fails
steering.py    cancel and retry
bulk.py        cancel many
deadletters.py find, group, retry and drop dead letters
pauses.py      pause, resume, drain of workers
draining.py    drain of a queue or a kind
why.py         why a task waits
asking.py      requests to the master
serving.py     does anybody serve a queue?
result.py      a task as users see it
ids.py         new ids
"""

from agentflow.client.client import Client, connect
from agentflow.client.operate.deadletters import DeadFilter, DeadLetter
from agentflow.client.tasks.handle import TaskHandle
from agentflow.client.tasks.watching import Event
from agentflow.views.result import Result

__all__ = ["Client", "DeadFilter", "DeadLetter", "Event", "Result", "TaskHandle", "connect"]
