"""A dashboard whose feed and acts are real, without a terminal: what the app is to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from agentflow.client import Client
from agentflow.client.live.live import Live
from agentflow.dashboard.feed.acting import Acting
from agentflow.dashboard.feed.answers import Answering
from agentflow.dashboard.feed.travel import Travelling
from agentflow.dashboard.reader import acts
from agentflow.dashboard.reader.effects import Confirm, Effect, Fetch, Travel
from agentflow.dashboard.reader.scene import Receipt
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.views import feed

WITHIN = 20.0


class Stage:
    """The dashboard; effects that go over the bus are carried out."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.live: Live | None = None
        self.dash = Dashboard()
        self.changed = asyncio.Event()
        self.acting = Acting(client, self.dash, self.now, self.changed.set)
        self.answering = Answering(client, self.dash, self.now, self.changed.set)
        self.travelling = Travelling(client, self.dash, self.now, self.changed.set)
        self._tasks: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """The server's clock."""
        assert self.live is not None
        return self.live.now

    def take(self, item: feed.Item) -> None:
        """The feed's sink."""
        self.dash.store.apply(item)
        self.changed.set()

    async def until(self, check: Callable[[], object]) -> None:
        """Return when it holds; it is asked again after each change of the store."""
        async with asyncio.timeout(WITHIN):
            while not check():
                self.changed.clear()
                await self.changed.wait()

    async def state(self, task_id: str, state: str) -> None:
        """Return when the store has a task in a state."""
        rows = self.dash.store.rows
        await self.until(lambda: task_id in rows and rows[task_id].state == state)

    # What the app does.

    async def carry_out(self, effects: list[Effect]) -> None:
        """What reads or travels; the rest is the terminal's."""
        for effect in effects:
            if isinstance(effect, Fetch):
                await self.answering.fetch(effect)
            elif isinstance(effect, Travel):
                await self.travelling.go(effect)

    async def press(self, *keys: str) -> None:
        """Keys, one after the other, each carried out."""
        for key in keys:
            await self.carry_out(self.dash.press(key, self.now()))
            await self.carry_out(self.dash.wanted(self.now()))

    async def look(self) -> str:
        """The screen, with what the view wants."""
        await self.carry_out(self.dash.wanted(self.now()))
        return self.screen()

    def screen(self, width: int = 120, height: int = 40) -> str:
        """The screen as text."""
        return "\n".join(line.text for line in self.dash.frame(width, height, self.now()))

    async def act(self, name: str, *targets: str) -> Receipt:
        """An act as the person confirms it, to its end."""
        scene = self.dash.scene(self.now())
        effects, problem = acts.begin(scene, name, targets)
        assert not problem, problem
        (confirm,) = effects
        assert isinstance(confirm, Confirm)
        command = acts.preview(scene, name, confirm.targets).command
        async with asyncio.timeout(WITHIN):
            return await self.acting.perform(confirm.act, confirm.targets, command)

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something beside the test."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    async def close(self) -> None:
        """End what the test began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
