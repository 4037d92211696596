"""A turn that the API paused: it is asked to go on with what it has said so far. Pure.

`stop_reason: pause_turn` says that a server's tool needs more time than one answer has. The request
is sent again with that answer behind its messages, as the API's documentation of server tools has
it. All answers together are the task's one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agentflow.handlers.contract import Outcome

PAUSED: Final = "pause_turn"
TURNS_MOST: Final = 10
"""Requests for one answer; whoever pauses longer is told as incomplete, and costs no more."""


def continued(arguments: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The request that goes on after `outcome`."""
    said = {"role": "assistant", "content": _blocks(outcome)}
    return {**arguments, "messages": [*arguments["messages"], said]}


def joined(turns: Sequence[Outcome]) -> Outcome:
    """All turns as one answer; it ends as the last one does."""
    if len(turns) == 1:
        return turns[0]
    texts = [turn.text for turn in turns if turn.text is not None]
    plain = all(turn.content is None for turn in turns)
    return Outcome(
        text="".join(texts) if texts else None,
        content=None if plain else [block for turn in turns for block in _blocks(turn)],
        stop_reason=turns[-1].stop_reason,
        value=turns[-1].value,
    )


def _blocks(outcome: Outcome) -> list[Any]:
    if outcome.content is not None:
        return list(outcome.content)
    return [] if outcome.text is None else [{"type": "text", "text": outcome.text}]
