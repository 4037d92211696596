"""What to do about a failure: every reason that a record may give has an answer."""

from __future__ import annotations

import re
from pathlib import Path

from agentflow.dashboard.reader.remedies import OWN, REASONS, remedy
from agentflow.rules import retry

PAGE = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"


def test_every_reason_of_the_retry_table_has_a_remedy() -> None:
    assert {row.reason for row in (*retry.TABLE, retry.UNKNOWN)} <= REASONS.keys()


def test_every_reason_of_the_protocol_page_has_a_remedy() -> None:
    text = PAGE.read_text()
    named: set[str] = set()
    for heading in ("| reason | the message |", "| reason | cause | then |"):
        table = text.partition(heading)[2].partition("\n\n")[0]
        for row in table.splitlines()[2:]:
            named |= set(re.findall(r"`([a-z_]+)`", row.split("|")[1]))
    others = text.partition("are the other reasons a record may give")[0].rpartition("\n\n")[2]
    named |= set(re.findall(r"`([a-z_]+)`", others))
    assert len(named) > 35
    assert named <= REASONS.keys()


def test_an_error_says_more_than_its_reason_and_an_own_reason_is_the_handlers() -> None:
    error = "invalid_request_error: prompt is too long: 212400 tokens > 200000 maximum"
    assert "split" in remedy("invalid_request", error).advice
    assert "correct" in remedy("invalid_request", "invalid_request_error: bad").advice
    assert remedy("wrong_file", "ValueError: x") is OWN
    assert remedy(None) is OWN
