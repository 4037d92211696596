"""What a key asks of the outside: one method for each effect (reader/effects.py).

A dialog is imported when it is first needed. What takes time runs as a task of its own, with a name
and an end; what goes wrong in one is told above the key bar.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

from agentflow.dashboard.reader import acts, submission
from agentflow.dashboard.reader.effects import (
    Choose,
    Confirm,
    Copy,
    Effect,
    Export,
    Fetch,
    Page,
    Prompt,
    Quit,
    Submit,
    Travel,
)
from agentflow.views.display import one_line, safe
from agentflow_tui import files
from agentflow_tui.host import Host

if TYPE_CHECKING:
    from agentflow.dashboard.feed.bus import Bus
    from agentflow_tui.screens.dialog import Dialog
    from agentflow_tui.screens.submit import Draft
    from agentflow_tui.screens.submit import Submit as Form

T = TypeVar("T")

UNREACHED: Final = "there is no server behind this"

CLIPBOARD_MOST: Final = 100_000
"""Bytes that terminals take into the clipboard; more they drop, some without a word."""


@runtime_checkable
class Rewindable(Protocol):
    """A source in which one can be at another time: a recording."""

    last: float

    @property
    def now(self) -> float:
        """The time that is shown."""

    def seek(self, at: float) -> None:
        """Show another one."""


class Outside:
    """Carries out effects for the app."""

    def __init__(self, app: Host) -> None:
        self._app = app
        self._asked: dict[str, list[str]] = {}
        """By command: what was answered before."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._reached: Bus | None = None
        self._left: Form | None = None

    def carry_out(self, effects: list[Effect]) -> None:
        """All of them, in their order."""
        for effect in effects:
            match effect:
                case Quit():
                    self._app.exit(0)
                case Prompt():
                    self._prompt(effect)
                case Choose():
                    self._choose(effect)
                case Copy():
                    self._copy(effect)
                case Export():
                    self._export(effect)
                case Page():
                    self._page(effect)
                case Confirm():
                    self._confirm(effect)
                case Submit():
                    self._submit()
                case Fetch():
                    self._fetch(effect)
                case Travel():
                    self._travel(effect)

    def start(self, name: str, work: Awaitable[object]) -> None:
        """Do something beside the picture; what goes wrong is told."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._app.report(f"{name} failed", error)

        task = asyncio.create_task(guarded(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Asking the person.

    def _ask(self, dialog: Dialog[T], then: Callable[[T], None]) -> None:
        """Open a dialog; `then` is called with an answer, and not without one."""

        def answered(answer: T | None) -> None:
            if answer is not None:
                with self._app.guarded("the answer could not be taken"):
                    then(answer)

        dialog.copy = lambda text, what: self._copy(Copy(text, what))
        # Awaited, it would hold up the key that asked for it.
        _ = self._app.push_screen(dialog, answered)

    def _prompt(self, effect: Prompt) -> None:
        from agentflow_tui.screens import prompt

        history = self._asked.setdefault(effect.answer, [])

        def answered(text: str) -> None:
            # Nothing, where nothing was there before, would only ask again.
            if text or effect.value:
                prompt.remember(history, text)
                self._app.do(effect.answer, text)

        self._ask(prompt.Prompt(effect, history), answered)

    def _choose(self, effect: Choose) -> None:
        from agentflow_tui.screens import choose

        self._ask(choose.Choose(effect), lambda chosen: self._app.do(*chosen))

    def _confirm(self, effect: Confirm) -> None:
        from agentflow_tui.screens import confirm

        dash, now = self._app.dash, self._app.source.now
        preview = acts.preview(dash.scene(now), effect.act, effect.targets)

        def answered(_: bool) -> None:
            # The connection may have been lost while the dialog was open.
            if (why := dash.acts_off(self._app.source.now)) is not None:
                self._app.tell(f"nothing was done: {why}", "warn")
            else:
                self._act(effect, preview.command)

        self._ask(confirm.Confirm(preview, self._app.look), answered)

    def _submit(self) -> None:
        from agentflow_tui.screens import submit

        dash = self._app.dash
        scene = dash.scene(self._app.source.now)

        def check(
            values: dict[str, str], content: str | None, unreadable: str
        ) -> submission.Checked:
            return submission.check(
                values, self._app.source.now, content=content, unreadable=unreadable
            )

        def answered(draft: Draft) -> None:
            if (why := dash.acts_off(self._app.source.now)) is not None:
                self._app.tell(f"nothing was submitted: {why}", "warn")
            else:
                self._send(draft)

        kept = self._left.left if self._left is not None else {}
        self._left = form = submit.Submit(
            [
                replace(each, value=kept.get(each.name, each.value))
                for each in submission.fields(scene)
            ],
            self._app.look,
            check=check,
            estimate=partial(submission.estimate, scene),
        )
        self._ask(form, answered)

    # What stays on this machine.

    def _copy(self, effect: Copy) -> None:
        text = safe(effect.text)
        if len(text.encode(errors="replace")) <= CLIPBOARD_MOST:
            self._app.copy_to_clipboard(text)
        try:
            path = files.keep_copy(text, files.cache())
        except OSError as error:
            said = f"it could not be kept in a file: {error.strerror}"
        else:
            said = f"it is in {files.shown(path)} too"
        self._app.tell(f"copied {effect.what}: {one_line(text, 40)}   ({said})", "ok")

    def _export(self, effect: Export) -> None:
        try:
            path = files.export(
                effect.stem, effect.suffix, effect.text, Path.cwd(), self._app.source.now
            )
        except OSError as error:
            self._app.tell(f"nothing was exported: {error.strerror or error}", "warn")
        else:
            self._app.tell(f"exported to {path.name}", "ok")

    def _page(self, effect: Page) -> None:
        from agentflow_tui.screens.editor import paged

        if not self._app.suspended(partial(paged, safe(effect.text))):
            self._app.tell("there is no pager that works: set $PAGER", "warn")

    # What goes over the bus.

    def _act(self, effect: Confirm, command: str) -> None:
        if (bus := self._bus()) is not None:
            self.start(effect.act, bus.acting.perform(effect.act, effect.targets, command))

    def _send(self, draft: Draft) -> None:
        def stored(task_id: str) -> None:
            if draft.follow:
                self._app.do("open_task", task_id)

        if (bus := self._bus()) is not None:
            self.start("submit", bus.acting.submit(draft.arguments, draft.command, stored))

    def _fetch(self, effect: Fetch) -> None:
        if (bus := self._bus()) is not None:
            self.start(f"reading of {effect.what}", bus.answering.fetch(effect))
        else:
            self._app.dash.answers.problems[(effect.what, effect.id)] = UNREACHED

    def _travel(self, effect: Travel) -> None:
        source = self._app.source
        if isinstance(source, Rewindable):
            _rewind(source, effect)
            self._app.touch()
        elif (bus := self._bus()) is not None:
            self.start("time travel", bus.travelling.go(effect))
        elif not effect.live:
            self._app.tell(f"the past cannot be read: {UNREACHED}", "warn")

    def _bus(self) -> Bus | None:
        client = self._app.source.client
        if client is None:
            self._reached = None
        elif self._reached is None or self._reached.client is not client:
            from agentflow.dashboard.feed.bus import Bus

            app = self._app
            self._reached = Bus(client, app.dash, lambda: app.source.now, app.touch)
        return self._reached


def _rewind(source: Rewindable, effect: Travel) -> None:
    """Go elsewhere in a recording; a step there is a second."""
    if effect.live:
        source.seek(source.last)
    elif effect.to is not None:
        source.seek(effect.to)
    else:
        source.seek(source.now + effect.leap + effect.step)
