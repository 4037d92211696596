"""Header blocks: written and read without loss, and nothing is forged or applied twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import headers, subjects

names = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).map(str.strip)


def test_a_block_is_a_version_line_and_a_line_a_header() -> None:
    assert headers.encode({"A": "1", "B-c": "x: y"}) == b"NATS/1.0\r\nA: 1\r\nB-c: x: y\r\n\r\n"
    assert headers.encode({}) == b"NATS/1.0\r\n\r\n"


@given(st.dictionaries(names, values, max_size=6))
def test_what_is_written_is_read(written: dict[str, str]) -> None:
    assert headers.decode(headers.encode(written)) == written


@given(st.dictionaries(names, st.text(), max_size=4))
def test_no_value_forges_a_header(written: dict[str, str]) -> None:
    block = headers.encode(written)
    assert block.count(b"\r\n") == len(written) + 2
    assert block.count(b"\n") == block.count(b"\r") == len(written) + 2
    assert set(headers.decode(block)) == set(written)


def test_a_line_break_becomes_a_space() -> None:
    block = headers.encode({"A": "b\r\nNats-Rollup: all\nC: d\re"})
    assert block == b"NATS/1.0\r\nA: b  Nats-Rollup: all C: d e\r\n\r\n"


def test_half_a_surrogate_pair_is_marked() -> None:
    assert headers.decode(headers.encode({"A": "b\ud800c"})) == {"A": "b?c"}


@given(st.binary(max_size=200))
def test_any_block_can_be_read(block: bytes) -> None:
    assert all(isinstance(value, str) for value in headers.decode(block).values())
    code, text = headers.status(block)
    assert code >= 0
    assert isinstance(text, str)
    assert headers.carried(block, {}).startswith(b"NATS/1.0\r\n")


def test_reading_takes_the_first_of_a_name_and_keeps_its_case() -> None:
    block = b"NATS/1.0\r\nA:1\r\nA: 2\r\na:  3 \r\nbroken\r\nB: x:y\r\nC:\r\nD: \xff\r\n\r\n"
    assert headers.decode(block) == {"A": "1", "a": "3", "B": "x:y", "C": "", "D": "\ufffd"}
    assert headers.decode(b"") == {}


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"NATS/1.0 503\r\n\r\n", (503, "")),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", (100, "Idle Heartbeat")),
        (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", (409, "Consumer Deleted")),
        (b"NATS/1.0\r\nA: 404 not a status\r\n\r\n", (0, "")),
        (b"NATS/1.0 soon\r\n\r\n", (0, "")),
        ("NATS/1.0 ²\r\n\r\n".encode(), (0, "")),
        (b"", (0, "")),
    ],
)  # fmt: skip
def test_status(block: bytes, status: tuple[int, str]) -> None:
    assert headers.status(block) == status


ORIGINAL = headers.encode(
    {
        "Nats-Msg-Id": "my1",
        "Nats-Expected-Last-Sequence": "7",
        "nats-rollup": "all",
        "NATS-TTL": "1s",
        "Agentflow-Id": "t",
        "Agentflow-Follows": "3",
        "Agentflow-Later": "kept",
        "Agentflow-Reply": "_INBOX.a",
        "Content-Type": "text/plain",
        "Traceparent": "00-ab",
        "Natsy": "kept",
    }
)


def test_what_is_carried_on_drops_the_servers_headers_and_keeps_all_others() -> None:
    block = headers.carried(
        ORIGINAL, {"Nats-Schedule": "@at x", "Agentflow-Id": "t", "agentflow-follows": "9"}
    )

    assert headers.decode(block) == {
        "Nats-Schedule": "@at x",
        "Agentflow-Id": "t",
        "agentflow-follows": "9",
        "Agentflow-Later": "kept",
        "Agentflow-Reply": "_INBOX.a",
        "Content-Type": "text/plain",
        "Traceparent": "00-ab",
        "Natsy": "kept",
    }
    assert block.count(b"\r\n\r\n") == 1
    assert block.endswith(b"\r\n\r\n")


def test_a_message_without_headers_carries_the_new_ones() -> None:
    assert headers.carried(b"", {"A": "1"}) == b"NATS/1.0\r\nA: 1\r\n\r\n"


def test_a_status_is_not_carried_on() -> None:
    assert headers.carried(b"NATS/1.0 503 No\r\nA: 1\r\n\r\n", {}) == b"NATS/1.0\r\nA: 1\r\n\r\n"


def test_bytes_that_are_not_utf8_and_repeated_names_are_carried_as_they_are() -> None:
    block = b"NATS/1.0\r\nX: \xff\xfe\r\nX: again\r\n\r\n"
    assert headers.carried(block, {}) == block


@given(st.dictionaries(names, values, max_size=6), st.dictionaries(names, values, max_size=3))
def test_carrying_on_twice_changes_nothing_more(old: dict[str, str], new: dict[str, str]) -> None:
    once = headers.carried(headers.encode(old), new)
    twice = headers.carried(once, new)
    assert headers.decode(once) == headers.decode(twice)
    for name in headers.decode(once):
        assert name in new or not name.lower().startswith("nats-")


def test_the_fence_is_exactly_this() -> None:
    assert headers.fence("p.17", 42) == (
        b"NATS/1.0\r\n"
        b"Nats-Expected-Last-Subject-Sequence: 42\r\n"
        b"Nats-Expected-Last-Subject-Sequence-Subject: agentflow.*.p.17\r\n"
        b"\r\n"
    )


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 2**64 - 1))
def test_the_fence_is_a_block(task_id: str, sequence: int) -> None:
    assert headers.decode(headers.fence(task_id, sequence)) == {
        "Nats-Expected-Last-Subject-Sequence": str(sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.log(task_id),
    }


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("007", 7), (b"42", 42), ("9" * 19, 10**19 - 1)]
)
def test_a_number_in_a_header(text: str | bytes, number: int) -> None:
    assert headers.number(text) == number


@pytest.mark.parametrize(
    "text", [None, "", b"", "-1", "+1", " 1", "1_0", "1.0", "0x1", "9" * 20, "\N{SUPERSCRIPT TWO}"]
)
def test_what_is_no_number_in_a_header(text: str | bytes | None) -> None:
    assert headers.number(text) is None


OURS = (
    b"NATS/1.0\r\nAgentflow-Id: q\r\nNats-Stream-Source: S 1 a.due.> a.tasks.> a.due.q Lx\r\n\r\n"
)


def test_what_the_server_sourced_is_known_by_its_own_header() -> None:
    assert headers.sourced(OURS, "S")
    assert not headers.sourced(OURS, "T")
    assert not headers.sourced(b"", "S")


FORGED = {
    "no value": b"Nats-Stream-Source:",
    "the second of two": b"Nats-Stream-Source:\r\nNats-Stream-Source: S 1",
    "a blank behind the name": b"Nats-Stream-Source : S 1",
    "a blank before it": b" Nats-Stream-Source: S 1",
    "a tab before it": b"\tNats-Stream-Source: S 1",
    "other letters": b"nats-stream-source: S 1",
    "a lone line feed": b"X: y\nNats-Stream-Source: S 1",
    "a lone return": b"X: y\rNats-Stream-Source: S 1",
    "in a value": b"X: Nats-Stream-Source: S 1",
    "a stream whose name begins so": b"Nats-Stream-Source: S2 1",
}
"""What the server takes from clients (but the last, which it refuses): test_bus_traps tries it."""


@pytest.mark.parametrize("lines", FORGED.values(), ids=FORGED.keys())
def test_no_other_spelling_counts(lines: bytes) -> None:
    assert not headers.sourced(b"NATS/1.0\r\n" + lines + b"\r\n\r\n", "S")
