"""JetStream's API over a connection, and what each refusal becomes."""

import asyncio
import time

import pytest

from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.streams.submitter import Submitter
from agentflow.bus.wire.connection import BUFFER_BYTES
from agentflow.bus.wire.message import Message
from agentflow.errors import NoAnswer, NoStream, NotFound, Refused, StreamFull, WrongSequence
from agentflow.protocol import headers as blocks
from agentflow.protocol import subjects
from tests.support.bus import WITHIN, connected, freeze, happens, provisioned, submit
from tests.support.nats_server import NatsServer


async def small_stream(js: JetStream, **config: object) -> None:
    await js.api(
        "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True, **config}
    )


async def test_store_answers_with_stream_and_sequence(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        acks = [await js.store("s.a", b"x") for _ in range(2)]
        assert [(ack.stream, ack.seq, ack.duplicate) for ack in acks] == [
            ("S", 1, False),
            ("S", 2, False),
        ]
        block = blocks.encode({"Nats-Msg-Id": "one"})
        again = [await js.store("s.a", b"x", block) for _ in range(2)]
        assert [(ack.seq, ack.duplicate) for ack in again] == [(3, False), (3, True)]


async def test_refusals_have_a_kind_and_a_code(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js, max_msgs=1, discard="new")
        await js.store("s.a", b"x")
        with pytest.raises(StreamFull) as full:
            await js.store("s.b", b"x")
        assert full.value.code == 10077
        expected = blocks.encode({"Nats-Expected-Last-Subject-Sequence": "7"})
        with pytest.raises(WrongSequence) as wrong:
            await js.store("s.a", b"x", expected)
        assert wrong.value.code == 10071
        with pytest.raises(NoStream, match=r"nothing answers on elsewhere"):
            await js.store("elsewhere", b"x")
        with pytest.raises(NotFound) as missing:
            await js.stream_info("MISSING")
        assert missing.value.code == 10059
        with pytest.raises(Refused, match=r"STREAM\.CREATE\.T") as refused:
            await js.api("STREAM.CREATE.T", {"name": "T", "unknown": 1})
        assert refused.value.code == 10025


@pytest.mark.parametrize("answer", [b"", b"ok", b"{}", b"[]", b'{"seq":"x"}', b"\xff"])
async def test_a_stranger_that_answers_for_a_stream_is_no_proof(
    nats_server: NatsServer, answer: bytes
) -> None:
    """A core subscriber may answer before the stream does; its word must count for nothing."""
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        js = JetStream(connection)
        other.listen("a.b", lambda message: other.publish(message.reply, answer))
        other.listen("$JS.API.STREAM.*.>", lambda message: other.publish(message.reply, answer))
        await other.flush()
        with pytest.raises(NoAnswer, match="is not JetStream"):
            await js.store("a.b", b"x")


async def test_leader_reads(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        block = blocks.encode({"A": "b"})
        for number, subject in enumerate(("s.a.1", "s.b.1", "s.a.2")):
            await js.store(subject, b"%d" % number, block)
        last = await js.last("S", "s.a.*")
        assert last is not None
        assert (last.subject, last.sequence, last.data, last.headers) == (
            "s.a.2",
            3,
            b"2",
            {"A": "b"},
        )
        second = await js.get("S", 2)
        assert second is not None
        assert second.subject == "s.b.1"
        after = await js.next_after("S", 2, "s.a.*")
        assert after is not None
        assert after.sequence == 3
        assert await js.last("S", "s.c.*") is None
        assert await js.get("S", 9) is None
        assert await js.next_after("S", 4, "s.a.*") is None
        # An absent stream is no empty log.
        with pytest.raises(NotFound):
            await js.last("MISSING", "s.a.*")
        assert await js.delete("S", 2)
        assert not await js.delete("S", 2)
        assert await js.purge("S", "s.a.>") == 2
        assert await js.purge("S", "s.a.>") == 0


async def test_a_direct_read_is_not_led_astray_by_stored_headers(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        forged = {"Nats-Subject": "other", "Nats-Sequence": "99", "Nats-Time-Stamp": "never"}
        await js.store("s.a", b"x", blocks.encode(forged))
        found = await js.direct("S", "s.a")
        exact = await js.last("S", "s.a")
        assert found is not None
        assert exact is not None
        assert (found.subject, found.sequence, found.data) == ("s.a", 1, b"x")
        assert abs((found.time - exact.time).total_seconds()) < 1e-5
        assert await js.direct("S", "s.b") is None
        with pytest.raises(NoStream):
            await js.direct("MISSING", "s.a")


async def test_a_stopped_server_is_no_answer(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        freeze(nats_server)
        for call in (
            js.store("s.a", b"x", timeout=0.05),
            js.last("S", "s.a", timeout=0.05),
            js.api("INFO", timeout=0.05),
        ):
            with pytest.raises(NoAnswer, match="no answer on"):
                await call
        nats_server.resume()
        # The store was read late, and is there all the same.
        async with asyncio.timeout(10):
            while await js.last("S", "s.a") is None:
                await asyncio.sleep(0.01)


async def test_many_consumers_are_listed(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        names = [f"c{number}" for number in range(260)]
        await asyncio.gather(
            *(
                js.api(
                    f"CONSUMER.CREATE.S.{name}",
                    {"stream_name": "S", "config": {"durable_name": name, "ack_policy": "none"}},
                )
                for name in names
            )
        )
        assert sorted(each["name"] for each in await js.consumers("S")) == sorted(names)


async def test_the_servers_clock_is_measured(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        js.clock_offset = 1e6
        await js.stream_info("S")
        assert abs(js.clock_offset) < 5


async def test_the_servers_time_goes_on_when_this_machines_clock_is_set(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js)
        await js.stream_info("S")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
        assert abs(js.now().timestamp() - real()) < 60
        await js.stream_info("S")
        assert abs(js.now().timestamp() - real()) < 60


async def test_submitting_waits_while_the_queue_is_full(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        config = (await js.stream_info(subjects.TASKS))["config"]
        await js.api(f"STREAM.UPDATE.{subjects.TASKS}", {**config, "max_msgs": 1})
        await submit(js, "a")
        submitter = Submitter(js)
        with pytest.raises(StreamFull):
            await submitter.submit("default", "normal", b"b", {}, patience=0)
        tried: list[Message] = []
        connection.listen(subjects.task("default"), tried.append)
        waiting = asyncio.create_task(submitter.submit("default", "normal", b"b", {"A": "b"}))
        await happens(lambda: tried)
        await js.delete(subjects.TASKS, 1)
        ack = await waiting
        stored = await js.get(subjects.TASKS, ack.seq)
        assert stored is not None
        assert (stored.data, stored.headers) == (b"b", {"A": "b"})


async def test_a_burst_of_requests_is_bounded_and_complete(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = JetStream(connection)
        await small_stream(js, storage="memory")
        most = 0

        async def store() -> int:
            ack = await js.store("s.a", bytes(400_000), timeout=WITHIN)
            return ack.seq

        storing = asyncio.gather(*(store() for _ in range(60)))
        while not storing.done():
            most = max(most, connection.raw.buffered)
            await asyncio.sleep(0)
        assert sorted(await storing) == list(range(1, 61))
        assert 0 < most <= BUFFER_BYTES + 500_000
