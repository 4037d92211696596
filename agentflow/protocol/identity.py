"""Who is who on the bus: how messages, actors and worker processes are named, and read back.

    message  `<stream sequence>-<stored time in ns>`, the `message` of a record
    actor    `<name>-<pid>-<random>`, one start of a worker or master
    process  `<name>.<number>`, the worker's name in one of several processes under a parent

The id of a task is in task.py. Other clients may have names of their own for all three: what is not
ours is read as nothing, and never an error.
"""

from __future__ import annotations

from agentflow.protocol.headers import number


def message_identity(sequence: int, stored_ns: int) -> str:
    """Identity of one stored task message; a stream made anew gives sequences again."""
    return f"{sequence}-{stored_ns}"


def parse_message(identity: str) -> tuple[int, int] | None:
    """Sequence and stored time in ns of a message; None for another client's notion of identity."""
    sequence, _, stored = identity.partition("-")
    at, ns = number(sequence), number(stored)
    return None if at is None or ns is None else (at, ns)


def identity_sequence(identity: str) -> int:
    """Where in AGENTFLOW_TASKS the message stands, 0 where its identity does not say."""
    parsed = parse_message(identity)
    return parsed[0] if parsed is not None else 0


def actor_identity(name: str, pid: int, random: str) -> str:
    """Identity of one start of an actor; `name` is fit for a token of a subject."""
    return f"{name}-{pid}-{random}"


def actor_name(actor: str) -> str:
    """What people call an actor of which there is no heartbeat: its identity without the random."""
    return actor.rpartition("-")[0] or actor


def process_name(name: str, place: int) -> str:
    """Name of a worker in the process at a place (from 1) under its parent."""
    return f"{name}.{place}"


def is_process_of(name: str, parent: str) -> bool:
    """Whether a worker of this name is one of the processes of `parent`."""
    stem, _, place = name.rpartition(".")
    return stem == parent and number(place) is not None
