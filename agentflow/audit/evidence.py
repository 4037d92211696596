"""The evidence: what was read, from the streams and from beside them, for judgement.py to judge."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from agentflow.audit.trail import Trail
from agentflow.protocol.batches import Table


class Submission(msgspec.Struct, frozen=True):
    """A line of the ledger: a task that was submitted.

    `acknowledged` is false where it was sent and no PubAck came: then it may exist or not.
    `sequence` is the PubAck's; `state` what its submitter was told, of which the log must agree.
    """

    id: str
    sequence: int | None = None
    acknowledged: bool = True
    state: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """A task message in AGENTFLOW_TASKS, or one that is on its way there; `sourced` where it came
    out of AGENTFLOW_SCHEDULE."""

    id: str
    identity: str
    follows: int = 0
    sourced: bool = False


class Call(msgspec.Struct, frozen=True):
    """A request for a message, as the simulator logged it."""

    request_id: str
    status: int | None


class Calls(msgspec.Struct, frozen=True):
    """All of them; not `complete` where the log has forgotten some."""

    requests: list[Call]
    complete: bool = True


class Slots(msgspec.Struct, frozen=True):
    """What a worker's last heartbeat says."""

    actor: str
    running: int
    held: int


class ConsumerState(msgspec.Struct, frozen=True):
    """A consumer at this moment; not `ours` where no definition of ours has its name."""

    stream: str
    name: str
    ours: bool
    unacknowledged: int = 0


@dataclass(slots=True)
class Evidence:
    """All that was read.

    `queued` is by sequence, `schedules` holds (id, record's sequence), `letters` the ids of the
    dead letters, `created_ns` when AGENTFLOW_TASKS was made (a stream made anew gives its sequences
    again), `expires_ns` the instant before which records may have expired.
    """

    trails: dict[str, Trail] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Every message that a record names."""
    requests: set[str] = field(default_factory=set)
    """Every request id that a record names."""
    queued: dict[int, Waiting] = field(default_factory=dict)
    due: list[Waiting] = field(default_factory=list)
    schedules: set[tuple[str, int]] = field(default_factory=set)
    entries: set[tuple[str, int]] = field(default_factory=set)
    """(id, record's sequence) of what waits for a batch, or is in one."""
    tables: dict[str, Table] = field(default_factory=dict)
    """What is known of batches, by key."""
    letters: set[str] = field(default_factory=set)
    references: dict[str, str] = field(default_factory=dict)
    """Names of the payloads that waiting messages refer to, and the task of each."""
    bare: set[str] = field(default_factory=set)
    """Ids of those whose payload is not there."""
    first_record: int = 0
    last_sequence: int = 0
    created_ns: int = 0
    expires_ns: int = 0
    consumers: list[ConsumerState] = field(default_factory=list)
    ledger: list[Submission] | None = None
    complete: bool = False
    """Whether the ledger has every submission there was."""
    slots: list[Slots] | None = None
    calls: Calls | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    """Messages that a worker says it dropped, and the id of each."""
    withdrawn: set[int] = field(default_factory=set)
    """Sequences of messages that jobs took back before anybody had begun them."""
    moved_on: set[str] = field(default_factory=set)
    """Ids whose log has another last record by now: what was read of them is not their end."""
