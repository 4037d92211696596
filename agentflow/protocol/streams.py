"""The streams, the bucket and the consumers: what each must look like, as data.

Whoever may, creates what is missing from these definitions; whoever may not says so. What the
server has is compared with them field by field (`differences`); a limit an administrator raised
is no difference. Durations are nanoseconds, as the JetStream API has them.

Reasons that are easy to forget:
- AGENTFLOW_TASKS lists each priority, so that a mistyped one is refused at the door, and so are
  lanes: those that somebody has listed are subjects of it beside its own; it has no
  max_msg_size, because one oversized sourced message would block all due tasks.
- AGENTFLOW_RECORDS never has max_msgs or max_bytes: evicting the log of a waiting task loses it.
- AGENTFLOW_SCHEDULE is its own stream, because schedules cannot be combined with discard new.
- AGENTFLOW_BATCH has no limits at all: what it would evict waits for its batch, or is in one.
- AGENTFLOW_COUNTERS adds (`allow_msg_counter`), which the server allows only from the beginning and
  not with discard new; its window is that in which an addition without an answer is sent again.
- The server has no way to switch the duplicate window off; 100 ms is the least it takes. The log,
  not the window, is what makes a second submission of an id harmless.
- The bucket of payloads has no max_age: what a task waits with would be gone before the task; the
  master removes what is done with.
- Only the consumers of lanes are removed by the server when nobody pulls: workers make them anew
  where something waits.
- Consumers have no backoff (it would override ack_wait) and no max_deliver (hand-backs and
  outages are deliveries too).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agentflow.errors import InvalidTask
from agentflow.protocol import limits, subjects
from agentflow.protocol.subjects import Priority

Json = dict[str, Any]

_S: Final = 1_000_000_000
_WINDOW: Final = _S // 10

RAISABLE: Final = frozenset({"max_msgs", "max_bytes", "max_age", "num_replicas", "max_ack_pending"})
"""Settings an administrator may set as the machine allows; only a lowered max_age counts."""

_LIMITS: Final = ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")
FORBIDDEN: Final[dict[str, tuple[str, ...]]] = {
    subjects.TASKS: ("max_age", "max_msgs_per_subject", "max_msg_size"),
    subjects.RECORDS: ("max_msgs", "max_bytes", "max_msg_size"),
    subjects.SCHEDULE: _LIMITS,
    subjects.DEAD: ("max_msg_size",),
    subjects.BATCH: _LIMITS,
    subjects.COUNTERS: ("max_msg_size",),
    subjects.KV_STREAM: ("max_age", "max_msg_size"),
    subjects.OBJECTS: ("max_age", "max_msgs_per_subject"),
}
"""Limits by stream that would lose a task, a record or a schedule, or refuse one."""


def streams(*, retention: float = limits.RETENTION, replicas: int = 1) -> list[Json]:
    """Definitions of all streams, sources first, for records kept `retention` seconds."""
    common = {"storage": "file", "num_replicas": replicas, "allow_direct": True}
    return [
        {
            "name": subjects.SCHEDULE,
            "subjects": ["agentflow.schedule.>", "agentflow.due.>"],
            "retention": "workqueue",
            "discard": "old",
            "allow_msg_schedules": True,
            "duplicate_window": _WINDOW,
            **common,
        },
        {
            "name": subjects.TASKS,
            "subjects": [
                "agentflow.tasks.*",
                *(f"agentflow.tasks.*.{priority}" for priority in Priority),
            ],
            "retention": "workqueue",
            "discard": "new",
            "max_msgs": limits.TASKS_MAX_MSGS,
            "duplicate_window": _WINDOW,
            "republish": {
                "src": "agentflow.tasks.>",
                "dest": "agentflow.live.tasks.>",
                "headers_only": True,
            },
            "sources": [
                {
                    "name": subjects.SCHEDULE,
                    "subject_transforms": [{"src": "agentflow.due.>", "dest": "agentflow.tasks.>"}],
                }
            ],
            **common,
        },
        {
            "name": subjects.RECORDS,
            "subjects": ["agentflow.progress.>", "agentflow.results.>"],
            "retention": "limits",
            "discard": "old",
            "max_age": int(retention * _S),
            "max_msgs_per_subject": limits.RECORDS_PER_LOG,
            "duplicate_window": _WINDOW,
            "republish": {"src": "agentflow.>", "dest": "agentflow.live.>"},
            **common,
        },
        {
            "name": subjects.DEAD,
            "subjects": ["agentflow.dead.>"],
            "retention": "limits",
            "discard": "old",
            "max_age": limits.DEAD_RETENTION * _S,
            "max_msgs_per_subject": 1,
            "duplicate_window": _WINDOW,
            **common,
        },
        {
            "name": subjects.BATCH,
            "subjects": ["agentflow.batch.>"],
            "retention": "limits",
            "discard": "old",
            "duplicate_window": _WINDOW,
            **common,
        },
        {
            "name": subjects.COUNTERS,
            "subjects": ["agentflow.counters.>"],
            "retention": "limits",
            "discard": "old",
            "max_msgs_per_subject": 1,
            "allow_msg_counter": True,
            "duplicate_window": limits.ADD_AGAIN * _S,
            **common,
        },
        {
            "name": subjects.KV_STREAM,
            "subjects": [subjects.kv(">")],
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "allow_msg_ttl": True,
            # Whoever may write one key could empty the bucket by a header; nothing needs it.
            "allow_rollup_hdrs": False,
            "deny_delete": True,
            "duplicate_window": _WINDOW,
            "republish": {"src": subjects.kv(">"), "dest": "agentflow.live.state.>"},
            **common,
        },
        {
            "name": subjects.OBJECTS,
            "subjects": [f"{subjects.OBJECT_CHUNKS}.>", f"{subjects.OBJECT_INFOS}.>"],
            "retention": "limits",
            "discard": "new",
            "max_msgs": limits.CHUNKS,
            "allow_rollup_hdrs": True,
            "duplicate_window": _WINDOW,
            **common,
        },
    ]


def cache(*, max_bytes: int = limits.CACHE_BYTES, replicas: int = 1) -> Json:
    """Definition of the cache of answers, which is there only where somebody keeps answers."""
    return {
        "name": subjects.CACHE_STREAM,
        "subjects": [subjects.cached(">")],
        "retention": "limits",
        "discard": "old",
        "max_bytes": max_bytes,
        "max_msgs_per_subject": 1,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "duplicate_window": _WINDOW,
        "storage": "file",
        "num_replicas": replicas,
        "allow_direct": True,
    }


def consumer(
    queue: str, priority: Priority, lane: str = "", *, lease: float = limits.LEASE, cap: int = 0
) -> Json:
    """Definition of the consumer that feeds a queue's workers at one priority, or of a lane there.

    `cap`: how many of its tasks workers may have in their hands; 0 is no cap of its own.
    """
    filters = subjects.consumer_filters(queue, priority, lane)
    name = subjects.consumer(queue, priority, lane)
    return {
        "name": name,
        "durable_name": name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_wait": int(lease * _S),
        "max_deliver": -1,
        "max_ack_pending": cap or limits.MAX_ACK_PENDING,
        "max_waiting": limits.MAX_WAITING,
        "num_replicas": 0,
        # The workers leave an empty lane after the first half.
        **({"inactive_threshold": int(limits.LANE_IDLE / 2 * _S)} if lane else {}),
        **({"filter_subjects": filters} if len(filters) > 1 else {"filter_subject": filters[0]}),
    }


def consumers(queue: str, *, lease: float = limits.LEASE) -> list[Json]:
    """Definitions of a queue's three consumers, highest priority first."""
    return [consumer(queue, priority, lease=lease) for priority in Priority]


