"""docs/protocol.md is true: every example runs, and the worker it names keeps the rules."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from agentflow.protocol import control, subjects
from agentflow.protocol.record import EMPTY
from agentflow.rules import records as entries
from tests.support import checker, tools
from tests.support.fleet import Fleet
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer
from tests.support.protocol_page import BLOCKS, WORKER, Block


class Example(NamedTuple):
    """A command, what it prints, and whether it listens while the next one runs."""

    block: Block
    expected: Block | None
    listens: bool


def examples() -> dict[str, list[Example]]:
    """By section; what a command prints stands right behind it."""
    ends = {block.line + block.text.count("\n") + 2: block for block in BLOCKS}
    found: dict[str, list[Example]] = {}
    for index, block in enumerate(BLOCKS):
        if block.language == "sh":
            after = BLOCKS[index + 1] if index + 1 < len(BLOCKS) else None
            said = after is not None and after.language != "sh" and ends.get(after.line) is block
            example = Example(block, after if said else None, block.note == "listen")
            found.setdefault(block.section, []).append(example)
    return found


EXAMPLES = examples()


def needs_cli(section: str) -> bool:
    return any(re.search(r"\bnats [a-z]", example.block.text) for example in EXAMPLES[section])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    (fleet.folder / "examples").symlink_to(tools.ROOT / "examples")
    for block in BLOCKS:
        if block.language == "python":
            (fleet.folder / block.note).write_text(block.text, encoding="utf-8")
    try:
        yield fleet.start()
    finally:
        fleet.stop()


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.tools("nats") if needs_cli(title) else ())
        for title in EXAMPLES
    ],
)
def test_the_examples_run(title: str, fleet: Fleet) -> None:
    listening: tuple[Example, subprocess.Popen[str]] | None = None
    for example in EXAMPLES[title]:
        if example.listens:
            words = shlex.split(example.block.text)
            listening = (example, fleet.listen(words, words[2]))
            continue
        show(example, fleet)
        if listening is not None:
            check(listening[0], fleet.heard(listening[1]))
            listening = None
    assert listening is None, "nothing runs while the last example listens"


def test_no_command_stands_outside_the_examples() -> None:
    """A block in another language's name would not be run."""
    allowed = {"sh", "json", "text", "python"}
    assert {block.language for block in BLOCKS} == allowed
    assert {block.note for block in BLOCKS if block.language == "sh"} == {"", "listen"}
    shown = {example.expected for found in EXAMPLES.values() for example in found}
    for block in BLOCKS:
        if block.language in ("json", "text") and not block.note and block not in shown:
            assert block.text.startswith(("Nats-Expected-", "$JS.ACK.")), f"line {block.line}"


def show(example: Example, fleet: Fleet) -> None:
    """Run an example; a question to the master's index is asked until the index has caught up."""
    asks = re.fullmatch(
        r"nats req agentflow\.api\.(get|list|stats|workers) .*\n", example.block.text
    )
    end = time.monotonic() + 10
    while True:
        said = fleet.run("bash", "-euo", "pipefail", "-c", example.block.text)
        try:
            check(example, said)
        except AssertionError:
            if not asks or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def check(example: Example, said: str) -> None:
    expected = example.expected
    if expected is None:
        return
    where = f"docs/protocol.md, line {example.block.line}:\n{said}"
    if expected.language == "json":
        found = [line for line in said.splitlines() if line.startswith("{")]
        assert found, where
        assert_like(json.loads(expected.text), json.loads(found[-1]), where)
    else:
        assert re.fullmatch(pattern(expected.text), plain(said)), where


