"""The frame clock: when the screen is drawn anew, and what the dashboard tells of itself.

Ten times a second, four times over ssh or while nobody looks (the terminal has lost focus), and
never oftener than every second time a frame's own cost: a slow machine draws less, it does not lag.
Where nothing has changed nothing is drawn: four times a second it is seen whether a second has
passed, and the feed ends the calm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

FAST: Final = 10.0
SLOW: Final = 4.0
"""Frames a second."""
CALM: Final = 0.25
"""Seconds between two looks at the clock while nothing happens."""
_SMOOTH: Final = 0.2


class FrameRate:
    """How long to wait between two frames. Pure; times are seconds."""

    def __init__(self, fastest: float) -> None:
        self.fastest = fastest
        self.watched = True
        """Whether the terminal has the focus; True where it does not tell."""
        self.cost = 0.0
        """What a frame costs, as a moving mean."""
        self.frames = 0

    def drawn(self, cost: float) -> None:
        """A frame was drawn and took so long."""
        self.frames += 1
        self.cost = cost if self.frames == 1 else self.cost + _SMOOTH * (cost - self.cost)

    def wait(self) -> float:
        """Seconds from one frame to the next."""
        hertz = self.fastest if self.watched else min(self.fastest, SLOW)
        return max(1.0 / hertz, 2.0 * self.cost)


def fastest(environment: Mapping[str, str], asked: float | None = None) -> float:
    """Frames a second at most: as asked for, else by what stands between us and the eye."""
    if asked:
        return min(60.0, max(0.5, asked))
    return SLOW if environment.get("SSH_CONNECTION") else FAST


class Clock:
    """Calls `draw` whenever `dirty` says that there is something to draw."""

    def __init__(
        self, rate: FrameRate, *, dirty: Callable[[], bool], draw: Callable[[], None]
    ) -> None:
        self.rate = rate
        self._dirty = dirty
        self._draw = draw
        self._wake = asyncio.Event()
        self._calm = False

    def hurry(self) -> None:
        """A key was pressed: do not let the eye wait for the tick."""
        self._wake.set()

    def stir(self) -> None:
        """The feed has told something: end a calm, but keep the pace."""
        if self._calm:
            self._wake.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            if self._dirty():
                # Our own time: that others want the machine too is no reason to draw less.
                began = time.thread_time()
                self._draw()
                spent = time.thread_time() - began
                self.rate.drawn(spent)
                self._wake.clear()
                # Keys that are held down must not starve the feed.
                await asyncio.sleep(spent)
                await self._wait(self.rate.wait() - spent)
            else:
                self._wake.clear()
                self._calm = True
                await self._wait(CALM)
                self._calm = False

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
