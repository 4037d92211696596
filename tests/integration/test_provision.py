"""Streams and consumers: made where missing, compared, never changed unasked."""

import asyncio

import pytest

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.protocol import limits, streams, subjects
from tests.support.bus import WITHIN, connected, provisioned
from tests.support.nats_server import NatsServer

NAMES = [stream["name"] for stream in streams.streams()]


async def test_what_is_missing_is_made_once(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        missing = await provision.check_streams(js)
        assert [(note.name, note.missing) for note in missing] == [(name, True) for name in NAMES]
        # Several start at once.
        for notes in await asyncio.gather(*(provision.ensure_streams(js) for _ in range(5))):
            assert notes == []
        assert await provision.check_streams(js) == []
        assert await provision.ensure_streams(js) == []


async def test_a_difference_is_told_and_put_right_when_asked(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        config = (await js.stream_info(subjects.TASKS))["config"]
        changed = {**config, "max_age": 3600_000_000_000, "max_msgs": 5_000_000}
        await js.api(f"STREAM.UPDATE.{subjects.TASKS}", changed)
        told = await provision.ensure_streams(js)
        assert [note.name for note in told] == [subjects.TASKS]
        assert "max_age" in told[0].text
        kept = (await js.stream_info(subjects.TASKS))["config"]
        assert kept["max_age"] == 3600_000_000_000
        assert await provision.apply_streams(js) == []
        right = (await js.stream_info(subjects.TASKS))["config"]
        assert right["max_age"] == 0
        assert right["max_msgs"] == 5_000_000  # raised by an administrator, so kept
        assert await provision.check_streams(js) == []


async def test_what_cannot_be_changed_is_told(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        wanted = streams.streams()
        bad = {**wanted[1], "retention": "limits", "sources": []}
        await js.api(f"STREAM.CREATE.{subjects.TASKS}", bad)
        notes = await provision.apply_streams(js)
        assert [note.name for note in notes] == [subjects.TASKS]
        assert "could not be changed" in notes[0].text


WORKER_ONLY = """
authorization { users: [
  { user: boss, password: secret }
  { user: worker, password: secret, permissions: {
      publish: ["$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.*"], subscribe: ["_INBOX.>"] } }
] }
"""


@pytest.mark.parametrize("nats_server", [WORKER_ONLY], indirect=True)
async def test_who_may_not_create_says_so(nats_server: NatsServer) -> None:
    async with connected(nats_server.url, user="worker", password="secret") as connection:
        js = JetStream(connection)
        notes = await provision.ensure_streams(js)
        assert [note.name for note in notes] == NAMES
        assert all(note.missing and "agentflow streams apply" in note.text for note in notes)
        async with connected(nats_server.url, user="boss", password="secret") as boss:
            await provision.ensure_streams(JetStream(boss))
        assert await provision.ensure_streams(js) == []
        notes, _ = await provision.ensure_consumers(js, "default")
        assert len(notes) == 3
        assert all("agentflow streams apply" in note.text for note in notes)


async def test_the_lease_is_the_consumers_until_one_is_given(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await provision.ensure_streams(js)
        assert await provision.ensure_consumers(js, "default") == ([], limits.LEASE)
        assert await provision.ensure_consumers(js, "default", lease=2.0) == ([], 2.0)
        assert await provision.ensure_consumers(js, "default") == ([], 2.0)
        assert len(await js.consumers(subjects.TASKS)) == 3


async def test_a_consumer_that_loses_tasks_is_told(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        found = (await js.consumer_info(subjects.TASKS, "default-high"))["config"]
        body = {
            "stream_name": subjects.TASKS,
            "config": {**found, "max_deliver": 5},
            "action": "update",
        }
        await js.api(f"CONSUMER.CREATE.{subjects.TASKS}.default-high", body)
        notes, _ = await provision.ensure_consumers(js, "default")
        assert [note.name for note in notes] == ["default-high"]
        assert "max_deliver is 5, should be -1" in notes[0].text


async def test_ready_is_awaited_through_a_restart(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        nats_server.kill()
        with pytest.raises(TimeoutError):
            await provision.wait_ready(js, 1.2)
        waiting = asyncio.create_task(provision.wait_ready(js, WITHIN))
        await asyncio.to_thread(nats_server.start)
        await waiting
        assert await provision.check_streams(js) == []
