"""The Python client: submit tasks, wait for results, watch, steer.

client.py      what users call: a table of contents of the rest
session.py     the open connection, and where it works
asking.py      requests to the master
tasks/         one task and many
  tasks.py       submit, map, expect, watch
  options.py     what submit and map take by name
  submission.py  from a call's arguments to a stored task message
  waiting.py     results as they are pushed, for everybody who waits
  handle.py      one submitted task
  lookup.py      is there such a task?
  mapping.py     many tasks, a bounded number at once
  watching.py    events of one task or of all
  prompts.py     what a task was told to do
  steering.py    cancel and retry
  ids.py         new ids
operate/       queues, workers, and many tasks at once
  operate.py     its parts
  bulk.py        cancel many
  deadletters.py find, group, retry and drop dead letters
  pauses.py      pause and resume
  draining.py    drain of workers, of a queue or a kind
  why.py         why a task waits
  serving.py     does anybody serve a queue?
live/          all that a dashboard shows
  live.py        as it comes
  following.py   both streams as rows
  older.py       unfinished tasks that only a master knows
  history.py     the past, from the records themselves
  parts.py       background work that starts again when it fails

An import points only downwards: client, then operate and live, then tasks, asking, session.
"""

from agentflow.client.client import Client, connect
from agentflow.client.operate.deadletters import DeadFilter, DeadLetter
from agentflow.client.tasks.handle import TaskHandle
from agentflow.client.tasks.watching import Event
from agentflow.views.result import Result

__all__ = ["Client", "DeadFilter", "DeadLetter", "Event", "Result", "TaskHandle", "connect"]
