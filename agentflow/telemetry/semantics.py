"""Which attribute of a span says what: one table, of one version of the conventions.

Names of `gen_ai.*`, `messaging.*` and `error.*` are those of the OpenTelemetry semantic conventions
in VERSION; what these lack is ours, below `agentflow.*`. A test holds the names against the
conventions' own package. Tokens and price stand on the attempt as its sum; `gen_ai.operation.name`
does not, so that whoever sums over requests (the SDK's spans have it) counts none twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from agentflow.protocol.record import Record, State
from agentflow.rules.records import Spent

VERSION: Final = "1.44.0"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{VERSION}"

Value = str | int | float | bool | tuple[str, ...]

SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.name"
MESSAGE: Final = "messaging.message.id"
OPERATION: Final = "messaging.operation.type"
TASK: Final = "agentflow.task.id"
ERROR_TYPE: Final = "error.type"

CLAIM: Final[Mapping[str, Callable[[Record], Value | None]]] = {
    TASK: lambda record: record.id,
    "agentflow.task.kind": lambda record: record.kind,
    "agentflow.task.queue": lambda record: record.queue,
    "agentflow.task.priority": lambda record: record.priority,
    "agentflow.task.attempt": lambda record: record.attempt,
    "agentflow.task.failures": lambda record: record.failures,
    "agentflow.actor": lambda record: record.actor,
    "gen_ai.request.model": lambda record: record.model,
}
"""Of an attempt, when it begins."""

END: Final[Mapping[str, Callable[[Record, Spent], Value | None]]] = {
    "agentflow.task.state": lambda record, spent: str(record.state),
    "agentflow.task.reason": lambda record, spent: record.reason,
    "agentflow.saved_usd": lambda record, spent: (
        spent.saved_micro / 1_000_000 if spent.saved_micro else None
    ),
    "agentflow.simulated": lambda record, spent: record.simulated or None,
    "agentflow.cost_usd": lambda record, spent: (
        spent.cost_micro / 1_000_000 if spent.cost_micro else None
    ),
    ERROR_TYPE: lambda record, spent: record.error.type if record.error else None,
    "gen_ai.response.model": lambda record, spent: spent.model,
    "gen_ai.response.finish_reasons": lambda record, spent: (
        (record.stop_reason,) if record.stop_reason else None
    ),
    # The convention counts cached tokens as input; the API does not.
    "gen_ai.usage.input_tokens": lambda record, spent: (
        spent.usage.input_tokens
        + spent.usage.cache_creation_input_tokens
        + spent.usage.cache_read_input_tokens
        or None
    ),
    "gen_ai.usage.output_tokens": lambda record, spent: spent.usage.output_tokens or None,
    "gen_ai.usage.cache_creation.input_tokens": lambda record, spent: (
        spent.usage.cache_creation_input_tokens or None
    ),
    "gen_ai.usage.cache_read.input_tokens": lambda record, spent: (
        spent.usage.cache_read_input_tokens or None
    ),
    "gen_ai.response.time_to_first_chunk": lambda record, spent: spent.first_token_s,
}
"""Of an attempt, when its record is written."""


def of_claim(record: Record) -> dict[str, Value]:
    """Attributes of an attempt that begins."""
    return _told({name: read(record) for name, read in CLAIM.items()})


def of_end(record: Record, spent: Spent) -> dict[str, Value]:
    """Attributes of an attempt that has ended."""
    return _told({name: read(record, spent) for name, read in END.items()})


def of_submission(task_id: str, queue: str) -> dict[str, Value]:
    """Attributes of a submission."""
    return {SYSTEM: "nats", OPERATION: "send", DESTINATION: queue, MESSAGE: task_id, TASK: task_id}


def went_wrong(record: Record) -> bool:
    """Whether an attempt that ended so is an error in a trace."""
    return record.state in (State.FAILED, State.RETRYING)


def _told(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}
