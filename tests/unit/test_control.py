"""Control messages and heartbeats: both ways, and nothing that arrives can raise."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import control
from agentflow.protocol.control import Cancel, Control, Drain, Heartbeat, Held, Holds, RunningTask

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HEARTBEAT = Heartbeat(
    role="worker", actor="w-1", name="w", host="h", pid=1, version="0", started=NOW, time=NOW,
    interval_s=2.0,
)  # fmt: skip

WIRE = {
    b'{"type":"holds","message":"7-1"}': Holds("7-1"),
    b'{"type":"held","holds":true}': Held(True),
    b'{"type":"cancel","id":"t"}': Cancel("t"),
    b'{"type":"drain"}': Drain(),
}


@pytest.mark.parametrize(("data", "message"), WIRE.items(), ids=lambda value: type(value).__name__)
def test_each_message_is_opened_as_it_is_written(data: bytes, message: Control) -> None:
    assert control.encode(message) == data
    assert control.decode(data) == message


def test_unknown_fields_are_ignored() -> None:
    assert control.decode(b'{"type":"cancel","id":"t","why":"later"}') == Cancel("t")
    later = control.encode(HEARTBEAT).removesuffix(b"}") + b',"moon":"full"}'
    assert control.decode_heartbeat(later) == HEARTBEAT


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"{}", b"[]", b"null", b'{"type":"later"}', b'{"type":"holds"}',
        b'{"type":"holds","message":7}', b'{"type":"holds","message":"\xff"}', b'{"type":"held"',
        b'{"type":"cancel","id":"t","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda data: str(data[:24]),
)  # fmt: skip
def test_what_is_no_message_is_none(data: bytes) -> None:
    assert control.decode(data) is None
    assert control.decode_heartbeat(data) is None


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda end: b'{"type":"holds",' + end))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    """A mailbox that raised would be closed by a stranger's message."""
    control.decode(data)
    control.decode_heartbeat(data)


def test_a_heartbeat_survives_the_wire() -> None:
    full = msgspec.structs.replace(
        HEARTBEAT,
        queues=["a"],
        kinds=["claude"],
        slots=4,
        running=1,
        stopping=True,
        simulated=True,
        lease_s=15.0,
        tasks=[RunningTask("t", "claude", "a", 2, NOW, 17)],
        notes=["é"],
        pools={"p": {"in_flight": 1}},
    )
    assert control.decode_heartbeat(control.encode(full)) == full
    assert control.decode_heartbeat(control.encode(HEARTBEAT)) == HEARTBEAT


def test_a_heartbeat_that_is_not_utf8_is_none() -> None:
    data = control.encode(HEARTBEAT).replace(b'"h"', b'"\xff"')
    assert control.decode_heartbeat(data) is None
