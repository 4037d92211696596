"""What stands for several things must be several: Python would walk through a text, too."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from agentflow.errors import UsageError

_ONE = (str, bytes, bytearray, memoryview, Mapping)


def several(given: Any, what: str, *, waits: bool = False) -> None:
    """Raise UsageError where `given` is one thing: a text by its letters, a dict by its keys.

    `waits` allows what is walked with `async for`.
    """
    if isinstance(given, _ONE):
        raise UsageError(
            f"a {type(given).__name__} is one thing, and {what} are asked for: put it into a list"
        )
    if isinstance(given, AsyncIterable) and not waits:
        raise UsageError(f"this client walks no async iterable, so {what} must be a plain one")
    if not isinstance(given, (Iterable, AsyncIterable)):
        raise UsageError(f"{what} are asked for, a list or a generator, not {type(given).__name__}")
