"""Scripted steps: what the next requests get, one step each.

A script with a `match` applies only to prompts that contain it, so a sequence belongs to one task
however the requests of many tasks interleave. The oldest script that fits gives its next step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from agentflow.simulator import knobs
from agentflow.simulator.knobs import KnobError, Layer


class Script(msgspec.Struct, forbid_unknown_fields=True):
    """`steps` for the next requests whose prompt contains `match` (every prompt does, with "")."""

    steps: list[dict[str, Any]]
    match: str = ""


def parse_scripts(text: bytes) -> list[Script]:
    """One script or a list of them, out of JSON; raises KnobError."""
    try:
        decoded = msgspec.json.decode(text, type=Script | list[Script])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KnobError(str(error)) from None
    scripts = decoded if isinstance(decoded, list) else [decoded]
    for script in scripts:
        check(script)
    return scripts


def check(script: Script) -> None:
    """Raises KnobError, with the number of the step, when a step is no layer of knobs."""
    for number, step in enumerate(script.steps, start=1):
        try:
            knobs.checked(step, sticky=False)
        except KnobError as error:
            raise KnobError(f"step {number}: {error}") from None


class Steps:
    """A script under way: at least one step is left."""

    def __init__(self, script: Script) -> None:
        self.match = script.match
        self.left = deque(script.steps)

    @property
    def next(self) -> Layer:
        """The step that comes next."""
        return self.left[0]


class ScriptQueue:
    """The scripts that still have steps."""

    def __init__(self) -> None:
        self._scripts: list[Steps] = []

    def __len__(self) -> int:
        return sum(len(script.left) for script in self._scripts)

    def add(self, scripts: Iterable[Script]) -> None:
        """Queues checked scripts behind those that are there."""
        self._scripts += [Steps(script) for script in scripts if script.steps]

    def clear(self) -> None:
        """Forgets every step."""
        self._scripts.clear()

    def find(self, prompt: Callable[[], str]) -> Steps | None:
        """The script whose next step a prompt gets. `prompt` is asked only if needed."""
        if not self._scripts:
            return None
        text = prompt()
        return next((script for script in self._scripts if script.match in text), None)

    def step_done(self, script: Steps | None) -> None:
        """The next step of a found script has been used."""
        if script is None:
            return
        script.left.popleft()
        if not script.left:
            self._scripts.remove(script)
