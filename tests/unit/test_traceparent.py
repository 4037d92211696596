"""What a traceparent names, whoever wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol import traceparent
from agentflow.protocol.traceparent import Parent, parse

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_parent_is_read_and_written_alike() -> None:
    parent = parse(GOOD)
    assert parent == Parent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1)
    assert parent.text == GOOD


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        GOOD.upper(),
        GOOD[:-1],
        f"{GOOD}-more",
        GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        GOOD.replace("b7ad6b7169203331", "0" * 16),
        "ff" + GOOD[2:],
        GOOD + " " * 300,
    ],
)
def test_what_names_nothing_is_nothing(text: str | None) -> None:
    assert parse(text) is None


def test_a_later_version_may_append() -> None:
    assert parse("01" + GOOD[2:] + "-more") is not None


@given(st.text(max_size=80))
def test_no_text_is_too_strange(text: str) -> None:
    parent = parse(text)
    assert parent is None or parse(parent.text) == parent


def test_headers_are_found_in_any_case_and_kept_only_together() -> None:
    assert traceparent.of({"TraceParent": GOOD, "Tracestate": "a=b", "x": "y"}) == {
        "traceparent": GOOD,
        "tracestate": "a=b",
    }
    assert traceparent.of({"traceparent": "bad", "tracestate": "a=b"}) == {}
    assert traceparent.of({"traceparent": GOOD, "tracestate": "a" * 600}) == {"traceparent": GOOD}
