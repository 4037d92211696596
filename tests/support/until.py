"""Waiting for a condition that sends no event: a file, another process."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; the test's own timeout ends what never comes."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)
