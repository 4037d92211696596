"""The puller: priorities, turns, slots, and nothing lost when it stops."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from agentflow.bus.streams import puller
from agentflow.bus.streams.jetstream import JetStream
from agentflow.protocol import subjects
from tests.support.bus import (
    WITHIN,
    Station,
    connected,
    core_request,
    happens,
    killed_and_started,
    provisioned,
    stream_has,
    submit,
)
from tests.support.nats_server import NatsServer

WAYS = ("high", "normal", "low")


async def backlog(js: JetStream, count: int, *priorities: str, queue: str = "default") -> None:
    for priority in priorities:
        names = [f"{priority} {number}" for number in range(count)]
        await asyncio.gather(*(submit(js, name, queue=queue, priority=priority) for name in names))


async def work_off(station: Station, count: int) -> list[str]:
    """Finish one delivery at a time until so many came."""
    while len(station.seen) < count:
        before = len(station.seen)
        await station.got(before + (not station.held))
        station.finish()
    return station.seen[:count]


async def test_high_goes_before_normal_before_low_and_none_starves(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        await backlog(js, 80, "low", "normal", "high")
        async with Station(connection, slots=1) as station:
            seen = [text.split()[0] for text in await work_off(station, 80)]
        assert seen[:3] == ["high"] * 3
        counts = Counter(seen)
        assert counts["high"] == 60
        assert counts["normal"] == counts["low"] == 10


async def test_a_high_task_overtakes_a_backlog_of_normal_ones(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puller, "PROBE_EVERY", 0.0)
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        await backlog(js, 30, "normal")
        async with Station(connection, slots=1) as station:
            await work_off(station, 5)
            await submit(js, "urgent", priority="high")
            await work_off(station, 8)
            assert "urgent" in station.seen[5:9]


async def test_the_queues_of_a_priority_take_turns(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection, "a", "b")
        for queue in "ab":
            await backlog(js, 40, "low", "high", queue=queue)
        async with Station(connection, slots=1, queues="ab") as station:
            while len(station.seen) < 64:
                await station.got(len(station.seen) + (not station.held))
                station.seen[-1] += " " + station.held[0].consumer
                station.finish()
        counts = Counter(text.split()[-1] for text in station.seen[:63])
        assert abs(counts["a-high"] - counts["b-high"]) <= 1
        assert abs(counts["a-low"] - counts["b-low"]) <= 1
        assert counts["a-low"] >= 3


async def test_a_queue_that_wakes_up_is_served_beside_a_backlog(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puller, "PROBE_EVERY", 0.0)
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection, "a", "b")
        await backlog(js, 30, "normal", queue="a")
        async with Station(connection, slots=1, queues="ab") as station:
            await work_off(station, 5)
            await submit(js, "b", queue="b")
            await work_off(station, 9)
            assert "b" in station.seen[5:]


async def test_never_more_than_the_slots_and_all_exactly_once(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=7) as station:
            loop = asyncio.get_running_loop()
            finished: list[int] = []

            def finish() -> None:
                finished.append(station.finish().sequence)

            async def finish_soon() -> None:
                started = 0
                while len(finished) < 300:
                    while started < len(station.seen):
                        started += 1
                        loop.call_later(random.random() / 100, finish)
                    await asyncio.sleep(0)

            working = asyncio.create_task(finish_soon())
            for start in range(0, 300, 30):
                batch = [
                    (f"{n}", ("high", "normal", "low")[n % 3]) for n in range(start, start + 30)
                ]
                await asyncio.gather(*(submit(js, text, priority=way) for text, way in batch))
            async with asyncio.timeout(WITHIN):
                await working
            assert station.most <= 7
            assert sorted(station.seen, key=int) == [str(number) for number in range(300)]
            await stream_has(js, subjects.TASKS, 0)


async def test_a_few_free_slots_are_filled_without_waiting_for_many(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        await backlog(js, 100, "normal")
        async with Station(connection, slots=80) as station:
            await station.got(80)
            station.finish()
            await station.got(81)


async def test_a_message_does_not_wander_through_busy_workers(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with AsyncExitStack() as stack:
            stations = [
                await stack.enter_async_context(Station(connection, slots=1)) for _ in range(8)
            ]
            # All idle: each has a request lingering at every priority.
            await happens(lambda: all(len(each.puller._lingering) == 3 for each in stations))
            await backlog(js, 8, "normal")
            await happens(lambda: all(station.held for station in stations))
            await connection.flush()
            await submit(js, "urgent", priority="high")
            # The server acknowledges a message before it tells the consumers of it.
            delivered, pending = 0, 0
            async with asyncio.timeout(WITHIN):
                while not delivered + pending:
                    info = await js.consumer_info(subjects.TASKS, "default-high")
                    delivered, pending = info["delivered"]["consumer_seq"], info["num_pending"]
            assert (delivered, pending) == (0, 1)
            stations[3].finish()
            await stations[3].got(2)
            assert stations[3].held[0].delivered == 1


async def test_surplus_is_handed_back_at_once(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=1) as station:
            await happens(lambda: len(station.puller._lingering) == 3)
            await asyncio.gather(
                *(submit(js, way, priority=way) for way in ("high", "normal", "low"))
            )
            # Within a lease of a minute, all can come only by being handed back.
            await work_off(station, 3)
            assert sorted(station.seen) == ["high", "low", "normal"]
            assert station.most == 1


async def test_stopping_under_load_hands_back_what_was_on_its_way(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        js = await provisioned(other)
        await backlog(js, 400, "normal")
        handled: set[int] = set()
        for _ in range(6):
            async with Station(connection, slots=64) as station:
                await station.got(1)
                for _ in range(len(station.held)):
                    handled.add(station.finish().sequence)
            handled.update(delivered.sequence for delivered in station.held)
            while station.held:
                station.finish()
        async with Station(other, slots=400) as last:
            # Within a lease of a minute, so nothing was left to expire.
            await happens(lambda: len(handled | {each.sequence for each in last.held}) == 400)


async def test_nothing_is_pending_after_an_idle_stop(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=3) as station:
            await submit(js, "a", "b")
            await station.got(2)
            station.finish()
            station.finish()
        await submit(js, "c")
        for name in ("default-high", "default-normal", "default-low"):
            info = await js.consumer_info(subjects.TASKS, name)
            assert (info["num_ack_pending"], info["num_waiting"]) == (0, 0)
        assert not len(connection._on_connect)
        assert len(connection._subscriptions) == 1
        await killed_and_started(connection, nats_server)
        assert station.seen == ["a", "b"]


async def test_pause_and_resume(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=2) as station:
            await submit(js, "a")
            await station.got(1)
            station.puller.pause()
            station.finish()
            await submit(js, "b")
            await connection.flush()
            info = await js.consumer_info(subjects.TASKS, "default-normal")
            assert (info["num_pending"], info["num_waiting"]) == (1, 0)
            await killed_and_started(connection, nats_server)
            await core_request(connection)
            assert station.seen == ["a"]
            station.puller.resume()
            await station.got(2)
            assert station.held[0].delivered == 1


async def test_a_consumer_that_is_not_allowed_is_left_alone(nats_server: NatsServer) -> None:
    shut = {"a-normal"}
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection, "a", "b")
        await submit(js, "a", queue="a")
        async with Station(
            connection, slots=2, queues="ab", allowed=lambda name: name not in shut
        ) as station:
            await submit(js, "b", queue="b")
            await station.got(1)
            shut.clear()
            station.puller.refill()
            await station.got(2)
            station.finish()
            station.finish()
            await happens(lambda: len(station.puller._lingering) == 6)
            shut.add("a-normal")
            station.puller.refill()
            await submit(js, "a", queue="a")
            await submit(js, "b", queue="b")
            await station.got(3)
            assert station.seen == ["b", "a", "b"]


async def test_deleted_consumers_and_streams_are_made_again(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=2) as station:
            await happens(lambda: len(station.puller._lingering) == 3)
            await js.api(f"CONSUMER.DELETE.{subjects.TASKS}.default-normal")
            await submit(js, "a")
            await station.got(1)
            # What is asked while the server deletes is lost, and found by the watchdog only.
            await happens(lambda: len(station.puller._lingering) == 3)
            await connection.flush()
            await js.api(f"STREAM.DELETE.{subjects.TASKS}")
            station.finish()
            await happens(lambda: station.mended >= 2)
            await submit(js, "b")
            await station.got(2)


async def test_a_failing_repair_is_tried_again(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puller, "RETRY", 0.02)
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        station = Station(connection, slots=2)
        repair = station._ensure
        failures = [RuntimeError("once"), TimeoutError("twice")]

        async def ensure() -> None:
            if failures:
                raise failures.pop()
            await repair()

        station.puller._ensure = ensure
        async with station:
            await js.api(f"CONSUMER.DELETE.{subjects.TASKS}.default-normal")
            await submit(js, "a")
            await station.got(1)
            assert not failures


async def test_old_requests_disturb_nothing_after_a_lost_connection(
    nats_server: NatsServer,
) -> None:
    """The server was not restarted: it still knows what was asked before."""
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        js = await provisioned(other)
        async with Station(connection, slots=2) as station:
            for _ in range(5):
                await happens(lambda: len(station.puller._lingering) == 3)
                back = asyncio.Event()
                remove = connection.on_connect(back.set)
                await connection.raw._process_op_err(OSError("cut"))
                async with asyncio.timeout(WITHIN):
                    await back.wait()
                remove()
            await backlog(js, 20, "normal", "high")
            await work_off(station, 40)
            assert station.most <= 2
            while station.held:
                station.finish()
            await stream_has(js, subjects.TASKS, 0)


async def test_no_request_brings_more_bytes_than_a_connection_is_sure_to_take(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker for whom 64 MiB wait is cut off, and its tasks wait for their lease."""
    monkeypatch.setattr(puller, "BULK_BYTES", 100_000)
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        js = await provisioned(connection)
        asked: list[bytes] = []
        api = "$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.default-normal"
        await other.subscribe(api, lambda message: asked.append(message.data))
        await other.flush()
        await submit(js, *("a" * 30_000 for _ in range(21)))
        async with Station(connection, slots=40) as station:
            await station.got(21)
        # Three fit: seven requests with messages.
        assert sum(b"no_wait" in each for each in asked) >= 7
        assert not station.mended


async def test_a_message_larger_than_what_is_asked_for_comes_all_the_same(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puller, "BULK_BYTES", 10_000)
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        await submit(js, "first", "a" * 30_000, "b" * 30_000, "last")
        async with Station(connection, slots=40) as station:
            await station.got(4)
        assert [text[:5] for text in station.seen] == ["first", "aaaaa", "bbbbb", "last"]
        assert not station.mended
