"""An exhaustive search over what can happen to one task, under the real rules.

The model is the world around `agentflow.rules`: the log with its fence, AGENTFLOW_TASKS, schedules,
the dead letter, workers, clients and the sweep. Every decision is taken by `claim.is_fresh`,
`claim.decide` and `claim.after_silence`, every write is judged by `lifecycle.may_follow`.

    world      a state of everything; what may still happen (`B`); what a violation breaks (`Kind`)
    rules      the real rules over the model's tuples
    checks     the rules as methods, for broken variants to override, and the properties
    steps      what workers, clients, the server and the sweep may do next
    search     breadth first, every world once
    scenarios  what is searched

What it covers, each by a budget of a scenario:
- Any message may be delivered at any time while another worker still has it (lease expiry,
  zombies). A process that never steps again is one that was killed or stopped, so there is no step
  for death.
- The same id submitted twice, both messages in one worker; schedules that fire twice.
- Park (record, schedule, ack), park and fail at the claim, hand-back, progress, cancel and its
  clean-up, manual retry, more than 100 deliveries, asking (yes; no and silence are one).
- Writes that are refused, stored without an answer, or lost and stored later (`late`).
- Reads that return an older end of the log; logs that expire, with messages young or old.
- Lost messages and schedules, and the sweep, one read at a time.
- A hostile submitter, who may store any message with the task's id, whatever it says that it
  follows. He may begin an empty log and continue a failed one; no other (`HIJACKED`).

After an unanswered write that is not in the log, what is sent again may differ (a kind was paused
meanwhile): that allows more than the protocol does, and the rules hold all the same.

The properties are those of `Kind`. From each world a recovery is run: every process dies, and all
that is stored is delivered, oldest first and newest first. The log must end, with its dead letter
where it failed, and without the sweep unless a message was lost.

Left out: a process stopped for seven days between reading a log and its next write. It may claim
with expected 0 after the log of a finished task has expired; the id is new then.

`python -m tests.support.model` searches what the tests search, with `--deep` the larger scenarios:
12.2 million worlds, seven minutes on one slow core with CPython 3.11, under 2 GB. All hold.
"""