def own_consumer(config: Json) -> Json | None:
    """What a consumer of AGENTFLOW_TASKS should be, with its own lease; None: not one of ours."""
    filters = config.get("filter_subjects") or [config.get("filter_subject", "")]
    try:
        queue, priority = subjects.parse_task(filters[0])
    except InvalidTask:
        return None
    lane = subjects.lane_of(filters[0])
    if config.get("durable_name") != subjects.consumer(queue, priority, lane):
        return None
    return consumer(queue, priority, lane, lease=config.get("ack_wait", 0) / 1e9)


class Field(msgspec.Struct, frozen=True):
    """One setting: as defined, as the server has it, and what to think of that.

    `drift` is a difference to be put right; where there is none, `verdict` says why.
    """

    name: str
    defined: Any
    server: Any
    verdict: str
    drift: bool = False


AS_DEFINED: Final = "as defined"


def compare(wanted: Json, present: Json) -> list[Field]:
    """Every setting that a definition or one of its rules has a word on."""
    fields = []
    for name, value in wanted.items():
        other = present.get(name)
        if name in RAISABLE:
            fields.append(_limit(name, value, other, lowered=_is_lowered(wanted, present)))
            continue
        shown = value
        if isinstance(value, dict) and isinstance(other, dict):
            other = {key: other.get(key) for key in value}
        if name == "sources":
            shown, other = _sources(value), _sources(other)
        elif name in ("subjects", "filter_subjects"):
            shown, other = sorted(value), sorted(set(other or []) - set(_lanes(other)))
        drift = bool(shown != other and (shown or other))
        verdict = f"{name} is {other!r}, should be {shown!r}" if drift else AS_DEFINED
        fields.append(Field(name, shown, other, verdict, drift))
    for name in FORBIDDEN.get(wanted["name"], ()):
        other = present.get(name, -1)
        drift = other > 0
        verdict = f"{name} is {other}, should not be set" if drift else AS_DEFINED
        fields.append(Field(name, None, other if drift else None, verdict, drift))
    if "ack_policy" in wanted:
        for name, text in _NOT_OF_A_CONSUMER.items():
            if name in wanted:
                continue
            other = present.get(name) or None
            fields.append(Field(name, None, other, text if other else AS_DEFINED, bool(other)))
    return fields


