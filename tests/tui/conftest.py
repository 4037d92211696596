"""A dashboard over the lifelike feed, in a terminal that a test drives."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.dashboard.support.seat import Seat, open_seat

Open = Callable[..., AbstractAsyncContextManager[Seat]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test writes into the person's folders, and the time of day is that of UTC."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path
    if before is None:
        monkeypatch.delenv("TZ")
    else:
        monkeypatch.setenv("TZ", before)
    time.tzset()


@pytest.fixture
def seat() -> Open:
    """Open a dashboard: `async with seat(size=(120, 36)) as sitting`."""

    @asynccontextmanager
    async def opened(**given: object) -> AsyncIterator[Seat]:
        async with open_seat(**given) as sitting:  # type: ignore[arg-type]
            yield sitting

    return opened
