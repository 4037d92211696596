"""Answers that were paid and yet are none: one table, one reader.

A refusal, or an answer that was cut, is what the model said: its task has succeeded, was paid, and
is no failure. Who wanted an answer has none all the same, so a job counts them by kind and asks for
those again that somebody names. One that breaks its schema has failed, and is counted beside them.
To tell another kind of them is a line of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from agentflow.errors import UsageError
from agentflow.protocol.record import State


class Answer(Protocol):
    """A result, as far as it is judged."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def stop_reason(self) -> str | None: ...
    @property
    def text(self) -> str | None: ...
    @property
    def value(self) -> Any: ...
    @property
    def content(self) -> Any: ...
    @property
    def truncated(self) -> bool: ...


class Flaw(msgspec.Struct, frozen=True):
    """A kind: its name for commands, its title for people, and which answers it fits."""

    name: str
    title: str
    fits: Callable[[Answer], bool]
    state: State = State.SUCCEEDED


_CUT: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
_OF_CLAUDE: Final = frozenset({"claude", "claude-cli"})


def _empty(answer: Answer) -> bool:
    said = (answer.text or "").strip() or answer.content or answer.value is not None
    return answer.kind in _OF_CLAUDE and not said


FLAWS: Final[tuple[Flaw, ...]] = (
    Flaw("refused", "refused by the model", lambda answer: answer.stop_reason == "refusal"),
    Flaw(
        "cut",
        "cut before their end",
        lambda answer: answer.stop_reason in _CUT or answer.truncated,
    ),
    Flaw("paused", "paused in the middle", lambda answer: answer.stop_reason == "pause_turn"),
    Flaw("empty", "empty", _empty),
    Flaw("schema", "not to the schema", lambda answer: answer.reason == "schema", State.FAILED),
)
"""The first that fits counts."""
TITLES: Final = {flaw.name: flaw.title for flaw in FLAWS}


def flaw_of(answer: Answer) -> str | None:
    """The name of what is wrong with an answer; None where nothing is, or there is none at all."""
    fitting = (flaw for flaw in FLAWS if flaw.state == answer.state and flaw.fits(answer))
    return next((flaw.name for flaw in fitting), None)


def named(text: str) -> frozenset[str]:
    """The kinds in a list with commas. Raises UsageError for one that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in TITLES]
    if wrong or not names:
        raise UsageError(
            f"{(wrong or [text])[0][:40]!r} is no kind of answer; there are {', '.join(TITLES)}"
        )
    return frozenset(names)
