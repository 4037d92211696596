"""`agentflow streams`: what it shows, what it puts right, and what it leaves alone."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.cli import main
from agentflow.config import Connect
from agentflow.protocol import limits, subjects
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)

T = TypeVar("T")
NAMES = [
    subjects.SCHEDULE,
    subjects.TASKS,
    subjects.RECORDS,
    subjects.DEAD,
    subjects.BATCH,
    subjects.COUNTERS,
    subjects.KV_STREAM,
    subjects.OBJECTS,
]


def with_js(server: NatsServer, work: Callable[[JetStream], Awaitable[T]]) -> T:
    """Do something on the server beside the command."""

    async def do() -> T:
        async with await Connection.open(Connect(urls=(server.url,))) as connection:
            return await work(JetStream(connection))

    return asyncio.run(do())


def config(server: NatsServer, name: str) -> dict[str, Any]:
    async def read(js: JetStream) -> dict[str, Any]:
        found: dict[str, Any] = (await js.stream_info(name))["config"]
        return found

    return with_js(server, read)


def change(server: NatsServer, name: str, **values: Any) -> None:
    async def update(js: JetStream) -> None:
        found = (await js.stream_info(name))["config"]
        await js.api(f"STREAM.UPDATE.{name}", found | values)

    with_js(server, update)


@pytest.fixture
def applied(nats_server: NatsServer) -> NatsServer:
    with_js(nats_server, provision.ensure_streams)
    return nats_server


def test_apply_creates_what_is_missing_and_says_so(
    nats_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["streams", "apply", "--nats", nats_server.url]
    assert main(arguments) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [f"{name}: created, 1 replica" for name in NAMES]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "All as defined; nothing was changed.\n"


def test_show_names_what_is_missing(
    nats_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["streams", "show", "--nats", nats_server.url]) == 0
    told = capsys.readouterr().out
    assert all(f"{name} does not exist" in told for name in NAMES)
    assert "agentflow streams apply" in told


def test_show_lists_streams_and_consumers(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill(js: JetStream) -> None:
        await provision.ensure_consumers(js, "mail", lease=20.0)
        for _ in range(3):
            await js.store(subjects.task("mail", "low"), b"x" * 2000)

    with_js(applied, fill)
    assert main(["streams", "show", "--nats", applied.url]) == 0
    told = capsys.readouterr().out
    assert "All as defined." in told
    tasks = next(line for line in told.splitlines() if line.startswith(subjects.TASKS))
    assert tasks.split()[1] == "3"
    low = next(line for line in told.splitlines() if line.startswith("mail-low"))
    assert low.split() == ["mail-low", "3", "0", "0", "0", "20s"]

    assert main(["streams", "show", "--json", "--nats", applied.url]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [stream["name"] for stream in facts["streams"]] == NAMES
    assert facts["streams"][1]["messages"] == 3
    assert [consumer["name"] for consumer in facts["consumers"]] == [
        "mail-high",
        "mail-low",
        "mail-normal",
    ]


def test_a_difference_is_shown_then_put_right(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    change(applied, subjects.RECORDS, max_bytes=1_000_000)
    assert main(["streams", "show", "--nats", applied.url]) == 0
    assert f"{subjects.RECORDS} max_bytes is 1000000, should not be set" in capsys.readouterr().out
    assert config(applied, subjects.RECORDS)["max_bytes"] == 1_000_000
    assert main(["streams", "apply", "--nats", applied.url]) == 0
    assert f"{subjects.RECORDS}: corrected" in capsys.readouterr().out
    assert config(applied, subjects.RECORDS)["max_bytes"] == -1
    assert main(["streams", "show", "--nats", applied.url]) == 0
    assert "All as defined." in capsys.readouterr().out


def test_limits_that_were_raised_stay(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    change(applied, subjects.RECORDS, max_age=30 * limits.DAY * 1_000_000_000)
    change(applied, subjects.TASKS, max_msgs=5_000_000)
    assert main(["streams", "apply", "--nats", applied.url]) == 0
    assert capsys.readouterr().out == "All as defined; nothing was changed.\n"
    assert config(applied, subjects.TASKS)["max_msgs"] == 5_000_000


def test_retention_that_is_asked_for_is_set_either_way(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for days in (30, 7):
        arguments = ["streams", "apply", "--retention", str(days), "--nats", applied.url]
        assert main(arguments) == 0
        assert f"messages are kept {days}d" in capsys.readouterr().out
        assert config(applied, subjects.RECORDS)["max_age"] == days * limits.DAY * 1_000_000_000
    assert main(["streams", "apply", "--retention", "3", "--nats", applied.url]) == 2


def test_a_consumer_is_put_right_and_keeps_its_lease(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def spoil(js: JetStream) -> None:
        await provision.ensure_consumers(js, "mail", lease=20.0)
        found = (await js.consumer_info(subjects.TASKS, "mail-high"))["config"]
        await js.api(
            f"CONSUMER.CREATE.{subjects.TASKS}.mail-high",
            {
                "stream_name": subjects.TASKS,
                "config": found | {"max_deliver": 5},
                "action": "update",
            },
        )

    with_js(applied, spoil)
    assert main(["streams", "show", "--nats", applied.url]) == 0
    assert "mail-high max_deliver is 5, should be -1" in capsys.readouterr().out
    assert main(["streams", "apply", "--nats", applied.url]) == 0
    assert "mail-high: corrected" in capsys.readouterr().out

    async def read(js: JetStream) -> dict[str, Any]:
        found: dict[str, Any] = (await js.consumer_info(subjects.TASKS, "mail-high"))["config"]
        return found

    found = with_js(applied, read)
    assert (found["max_deliver"], found["ack_wait"]) == (-1, 20_000_000_000)


def test_a_strange_consumer_is_named_and_left_alone(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def create(js: JetStream) -> None:
        definition = {
            "durable_name": "thief",
            "name": "thief",
            "ack_policy": "explicit",
            "filter_subject": "agentflow.tasks.default.high",
        }
        await js.api(
            f"CONSUMER.CREATE.{subjects.TASKS}.thief.agentflow.tasks.default.high",
            {"stream_name": subjects.TASKS, "config": definition, "action": "create"},
        )

    with_js(applied, create)
    assert main(["streams", "apply", "--nats", applied.url]) == 1
    assert "thief is not one of ours" in capsys.readouterr().err

    async def read(js: JetStream) -> str:
        return str((await js.consumer_info(subjects.TASKS, "thief"))["name"])

    assert with_js(applied, read) == "thief"


def test_what_the_server_refuses_is_said(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["streams", "apply", "--replicas", "3", "--nats", applied.url]) == 1
    told = capsys.readouterr()
    assert "nothing was changed" not in told.out
    assert "could not be changed" in told.err
    assert "replicas" in told.err

    assert main(["streams", "apply", "--replicas", "3", "--json", "--nats", applied.url]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["done"] == []
    assert len(answer["failed"]) == len(NAMES)


def test_no_server_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for verb in ("show", "apply"):
        assert main(["streams", verb, "--nats", "nats://127.0.0.1:9"]) == 3
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "nats://127.0.0.1:9" in told


def test_diff_of_what_is_as_defined(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with_js(applied, lambda js: provision.ensure_consumers(js, "default"))
    arguments = ["streams", "diff", "--nats", applied.url]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "All 11 as defined.\n"
    assert main([*arguments, "--all"]) == 0
    told = capsys.readouterr().out
    assert "discard" in told
    assert "max_ack_pending" in told


def test_diff_shows_each_setting_that_drifted(
    applied: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with_js(applied, lambda js: provision.ensure_consumers(js, "default"))
    change(applied, subjects.TASKS, discard="old", max_msgs=7)
    change(applied, subjects.RECORDS, max_age=limits.DAY * 10**9)

    async def spoil(js: JetStream) -> None:
        found = (await js.consumer_info(subjects.TASKS, "default-high"))["config"]
        body = {
            "stream_name": subjects.TASKS,
            "config": {**found, "backoff": [10**9], "max_deliver": 3},
            "action": "update",
        }
        await js.api(f"CONSUMER.CREATE.{subjects.TASKS}.default-high", body)
        await js.api(f"STREAM.DELETE.{subjects.DEAD}")

    with_js(applied, spoil)
    arguments = ["streams", "diff", "--nats", applied.url]
    assert main(arguments) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [subjects.TASKS, "discard", "new", "old", "differs"] in rows
    assert [subjects.TASKS, "max_msgs", "1000000", "7", "set", "by", "an", "administrator"] in rows
    assert [subjects.DEAD, "does", "not", "exist"] in rows
    assert ["default-high", "max_deliver", "-1", "3", "differs"] in rows
    assert ["default-high", "backoff", "not", "set", "[1000000000]", "differs"] in rows
    assert any(row[:2] == [subjects.RECORDS, "max_age"] and row[-1] == "differs" for row in rows)

    assert main([*arguments, "--json"]) == 1
    items = {each["name"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())}
    assert items[subjects.TASKS]["drifted"] is True
    assert items[subjects.SCHEDULE]["drifted"] is False
    assert main(["streams", "apply", "--nats", applied.url]) == 0
    capsys.readouterr()
    assert main(arguments) == 0