def assert_like(expected: Any, found: Any, where: str) -> None:
    """Equal, where … is anything, and as a key: any further keys."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        wanted = expected.keys() - {"…"}
        assert wanted <= found.keys() if "…" in expected else wanted == found.keys(), where
        for key in wanted:
            assert_like(expected[key], found[key], where)
    elif isinstance(expected, list):
        assert isinstance(found, list), where
        assert len(expected) == len(found), where
        for each, other in zip(expected, found, strict=True):
            assert_like(each, other, where)
    elif isinstance(expected, str) and "…" in expected:
        assert re.fullmatch(pattern(expected), str(found), re.S), where
    else:
        assert expected == found, where


def pattern(text: str) -> str:
    """What fits a text in which … stands for anything; alone on a line, for any lines."""
    lines = []
    for line in text.splitlines(keepends=True):
        some = r"(?:.*\n)*?" if line == "…\n" else ".*".join(map(re.escape, line.split("…")))
        lines.append(some)
    return "".join(lines)


def plain(said: str) -> str:
    """Output without times of day, indentation, empty lines, and with headers in one order."""
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line).strip() for line in said.splitlines()]
    shown: list[str] = []
    for is_header, some in itertools.groupby(filter(None, lines), key=_is_header):
        shown += sorted(some, key=lambda line: line.split(":")[0] if is_header else "")
    return "".join(f"{line}\n" for line in shown)


def _is_header(line: str) -> bool:
    return re.match(r"[A-Z][a-z]+(-[A-Z][A-Za-z]+)+: ", line) is not None


def test_the_client_in_the_page_is_short() -> None:
    (client,) = [block for block in BLOCKS if block.language == "python"]
    assert client.text.count("\n") <= 45
    assert "agentflow import" not in client.text


async def test_the_worker_of_the_page_keeps_the_rules(
    nats_server: NatsServer, observer: Observer
) -> None:
    """All it meets ends well, what others wrote is respected, and nothing is left behind."""

    def shout(task_id: str, **more: Any) -> dict[str, Any]:
        return {"kind": "shout", "id": task_id, "prompt": "so be it", **more}

    async def no_schedule() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    to = {"subject": "agentflow.tasks.plain"}
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    await observer.submit(shout("plain"), **to)
    await observer.submit(shout("plain"), **to)  # a duplicate
    await observer.submit(shout("parked", not_before=soon), **to)
    await observer.submit(b"{not a task", {"Agentflow-Id": "bad"}, **to)
    await observer.submit({"kind": "unheard-of", "prompt": "x", "id": "unknown"}, **to)
    await observer.submit(shout("cancelled"), **to)
    await observer.log_as("somebody").cancel("cancelled")
    ack = await observer.submit(shout("taken-over"), **to)
    origin = msgspec.structs.replace(
        await observer.origin("taken-over", ack, kind="shout"), queue="plain"
    )
    dead = observer.log_as("dead-worker")
    await dead.append(entries.claimed(origin, EMPTY, actor="dead-worker", now=dead.now()))
    # Its owner answers that it holds nothing, so nobody waits five seconds for a silence.
    await observer.connection.subscribe(
        subjects.control("worker", "dead-worker"),
        lambda question: observer.connection.publish(
            question.reply, control.encode(control.Held(holds=False))
        ),
    )
    await observer.connection.flush()
    deliveries = 7 + 1  # the parked one comes twice
    process = subprocess.Popen(
        [sys.executable, str(WORKER), "plain", str(deliveries)],
        env={"NATS_URL": nats_server.url},
    )
    try:
        ids = ["plain", "parked", "bad", "unknown", "cancelled", "taken-over"]
        await observer.all_ended(ids)
        await observer.at_rest()
        await observer.becomes(no_schedule)  # the server forgets it a moment after it was due
        assert process.wait(20) == 0
    finally:
        process.kill()
    assert await observer.states("plain") == ["running", "succeeded"]
    assert await observer.states("parked") == ["scheduled", "running", "succeeded"]
    assert await observer.states("taken-over") == ["running", "running", "succeeded"]
    taken = (await observer.last("taken-over")).record
    assert taken is not None
    assert (taken.attempt, taken.failures, taken.text) == (2, 1, "SO BE IT")
    assert await checker.check(observer.js, ids) == []
