"""Numbers that the environment gives: a wrong one is a sentence, and no accident."""

from __future__ import annotations

import pytest

from agentflow.batches import pace
from agentflow.errors import UsageError
from agentflow.protocol import limits
from agentflow.worker.process import unknown_kind_for


def test_without_a_word_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pace.PACE, raising=False)
    assert pace.from_environment() == pace.Pace()
    assert unknown_kind_for({}) == unknown_kind_for({"AGENTFLOW_UNKNOWN_KIND_FOR": ""})
    assert unknown_kind_for({}) == limits.UNKNOWN_KIND_FOR
    assert unknown_kind_for({"AGENTFLOW_UNKNOWN_KIND_FOR": "0.5"}) == 0.5


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf", "5m", "1e400"])
def test_no_number_of_seconds(text: str) -> None:
    with pytest.raises(UsageError, match=r"AGENTFLOW_UNKNOWN_KIND_FOR is .*, not a number of"):
        unknown_kind_for({"AGENTFLOW_UNKNOWN_KIND_FOR": text})


@pytest.mark.parametrize("text", ["5", "{", '{"gather": -1}', '{"poll": "x"}', '{"most": 0}'])
def test_no_pace_of_batches(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(pace.PACE, text)
    with pytest.raises(UsageError, match="AGENTFLOW_BATCHES is no pace of batches"):
        pace.from_environment()