_NOT_OF_A_CONSUMER: Final = {
    "backoff": "backoff is set and overrides ack_wait",
    "inactive_threshold": "inactive_threshold is set and lets the server delete the consumer",
}


def _limit(name: str, value: Any, other: Any, *, lowered: bool) -> Field:
    """A setting that an administrator may raise; only a lowered max_age is a difference."""
    if name == "max_age" and lowered:
        text = f"max_age is {other}, should be at least {value}"
        return Field(name, value, other, text, drift=True)
    # A definition says 0 or nothing where the server says "as the stream" or "no limit".
    same = value == other or not (value or other)
    return Field(name, value, other, AS_DEFINED if same else "set by an administrator")


def differences(wanted: Json, present: Json) -> list[str]:
    """What of `wanted` the server's definition does not have, as sentences."""
    return [field.verdict for field in compare(wanted, present) if field.drift]


def corrected(wanted: Json, present: Json) -> Json:
    """`present` with every difference put right; what an administrator raised is kept."""
    kept = {name: present[name] for name in RAISABLE if name in present}
    if "num_replicas" in wanted:
        kept["num_replicas"] = wanted["num_replicas"]
    if "subjects" in wanted:
        kept["subjects"] = [*wanted["subjects"], *_lanes(present.get("subjects"))]
    for name in FORBIDDEN.get(wanted["name"], ()):
        kept[name] = 0 if name == "max_age" else -1
    if _is_lowered(wanted, present):
        kept["max_age"] = wanted["max_age"]
    return {**present, **wanted, **kept}


def _lanes(subjects_of: list[str] | None) -> list[str]:
    """Those of a stream's subjects that are a lane's: somebody has listed it."""
    return [subject for subject in subjects_of or () if _is_lane(subject)]


def _is_lane(subject: str) -> bool:
    try:
        subjects.parse_task(subject)
    except InvalidTask:
        return False
    return bool(subjects.lane_of(subject))


def _is_lowered(wanted: Json, present: Json) -> bool:
    """Whether messages go earlier than they may; 0 is for ever."""
    return bool(0 < present.get("max_age", 0) < wanted.get("max_age", 0))


def _sources(value: list[Json] | None) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [
        (
            source["name"],
            tuple((move["src"], move["dest"]) for move in source.get("subject_transforms", [])),
        )
        for source in value or []
    ]
