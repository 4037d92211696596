"""Wait for one task at a terminal, with its text as it comes where asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from agentflow.cli import output
from agentflow.views.result import Result, result_of_record

if TYPE_CHECKING:
    from agentflow.client import Client, Event


@contextmanager
def going_on(task_id: str) -> Iterator[None]:
    """Who interrupts the waiting is told that the task does not end with it."""
    try:
        yield
    except asyncio.CancelledError:
        output.note(f"task {task_id} goes on; `agentflow get {task_id} --wait` waits for it")
        raise


async def follow(client: Client, task_id: str, *, stream: bool, as_json: bool) -> int:
    """Return the exit code when the task has ended; its answer is printed."""
    printed = Printed()
    result: Result | None = None
    async for event in client.watch(task_id, tokens=stream):
        if event.kind == "tokens":
            if as_json:
                output.show_json(event)
            else:
                printed.add(event)
        elif event.record is not None:
            result = result_of_record(event.record, event.sequence)
    assert result is not None
    if as_json:
        output.show_json(result)
        return 0 if result.ok else 1
    printed.end(result)
    if (failure := result.failure()) is not None:
        raise failure
    return 0


class Printed:
    """What of an answer is on the screen: of which attempt, and up to which byte."""

    def __init__(self) -> None:
        self.attempt = 0
        self.bytes = 0
        self.gap = False
        self._open = False

    def add(self, event: Event) -> None:
        """Print some more."""
        if event.attempt != self.attempt:
            if self.attempt:
                self._line_end()
                output.note(f"attempt {event.attempt}:")
            self.attempt, self.bytes, self.gap = event.attempt, 0, False
        if event.offset != self.bytes:
            self.gap = True
        self.bytes = event.offset + len(event.text.encode())
        output.show_raw(event.text)
        self._open = True

    def end(self, result: Result) -> None:
        """Print what is missing."""
        text = answer(result)
        whole = text.encode()
        # The last messages may be under way still: they are not stored, the record is.
        if self.bytes and not self.gap and result.attempts == self.attempt:
            output.show_raw(whole[self.bytes :].decode("utf-8", "replace"))
            self._line_end()
        else:
            if self.bytes:
                self._line_end()
                if result.ok:
                    output.note("some of it was missed; the whole:")
            if text or result.ok:
                output.show(text)
        if result.truncated:
            output.note("the text was too long for one record and is cut")
        if result.simulated:
            output.note(output.SIMULATED)

    def _line_end(self) -> None:
        if self._open:
            output.show()
            self._open = False


def answer(result: Result) -> str:
    """The result for a person: its text, else its value as JSON."""
    if result.text is not None:
        return result.text
    if result.value is not None:
        return msgspec.json.encode(result.value).decode()
    return ""
