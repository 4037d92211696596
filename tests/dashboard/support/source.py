"""The lifelike feed as the app takes it: with a clock that runs, or one that a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agentflow.views import feed
from tests.dashboard.support.lifelike import Lifelike

STEP = 0.05


class LifelikeSource:
    """A feed. With `rate` None nothing happens after the beginning but what a test tells it."""

    def __init__(
        self, *, tasks: int = 200, workers: int = 12, rate: float | None = None, seed: int = 1
    ) -> None:
        self.life = Lifelike(seed=seed, tasks=tasks, workers=workers)
        self.rate = rate
        self.followed: set[str] = set()

    @property
    def now(self) -> float:
        """The feed's time."""
        return self.life.at

    @property
    def client(self) -> None:
        """There is no server."""

    def follow_tokens(self, ids: Iterable[str]) -> None:
        """Hear what is generated for exactly these tasks."""
        self.followed = set(ids)

    async def run(self, apply: Callable[[feed.Item], None]) -> None:
        """Tell it."""
        for item in self.life.begin():
            apply(item)
        loop = asyncio.get_running_loop()
        last = loop.time()
        while self.rate is not None:
            await asyncio.sleep(STEP)
            now = loop.time()
            for item in self.life.pass_time(now - last, self.rate):
                apply(item)
            last = now
        await asyncio.Event().wait()
