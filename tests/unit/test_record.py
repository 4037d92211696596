"""Records: what is written can be read, and what cannot be read is never taken for an ending."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import record
from agentflow.protocol.record import EMPTY, Failure, Last, Record, Repair, State, Timings, Usage

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)


def make(**fields: Any) -> Record:
    return Record(
        **{
            "v": record.VERSION, "id": "t", "state": State.RUNNING, "attempt": 1, "failures": 0,
            "actor": "w", "follows": 0, "message": "1-1", "time": NOW, "queue": "q",
            "priority": "normal", "kind": "echo", "labels": {}, "usage": Usage(),
            "cost_usd": None, "timings": Timings(), **fields,
        }
    )  # fmt: skip


def test_every_field_survives_the_wire() -> None:
    whole = make(
        labels={"é": "😀"},
        usage=Usage(1, 2, 3, 4),
        cost_usd=0.000_001,
        timings=Timings(NOW, NOW, NOW, 1.5, 0.25),
        model="m",
        resume_at=NOW,
        reason="r",
        error=Failure("t", "m", 529, "c", "req"),
        request_id="req",
        progress=0.5,
        note="n",
        text="Grüße 😀",
        truncated=True,
        content=[{"type": "text"}],
        stop_reason="end_turn",
        value={"a": [1, None]},
        simulated=True,
        title="a title",
        lane="tenant",
        by="ana@here",
        dropped=True,
        usage_told={"service_tier": "batch"},
        unpriced="no price for fast mode",
        estimated=True,
        partial=True,
        assumed=["usage"],
        saved_usd=0.5,
        pool="pool",
        asked={"kind": "claude", "max_tokens": 5},
        repair=Repair(2, Usage(1, 2), 0.5),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        carry=msgspec.Raw(b'{"a":1}'),
    )
    assert record.decode(record.encode(whole)) == whole
    assert {field.name for field in msgspec.structs.fields(Record)} == set(
        msgspec.json.decode(record.encode(whole))
    )


def test_the_fields_without_a_default_are_in_every_record() -> None:
    assert set(msgspec.json.decode(record.encode(make()))) == {
        "v", "id", "state", "attempt", "failures", "actor", "follows", "message", "time", "queue",
        "priority", "kind", "labels", "usage", "cost_usd", "timings",
    }  # fmt: skip


@pytest.mark.parametrize(
    "carry",
    [b'{"b": 2,\n "a":1.0, "a":1e2}', b'{ "journal" : "p-17" }', b'{"\\u00e9":"\xc3\xa9"}', b"{}"],
)
def test_carry_is_copied_byte_for_byte(carry: bytes) -> None:
    """A later version's pointer must not be re-spelled by this one."""
    stored = record.encode(make()).removesuffix(b"}") + b',"carry":' + carry + b"}"

    found = record.decode(stored)
    again = record.encode(make(carry=found.carry))

    assert found.readable
    assert again.endswith(b',"carry":' + carry + b"}")
    assert bytes(record.decode(again).carry) == carry  # type: ignore[arg-type]


def test_a_record_without_carry_has_none() -> None:
    found = record.decode(record.encode(make()))
    assert b"carry" not in record.encode(make(carry=found.carry))


def test_unknown_fields_are_ignored() -> None:
    stored = record.encode(make()).removesuffix(b"}") + b',"later":{"a":[1]},"usage_2":3}'
    assert record.decode(stored) == make()


def test_unknown_fields_inside_are_ignored() -> None:
    fields = msgspec.json.decode(record.encode(make()))
    fields["usage"]["thinking_tokens"] = 7
    fields["timings"]["queued_s"] = 1
    assert record.decode(msgspec.json.encode(fields)) == make()


UNREADABLE = {
    "a later version": record.encode(make(v=2)),
    "a later version, ended": record.encode(make(v=2, state=State.SUCCEEDED)),
    "a reserved state": record.encode(make(state="sleeping")),
    "a field of another type": record.encode(make()).replace(b'"attempt":1', b'"attempt":"1"'),
    "a field is missing": b'{"v":1,"state":"succeeded"}',
    "another version's form": b'{"v":3,"state":"succeeded","attempt":{"n":1}}',
    "v is a text": b'{"v":"1","state":"succeeded"}',
    "state is null": b'{"v":1,"state":null}',
    "no JSON": b"hello",
    "nothing": b"",
    "a list": b"[]",
    "truncated": record.encode(make())[:-1],
    "not UTF-8": record.encode(make(text="caf_")).replace(b"caf_", b"caf\xe9"),
    "not UTF-8 in its state": b'{"v":1,"state":"\xff"}',
    "deep": b'{"v":1,"state":"succeeded","value":' + b"[" * 100_000,
    "deep and closed": b'{"v":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge v": b'{"v":' + b"9" * 30 + b',"state":"running"}',
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_neither_readable_nor_terminal(data: bytes) -> None:
    found = record.decode(data, "agentflow.results.t")

    assert not found.readable
    assert not found.terminal
    assert found.id == "t"


def test_of_an_unreadable_record_version_and_state_are_shown() -> None:
    found = record.decode(b'{"v":7,"state":"waiting","more":1}', "agentflow.progress.p.17")
    assert (found.v, found.state, found.id) == (7, "waiting", "p.17")


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda tail: b'{"v":1,' + tail))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    """Anyone may publish to a record's subject; a reader that raised would be ended by it."""
    assert not record.decode(data, "agentflow.progress.t").readable


@pytest.mark.parametrize("state", State)
def test_a_record_of_mine_is_readable(state: State) -> None:
    assert make(state=state).readable


@pytest.mark.parametrize("state", State)
def test_the_subject_says_whether_it_has_ended(state: State) -> None:
    ended = state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    made = make(state=state)
    assert made.terminal == ended
    assert made.subject == ("agentflow.results.t" if ended else "agentflow.progress.t")


def test_an_empty_log_has_no_state() -> None:
    assert (EMPTY.sequence, EMPTY.record, EMPTY.state) == (0, None, None)
    assert Last(3, make()).state == "running"


tokens = st.integers(0, 10**9)
usages = st.builds(Usage, tokens, tokens, tokens, tokens)


@given(usages, usages)
def test_usage_adds_up_field_by_field(one: Usage, other: Usage) -> None:
    both = one + other
    assert both == other + one
    assert both.total == one.total + other.total
    for name in Usage.__struct_fields__:
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
