"""A paused turn: the request that goes on, and all turns as one answer."""

from __future__ import annotations

from agentflow.handlers.claude.turns import continued, joined
from agentflow.handlers.contract import Outcome

FIRST = Outcome(text="One. ", stop_reason="pause_turn")
SEARCH = [{"type": "server_tool_use", "id": "s1"}, {"type": "text", "text": "Two."}]
SECOND = Outcome(text="Two.", content=SEARCH, stop_reason="end_turn")


def test_what_was_said_stands_behind_the_messages() -> None:
    arguments = {"model": "m", "messages": [{"role": "user", "content": "Go"}]}
    once = continued(arguments, FIRST)
    twice = continued(once, SECOND)
    assert once["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "text", "text": "One. "}]}
    ]
    assert twice["messages"][2] == {"role": "assistant", "content": SEARCH}
    assert len(arguments["messages"]) == 1, "the task's own messages stay as they are"


def test_all_turns_are_one_answer() -> None:
    whole = joined([FIRST, SECOND])
    assert (whole.text, whole.stop_reason) == ("One. Two.", "end_turn")
    assert whole.content == [{"type": "text", "text": "One. "}, *SEARCH]
    assert joined([SECOND]) is SECOND
    assert joined([FIRST, FIRST]).content is None
