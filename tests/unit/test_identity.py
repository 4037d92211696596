"""Identities: what is written is read, and what others name otherwise is read as nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.protocol.identity import (
    actor_identity,
    actor_name,
    identity_sequence,
    is_process_of,
    message_identity,
    parse_message,
    process_name,
)

NS = 1_767_225_600_123_456_789
names = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)


def test_a_stream_made_anew_gives_no_identity_again() -> None:
    assert message_identity(7, NS) == f"7-{NS}"
    assert message_identity(7, NS) != message_identity(7, NS + 1)


@given(sequence=st.integers(1, 2**63 - 1), stored_ns=st.integers(0, 2**63 - 1))
def test_the_identity_of_a_message_is_read_back(sequence: int, stored_ns: int) -> None:
    identity = message_identity(sequence, stored_ns)
    assert parse_message(identity) == (sequence, stored_ns)
    assert identity_sequence(identity) == sequence


@pytest.mark.parametrize(
    "other", ["", "-", "7", "7-", "-7", "7-x", "7-7-7", "+7-7", "7-7 ", "\N{SUPERSCRIPT TWO}-7"]
)
def test_another_clients_notion_of_identity_says_nothing(other: str) -> None:
    assert parse_message(other) is None
    assert identity_sequence(other) == 0


@given(name=names)
def test_an_actor_is_called_by_name_and_process(name: str) -> None:
    assert actor_name(actor_identity(name, 4711, "a1b2c3")) == f"{name}-4711"
    assert actor_name("alone") == "alone"


@given(name=names, place=st.integers(1, 100))
def test_a_process_belongs_to_its_parent_and_to_nobody_else(name: str, place: int) -> None:
    assert is_process_of(process_name(name, place), name)
    assert not is_process_of(name, name)
    assert not is_process_of(process_name(name, place), process_name(name, place))
    assert not is_process_of(f"{name}.x", name)
