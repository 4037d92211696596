"""Names on the bus: subjects, streams, consumers and headers, and how to take them apart.

The task subject's form decides queue, priority and lane; everything after the second token of a
record's subject is the task's id (ids of several tokens are reserved for children of a task).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from agentflow.errors import InvalidTask, UsageError
from agentflow.protocol import limits

TASKS: Final = "AGENTFLOW_TASKS"
RECORDS: Final = "AGENTFLOW_RECORDS"
SCHEDULE: Final = "AGENTFLOW_SCHEDULE"
DEAD: Final = "AGENTFLOW_DEAD"
BATCH: Final = "AGENTFLOW_BATCH"
COUNTERS: Final = "AGENTFLOW_COUNTERS"
BUCKET: Final = "agentflow"
KV_STREAM: Final = f"KV_{BUCKET}"
CACHE: Final = "agentflow_cache"
CACHE_STREAM: Final = f"KV_{CACHE}"
OBJECTS: Final = f"OBJ_{BUCKET}"
OBJECT_CHUNKS: Final = f"$O.{BUCKET}.C"
OBJECT_INFOS: Final = f"$O.{BUCKET}.M"

LIVE: Final = "agentflow.live.>"
LIVE_RECORDS: Final = ("agentflow.live.progress.>", "agentflow.live.results.>")
LIVE_RESULTS: Final = "agentflow.live.results.>"
LIVE_TASKS: Final = "agentflow.live.tasks.>"
LIVE_STATE: Final = "agentflow.live.state.>"
PRESENCE: Final = "agentflow.presence.>"
TOKENS: Final = "agentflow.tokens.>"

ID: Final = "Agentflow-Id"
KIND: Final = "Agentflow-Kind"
MODEL: Final = "Agentflow-Model"
LABELS: Final = "Agentflow-Labels"
TITLE: Final = "Agentflow-Title"
FOLLOWS: Final = "Agentflow-Follows"
REPLY: Final = "Agentflow-Reply"
NEEDS: Final = "Agentflow-Needs"
REASON: Final = "Agentflow-Reason"
ERROR: Final = "Agentflow-Error"
SEQUENCE: Final = "Agentflow-Sequence"
ATTEMPT: Final = "Agentflow-Attempt"
TRUNCATED: Final = "Agentflow-Truncated"
ACTOR: Final = "Agentflow-Actor"
OFFSET: Final = "Agentflow-Offset"
PRIORITY: Final = "Agentflow-Priority"
LANE: Final = "Agentflow-Lane"
CONTENT_TYPE: Final = "Content-Type"
MSG_ID: Final = "Nats-Msg-Id"


class Priority(StrEnum):
    """The three priorities of a queue, highest first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


SUBJECT_ID: Final = 256
"""Characters of the longest id of a log."""
_ID = re.compile(limits.ID_PATTERN)
_QUEUE = re.compile(limits.QUEUE_PATTERN)
_LANE = re.compile(limits.LANE_PATTERN)
DEFAULT_LANE: Final = "default"
"""What the lane is called that a task without one is in; no subject has this token."""


def is_id(text: str) -> bool:
    """Whether `text` may be a task's id."""
    return _ID.fullmatch(text) is not None


def may_have_log(text: str) -> bool:
    """Whether `text` may be the id of a log: a task's id, or several with dots between."""
    return len(text) <= SUBJECT_ID and all(map(is_id, text.split(".")))


def check_id(text: str) -> str:
    """Return `text`; raise InvalidTask where it cannot be a task's id."""
    if not isinstance(text, str) or not is_id(text):
        raise InvalidTask(
            f"id {text!r:.80} is not allowed: 1 to 64 of A-Z a-z 0-9 _ -", reason="bad_id"
        )
    return text


def check_queue(text: str) -> str:
    """Return `text`; raise UsageError where it cannot be a queue's name."""
    if not isinstance(text, str) or _QUEUE.fullmatch(text) is None:
        raise UsageError(f"queue {text!r:.80} is not allowed: 1 to 24 of a-z 0-9 -")
    return text


def is_lane(text: str) -> bool:
    """Whether `text` may be a lane's token in a subject."""
    return _LANE.fullmatch(text) is not None and text != DEFAULT_LANE


def check_lane(text: str) -> str:
    """Return `text`, "" for the default lane; raise UsageError where it cannot be a lane's name."""
    if text in ("", DEFAULT_LANE):
        return ""
    if not isinstance(text, str) or not is_lane(text):
        raise UsageError(f"lane {text!r:.80} is not allowed: 1 to 32 of A-Z a-z 0-9 _ -")
    return text


