"""Names of models: which family's limits a model counts against, and its name without a date."""

from __future__ import annotations

import re
from typing import Final

FAMILIES: Final = (
    ("claude-opus", "opus"),
    ("claude-sonnet", "sonnet"),
    ("claude-haiku", "haiku"),
    ("claude-fable", "fable"),
    ("claude-mythos", "mythos"),
)
"""Prefix of a model's name and the family; limits are pooled within one."""

OTHER: Final = "other"

_DATED: Final = re.compile(r"-20\d{6}\Z")


def family(model: str) -> str:
    """The family that shares rate limits with `model`; `other` for a name no prefix fits."""
    return next((name for prefix, name in FAMILIES if model.startswith(prefix)), OTHER)


def undated(model: str) -> str:
    """claude-haiku-4-5-20251001 is claude-haiku-4-5."""
    return _DATED.sub("", model)


_WITHOUT_STRUCTURED: Final = re.compile(
    r"claude-(?:[123]\b|instant|v\d|(?:sonnet|opus|haiku)-4(?:-0)?\Z)"
)


def answers_structured(model: str) -> bool:
    """Whether the API holds this model's answers to a schema; older ones are told of it in words.

    A name that is not known is taken for a later one: the API says where that is wrong.
    """
    return _WITHOUT_STRUCTURED.match(undated(model)) is None
