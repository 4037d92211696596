"""The task view as it is drawn, at three sizes; AGENTFLOW_GOLDEN=write makes the files anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest

from agentflow.protocol.record import Failure
from tests.dashboard.task.world import NOW, World

FOLDER = Path(__file__).parent / "golden"
OVERLOADED = Failure(
    type="overloaded_error", message="Overloaded", status=529, request_id="req_011CS"
)
REFUSED = Failure(
    type="invalid_request_error",
    message="prompt is too long: 212400 tokens > 200000 maximum",
    status=400,
    request_id="req_011CT",
)
TEXT = (
    "The refresh path takes the lock twice when the token is already expired: `get()` calls "
    "`refresh()` while it holds the lock.\n\n- Move the check out\n- Add a test 日本語\n"
)


def running() -> World:
    world = World()
    world.run(1)
    world.fail(4, "overloaded", OVERLOADED, retry_at=9)
    world.run(10)
    world.generate(TEXT, attempt=2)
    world.answer()
    return world


def history() -> World:
    world = running()
    world.succeed(20, TEXT)
    world.answer()
    world.dash.press("tab", NOW)
    return world


def failed() -> World:
    world = World()
    world.run(1)
    world.fail(3, "invalid_request", REFUSED)
    world.answer()
    world.dash.press("w", NOW)
    world.dash.answers.whys["t-1"] = "failed: It failed at 12:00:03 after 1 attempt."
    return world


@pytest.mark.parametrize(("width", "height"), [(120, 36), (80, 24), (60, 20)])
@pytest.mark.parametrize("scene", [running, history, failed])
def test_the_view_is_what_it_was(scene: Callable[[], World], width: int, height: int) -> None:
    world = scene()
    world.dash.zone = UTC
    lines = world.dash.here.body(world.dash.scene(NOW), width, height - 3)
    text = "".join(f"{line.text.rstrip()}\n" for line in lines)
    path = FOLDER / f"{scene.__name__}-{width}x{height}.txt"
    if os.environ.get("AGENTFLOW_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