def task(queue: str, priority: str = Priority.NORMAL, lane: str = "") -> str:
    """Subject that takes a task; the bare form means normal, without a lane the default one."""
    bare = f"agentflow.tasks.{queue}"
    if lane:
        return f"{bare}.{priority}.{lane}"
    return bare if priority == Priority.NORMAL else f"{bare}.{priority}"


def lane_subjects(queue: str, lane: str) -> list[str]:
    """What AGENTFLOW_TASKS must hold for a lane: each priority, or a mistyped one would be one."""
    return [task(queue, priority, lane) for priority in Priority]


def lane_of(subject: str) -> str:
    """The lane of a task's or a due one's subject, "" for the default one."""
    tokens = subject.split(".")
    return tokens[4] if len(tokens) > 4 else ""


def parse_task(subject: str) -> tuple[str, Priority]:
    """Queue and priority of a task subject; its lane is `lane_of`.

    Raises InvalidTask for anything else; the stream's own subjects let only these through.
    """
    tokens = subject.split(".")
    lane = tokens[4] if len(tokens) == 5 else "-"
    if tokens[:2] != ["agentflow", "tasks"] or not 3 <= len(tokens) <= 5 or not is_lane(lane):
        raise InvalidTask(f"{subject!r} is not a task subject", reason="bad_subject")
    if len(tokens) == 3:
        return tokens[2], Priority.NORMAL
    try:
        return tokens[2], Priority(tokens[3])
    except ValueError:
        raise InvalidTask(f"{subject!r} names no known priority", reason="bad_subject") from None


def progress(task_id: str) -> str:
    """Subject of the records of a task that has not ended."""
    return f"agentflow.progress.{task_id}"


def result(task_id: str) -> str:
    """Subject of the record with which a task ends."""
    return f"agentflow.results.{task_id}"


def log(task_id: str) -> str:
    """Filter that covers a task's whole log; the fence names exactly this string."""
    return f"agentflow.*.{task_id}"


def record_id(subject: str) -> str:
    """Task id in a record's subject, live copies included."""
    tokens = subject.split(".", 3)
    if tokens[1] == "live":
        return tokens[3]
    return subject.split(".", 2)[2]


def schedule(task_id: str, sequence: int) -> str:
    """Subject of one schedule; the sequence keeps a late writer from replacing a newer one."""
    return f"agentflow.schedule.{task_id}.{sequence}"


def parse_schedule(subject: str) -> tuple[str, int]:
    """Task id and sequence of a schedule's subject; 0 where another client wrote no number."""
    task_id, _, sequence = subject.split(".", 2)[2].rpartition(".")
    return task_id, int(sequence) if sequence.isascii() and sequence.isdigit() else 0


def due(queue: str, priority: str, lane: str = "") -> str:
    """Subject to which a schedule fires; AGENTFLOW_TASKS sources it as a task."""
    return f"agentflow.due.{queue}.{priority}" + (f".{lane}" if lane else "")


def dead(queue: str, task_id: str) -> str:
    """Subject of a task's dead letter."""
    return f"agentflow.dead.{queue}.{task_id}"


def parse_dead(subject: str) -> tuple[str, str]:
    """Queue and task id of a dead letter's subject."""
    _, _, queue, task_id = subject.split(".", 3)
    return queue, task_id


def queue_of(subject: str) -> str:
    """The queue that a stored task, a due one or a dead letter is of."""
    return subject.split(".", 3)[2]


def tokens(task_id: str) -> str:
    """Subject of the text as it is generated; not stored."""
    return f"agentflow.tokens.{task_id}"


def control(role: str, actor: str = "") -> str:
    """Mailbox of one actor, or of all of a role."""
    return f"agentflow.control.{role}.{actor}" if actor else f"agentflow.control.{role}"


def presence(role: str, actor: str) -> str:
    """Subject of an actor's heartbeats."""
    return f"agentflow.presence.{role}.{actor}"


def api(verb: str) -> str:
    """Subject of a request to the master."""
    return f"agentflow.api.{verb}"


def consumer(queue: str, priority: str, lane: str = "") -> str:
    """Durable consumer that feeds the workers of a queue and priority, or of a lane in it.

    No queue has an underscore: what stands behind the first one is the lane.
    """
    return f"{queue}-{priority}_{lane}" if lane else f"{queue}-{priority}"


def consumer_filters(queue: str, priority: str, lane: str = "") -> list[str]:
    """What that consumer takes; the normal one also takes the bare subject."""
    if lane:
        return [task(queue, priority, lane)]
    named = f"agentflow.tasks.{queue}.{priority}"
    return [f"agentflow.tasks.{queue}", named] if priority == Priority.NORMAL else [named]


def cached(key: str) -> str:
    """Subject of a key in the cache of answers."""
    return f"$KV.{CACHE}.{key}"


def kv(key: str) -> str:
    """Subject of a key of the bucket."""
    return f"$KV.{BUCKET}.{key}"
