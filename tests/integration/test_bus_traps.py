"""nats-py's traps, one test or more each; docs/nats-py.md is the table to them."""

import ast
import asyncio
import os
import signal
import socket
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from agentflow.bus.streams import puller
from agentflow.bus.wire import dial
from agentflow.bus.wire.client import MendedClient
from agentflow.bus.wire.connection import BUFFER_BYTES
from agentflow.bus.wire.message import Message
from agentflow.bus.wire.service import Service
from agentflow.errors import (
    NoAnswer,
    NotConnected,
    PayloadTooLarge,
    PermissionDenied,
    UsageError,
    WrongSequence,
)
from agentflow.log.task import TaskLog
from agentflow.protocol import headers as blocks
from agentflow.protocol import streams, subjects
from tests.support.bus import (
    WITHIN,
    Station,
    claim,
    connected,
    core_request,
    freeze,
    happens,
    provisioned,
    restarted,
    stream_has,
    submit,
)
from tests.support.nats_server import NatsServer

ROOT = Path(__file__).resolve().parents[2]


def fill(raw: MendedClient, megabytes: int) -> None:
    """Put so much into the write buffer that a stopped server leaves most of it there."""
    for _ in range(megabytes):
        raw.send("filling", "", b"", bytes(1_000_000))


# 1. A late or cancelled flush or rtt kills the read loop.


async def test_late_and_cancelled_flushes_leave_the_connection_able_to_hear(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as connection:
        freeze(nats_server)
        with pytest.raises(NoAnswer, match="did not confirm"):
            await connection.flush(0.05)
        cancelled = asyncio.create_task(connection.flush())
        await asyncio.sleep(0)
        cancelled.cancel()
        for late in (connection.raw.flush(timeout=1), connection.raw.rtt(timeout=1)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(late, 0.05)
        nats_server.resume()
        await core_request(connection)
        await connection.flush()
        assert cancelled.cancelled()
        assert connection.reconnects == 0


# 2. Any -ERR but two closes the client for good; too large with headers is one.


async def test_a_message_too_large_with_its_headers_is_not_sent(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        block = blocks.encode({"A": "b"})
        fits = bytes(connection.max_payload - len(block))
        connection.publish("anything", fits, block=block)
        with pytest.raises(PayloadTooLarge, match="max_payload"):
            connection.publish("anything", fits + b"x", block=block)
        await core_request(connection)
        assert connection.reconnects == 0


@pytest.mark.parametrize("cause", ["too large", "unknown command"])
async def test_a_client_closed_for_good_is_replaced_with_its_subscriptions(
    nats_server: NatsServer, cause: str
) -> None:
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        heard: list[bytes] = []
        connection.listen("news", lambda message: heard.append(message.data))
        old = connection.raw

        def provoke() -> None:
            if cause == "too large":
                old.send("anything", "", blocks.encode({"A": "b"}), bytes(connection.max_payload))
            else:
                old._write(b"NONSENSE\r\n")

        back = asyncio.Event()
        connection.on_connect(back.set)
        asked = connection.ask("nobody.answers.this.before", timeout=WITHIN)
        provoke()
        async with asyncio.timeout(WITHIN):
            await back.wait()
        await connection.flush()
        other.publish("news", b"heard")
        await happens(lambda: heard)
        assert connection.raw is not old
        assert old.is_closed
        assert connection.reconnects == 1
        assert asked.done()


async def test_a_dead_reader_or_writer_is_noticed(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        for task in ("_reading_task", "_flusher_task"):
            old = connection.raw
            back = asyncio.Event()
            remove = connection.on_connect(back.set)
            getattr(old, task).cancel()
            async with asyncio.timeout(WITHIN):
                await back.wait()
            remove()
            assert connection.raw is not old
            await core_request(connection)


# 3. Reconnecting ends after sixty attempts.


async def test_reconnecting_never_ends(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        nats_server.kill()
        pool = connection.raw._server_pool
        # More attempts than the first connection is allowed.
        await happens(lambda: pool[0].reconnects > 3)
        assert not connection.connected.is_set()
        assert connection.last_error == "connection refused"
        await restarted(connection, nats_server.start)
        await core_request(connection)


# 4. A pull is lost when the server restarts, and nobody notices.


async def test_pulls_go_on_after_kill_9(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=4) as station:
            await happens(lambda: len(station.puller._lingering) == 3)
            nats_server.kill()
            await happens(lambda: not connection.connected.is_set())
            await restarted(connection, nats_server.start)
            await core_request(connection)
            # Well before the watchdog would ask again.
            async with asyncio.timeout(puller.SILENCE / 2):
                await submit(js, "a")
                await station.got(1)


async def test_a_request_the_server_forgot_is_asked_again(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(puller, "HEARTBEAT", 0.2)
    monkeypatch.setattr(puller, "SILENCE", 0.5)
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        async with Station(connection, slots=4) as station:
            await happens(lambda: station.puller._linger_inbox)
            inbox = station.puller._linger_inbox
            assert inbox is not None
            # No interest for a moment: the server drops the request and says nothing.
            connection.raw._write(b"UNSUB %d\r\n" % inbox._sid)
            await submit(js, "a")
            connection.raw._write(f"SUB {inbox.subject} {inbox._sid}\r\n".encode())
            await station.got(1)
            assert station.held[0].delivered <= 2


# 5. KV watches and ordered consumers stand still after a restart.


async def test_live_copies_come_again_after_kill_9(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        copies: list[Message] = []
        connection.listen("agentflow.live.>", copies.append)
        nats_server.kill()
        await restarted(connection, nats_server.start)
        await core_request(connection)
        await TaskLog(js, "w").append(claim())
        await happens(lambda: copies)
        assert copies[0].subject == "agentflow.live.progress.t1"


# 6. Ordered consumers read only the first form of ack subjects.


@pytest.mark.parametrize("nats_server", ["feature_flags { js_ack_fc_v2: true }"], indirect=True)
async def test_the_second_form_of_ack_subjects_is_read(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        await submit(js, "a", "b")
        async with Station(connection, slots=4) as station:
            await station.got(2)
            first = station.held[0]
            assert len(first.message.reply.split(".")) > 10
            stored = await js.get(subjects.TASKS, first.sequence)
            assert stored is not None
            assert (stored.data, first.consumer, first.delivered) == (b"a", "default-normal", 1)
            assert abs(stored.time.timestamp() - first.stored_ns / 1e9) < 1e-5
            station.finish()
            station.finish()
            await stream_has(js, subjects.TASKS, 0)


# 7. What is published without a connection is buffered, fails, and is delivered later.


async def test_what_was_not_written_is_never_sent_later(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        freeze(nats_server)
        fill(connection.raw, 30)
        await asyncio.sleep(0)  # it goes to the socket, and what comes now waits behind it
        asked = [connection.ask(subjects.task("default"), b"late %d" % at) for at in range(5)]
        nats_server.kill()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NoAnswer] * 5
        with pytest.raises(NotConnected):
            connection.publish(subjects.task("default"), b"later")
        await restarted(connection, nats_server.start)
        await core_request(connection)
        await submit(js, "after")
        info = await js.stream_info(subjects.TASKS)
        assert info["state"]["messages"] == 1


# 8. An answer that is lost is awaited for ever, and its place in the window never comes back.


async def test_lost_answers_leave_nothing_behind(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        freeze(nats_server)
        asked = [connection.ask("$JS.API.INFO", timeout=WITHIN) for _ in range(500)]
        nats_server.kill()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {NoAnswer}
        assert len({id(answer) for answer in answers}) == 500
        assert not len(connection._answers)
        await restarted(connection, nats_server.start)
        await core_request(connection)


async def test_cancelled_requests_leave_nothing_behind(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        freeze(nats_server)
        tasks = [
            asyncio.create_task(connection.request("$JS.API.INFO", timeout=600)) for _ in range(50)
        ]
        await happens(lambda: len(connection._answers) == 50)
        for task in tasks:
            task.cancel()
        await happens(lambda: not len(connection._answers))
        nats_server.resume()
        await core_request(connection)


# 9. A cancellation is swallowed while the write buffer is full.


async def test_a_cancelled_sender_is_cancelled(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        freeze(nats_server)
        fill(connection.raw, 20)
        await asyncio.sleep(0)  # the first are handed to the socket, which takes no more
        fill(connection.raw, 2 * BUFFER_BYTES // 1_000_000)
        sender = asyncio.create_task(connection.request("anything", b"x"))
        listener = asyncio.create_task(connection.subscribe("anything.else", lambda message: None))
        await happens(lambda: connection.raw._flushes)
        await listener
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        with pytest.raises(NoAnswer):
            await connection.request("anything", b"x", timeout=0.05)
        nats_server.resume()
        await core_request(connection)


# 10. Callbacks run one after the other, and what a slow one leaves is dropped in silence.


async def test_every_message_reaches_its_callback_in_order(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        heard: list[int] = []
        connection.listen("numbers", lambda message: heard.append(int(message.data)))
        for number in range(20_000):
            connection.publish("numbers", b"%d" % number)
        await connection.flush(WITHIN)
        assert heard == list(range(20_000))
        assert all(not sub.pending_msgs for sub in connection.raw._subs.values())


async def test_a_failing_callback_costs_its_own_message_only(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as connection:
        heard: list[bytes] = []

        def callback(message: Message) -> None:
            if message.data == b"bad":
                raise ValueError("no")
            heard.append(message.data)

        connection.listen("news", callback)
        for data in (b"1", b"bad", b"2"):
            connection.publish("news", data)
        await connection.flush()
        assert heard == [b"1", b"2"]
        assert "a callback failed on news" in caplog.text


@pytest.mark.parametrize("nats_server", ['write_deadline: "100ms"'], indirect=True)
async def test_a_process_that_stood_still_is_cut_off_and_comes_back(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as connection:
        heard: list[Message] = []
        connection.listen("flood", heard.append)
        await connection.flush()
        cut_off = threading.Event()

        def flood() -> None:
            data = b"x" * 1_000_000
            with socket.create_connection(("127.0.0.1", nats_server.port)) as line:
                line.sendall(b'CONNECT {"verbose":false}\r\n')
                while not cut_off.is_set():
                    line.sendall(b"PUB flood %d\r\n" % len(data) + data + b"\r\n")
                    cut_off.set() if "Slow Consumer" in nats_server.log.read_text() else None

        flooding = threading.Thread(target=flood)
        back = asyncio.Event()
        connection.on_connect(back.set)
        flooding.start()
        cut_off.wait(WITHIN)  # the loop stands still meanwhile
        flooding.join()
        async with asyncio.timeout(WITHIN):
            await back.wait()
        heard.clear()
        connection.publish("flood", b"again")
        await happens(lambda: heard)


async def test_a_subject_that_is_no_text_costs_its_own_message_only(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as connection:
        heard: list[Message] = []
        connection.listen("news.>", heard.append)
        connection.raw._write(b"PUB news.\xff\xfe 1\r\nx\r\n")
        connection.raw._write(b"HPUB news.\xff\xfe 12 13\r\nNATS/1.0\r\n\r\nx\r\n")
        connection.publish("news.good")
        await connection.flush()
        odd = r"news.\xff\xfe"
        assert [message.subject for message in heard] == [odd, odd, "news.good"]
        assert connection.reconnects == 0


# 11. Keys with expiry markers read as absent and cannot be created.


async def test_a_key_that_expired_can_be_taken_at_once(nats_server: NatsServer) -> None:
    assert all("subject_delete_marker_ttl" not in stream for stream in streams.streams())
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        block = blocks.encode({"Nats-TTL": "1", "Nats-Expected-Last-Subject-Sequence": "0"})
        await js.store(subjects.kv("lease.x"), b"first", block)
        with pytest.raises(WrongSequence):
            await js.store(subjects.kv("lease.x"), b"second", block)
        async with asyncio.timeout(WITHIN):
            while await js.last(subjects.KV_STREAM, subjects.kv("lease.x")) is not None:
                await asyncio.sleep(0.02)
        await js.store(subjects.kv("lease.x"), b"second", block)


# 12, and structurally 5, 8, 11, 15 and 18: what is not used cannot hurt.


def test_nothing_of_nats_pys_jetstream_or_kv_is_used() -> None:
    used = set()
    for path in (ROOT / "agentflow/bus").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names if alias.name.startswith("nats")}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nats"):
                used.add(str(node.module))
            elif isinstance(node, ast.Attribute):
                assert node.attr not in {"jetstream", "jsm", "drain"}, path
    assert used <= {
        "nats.aio.client",
        "nats.aio.subscription",
        "nats.errors",
        "nats.micro",
        "nats.micro.request",
        "nats.micro.service",
        "nats.protocol.parser",
    }


# 13. What is not permitted looks like a timeout.

LIMITED = """
authorization { users: [
  { user: boss, password: secret }
  { user: limited, password: secret, permissions: {
      publish: { allow: ["$JS.API.INFO", "allowed.>"] }, subscribe: ["_INBOX.>", "allowed.>"] } }
  { user: deaf, password: secret, permissions: { publish: ">", subscribe: ["_INBOX_deaf.>"] } }
] }
"""


@pytest.mark.parametrize("nats_server", [LIMITED], indirect=True)
async def test_what_is_denied_fails_at_once_and_alone(nats_server: NatsServer) -> None:
    async with (
        connected(nats_server.url, user="limited", password="secret") as connection,
        connected(nats_server.url, user="boss", password="secret") as boss,
    ):
        asked = asyncio.Event()
        boss.listen("allowed.slow", lambda message: asked.set())
        await boss.flush()
        slow = connection.ask("allowed.slow", timeout=WITHIN)
        denied = connection.ask("Forbidden.Thing", timeout=WITHIN)
        with pytest.raises(PermissionDenied, match=r"publish to Forbidden\.Thing"):
            await denied
        await asked.wait()
        assert not slow.done()
        await core_request(connection)


@pytest.mark.parametrize("nats_server", [LIMITED], indirect=True)
async def test_subjects_that_differ_in_case_only_are_not_mixed_up(nats_server: NatsServer) -> None:
    async with connected(nats_server.url, user="limited", password="secret") as connection:
        # nats-py lower-cases the server's words, so which one was meant cannot be known.
        twins = [connection.ask(name, timeout=0.3) for name in ("Forbidden", "forbidden")]
        for twin in twins:
            with pytest.raises(NoAnswer):
                await twin


@pytest.mark.parametrize("nats_server", [LIMITED], indirect=True)
async def test_a_denied_inbox_is_named_when_connecting(nats_server: NatsServer) -> None:
    with pytest.raises(PermissionDenied, match=r"may not subscribe to _INBOX\.>"):
        async with connected(nats_server.url, user="deaf", password="secret"):
            pass
    async with connected(
        nats_server.url, user="deaf", password="secret", inbox_prefix="_INBOX_deaf"
    ) as connection:
        await core_request(connection)


# 14. Answers echo the headers of the request, and sending changes the caller's own.


async def test_answers_carry_no_headers_of_the_request(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:

        async def endpoint(data: bytes, headers: object) -> bytes:
            return data.upper()

        service = Service(
            connection, name="s", version="1.0.0", description="d", endpoints={"up.now": endpoint}
        )
        await service.start()
        block = blocks.encode({"Nats-Msg-Id": "x", "Secret": "y"})
        kept = bytes(block)
        answer = await connection.request("up.now", b"a", block=block)
        assert (answer.data, answer.headers, block) == (b"A", {}, kept)
        await service.stop()


async def test_a_value_cannot_become_a_header_nor_a_subject_a_command(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as connection:
        heard: list[Message] = []
        connection.listen("news", heard.append)
        connection.publish("news", b"", block=blocks.encode({"A": "b\r\nNats-Rollup: all\n\rC: d"}))
        for subject in ("news 0\r\n\r\nPUB x", "a b", "a\tb", "", "x" * 5000, "a\ud800"):
            with pytest.raises(UsageError, match="not a subject"):
                connection.publish(subject)
        for subject in ("a..b", "a b", ".a", ""):
            with pytest.raises(UsageError, match="not a subject"):
                connection.listen(subject, heard.append)
        await connection.flush()
        assert [message.headers for message in heard] == [{"A": "b  Nats-Rollup: all  C: d"}]
        assert connection.reconnects == 0


# 15. Callbacks ack by themselves.


async def test_nothing_is_acked_by_itself(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        js = await provisioned(connection)
        await submit(js, "a", "b", "c")
        async with Station(connection, slots=10) as station:
            await station.got(3)
            await connection.flush()
            info = await js.consumer_info(subjects.TASKS, "default-normal")
            assert info["num_ack_pending"] == 3
            station.finish()
            await stream_has(js, subjects.TASKS, 2)


# 16. Draining waits for callbacks and for the server, for ever.


@pytest.mark.parametrize("state", ["stopped", "gone"])
async def test_closing_waits_for_nobody(nats_server: NatsServer, state: str) -> None:
    async with asyncio.timeout(WITHIN):
        async with connected(nats_server.url) as connection:
            asked = connection.ask("nobody", timeout=600)
            if state == "stopped":
                freeze(nats_server)
                fill(connection.raw, 30)
            else:
                nats_server.kill()
                await happens(lambda: not connection.connected.is_set())
        with pytest.raises((NoAnswer, NotConnected)):
            await asked
        with pytest.raises(NotConnected, match="was closed"):
            connection.publish("anything")


async def test_what_was_published_before_closing_arrives(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as other:
        heard: list[Message] = []
        other.listen("news", heard.append)
        await other.flush()
        async with connected(nats_server.url) as connection:
            for _ in range(1000):
                connection.publish("news", b"x" * 1000)
        await other.flush()
        assert len(heard) == 1000


# 17. Ctrl-C cancels nats-py's own tasks before Python 3.11.

INTERRUPTED = """
import asyncio, sys
from agentflow.bus.wire.connection import Connection
from agentflow.bus.streams.jetstream import JetStream
from agentflow.config import Connect

async def main():
    connection = await Connection.open(Connect(urls=(sys.argv[1],)))
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        await JetStream(connection).api("INFO")
        await connection.close()
        print("in order", flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(3)
"""


async def test_ctrl_c_leaves_the_connection_usable_for_an_orderly_end(
    nats_server: NatsServer,
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INTERRUPTED, nats_server.url),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN):
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert await process.stdout.read() == b"in order\n"
        assert await process.wait() == 3


# 18. Pulling asks for the consumer's description each time, and needs permission for it.

PULLER_ONLY = """
authorization { users: [
  { user: boss, password: secret }
  { user: puller, password: secret, permissions: {
      publish: ["$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.*", "$JS.ACK.AGENTFLOW_TASKS.>"],
      subscribe: ["_INBOX.>"] } }
] }
"""


@pytest.mark.parametrize("nats_server", [PULLER_ONLY], indirect=True)
async def test_pulling_needs_no_permission_but_to_pull(nats_server: NatsServer) -> None:
    async with (
        connected(nats_server.url, user="boss", password="secret") as boss,
        connected(nats_server.url, user="puller", password="secret") as connection,
    ):
        js = await provisioned(boss)
        async with Station(connection, slots=1) as station:
            await submit(js, "a", "b")
            await station.got(1)
            station.finish()
            await station.got(2)
            station.finish()
            await stream_has(js, subjects.TASKS, 0)
            assert not station.mended


# Found since.


async def test_a_flush_says_that_all_before_it_was_read(nats_server: NatsServer) -> None:
    """nats-py writes the PING past what its own buffer still holds."""
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        heard: list[Message] = []
        other.listen("news", heard.append)
        await other.flush()
        for flush in (connection.flush, connection.raw.flush):
            heard.clear()
            fill(connection.raw, 20)
            connection.publish("news")
            await flush()
            await other.flush()
            assert heard


async def test_a_server_that_takes_nothing_more_is_left_for_another(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py closes a lost connection in order, which waits for the peer to read."""
    monkeypatch.setattr(dial, "PING_EVERY", 0.1)
    second = NatsServer(tmp_path / "second")
    try:
        async with connected(nats_server.url, "nats://127.0.0.1:1") as connection:
            assert connection.server["port"] == nats_server.port
            second.start()
            connection.raw.set_server_pool([nats_server.url, second.url])
            # A loss may last less than the turn of a loop that looks for it.
            back = asyncio.Event()
            connection.on_connect(back.set)
            freeze(nats_server)
            fill(connection.raw, 30)
            async with asyncio.timeout(WITHIN):
                await back.wait()
            assert connection.server["port"] == second.port
            await core_request(connection)
            nats_server.resume()
    finally:
        second.kill()


async def test_a_stopped_server_costs_waiting_and_no_connection(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        freeze(nats_server)
        with pytest.raises(NoAnswer):
            await connection.request("$JS.API.INFO", timeout=0.2)
        slow = connection.ask("$JS.API.INFO", timeout=WITHIN)
        await asyncio.sleep(0)
        nats_server.resume()
        assert (await slow).data
        assert connection.reconnects == 0


async def test_a_loss_is_known_before_anything_else_happens(nats_server: NatsServer) -> None:
    """Between nats-py's noticing and its callback a request would be refused, not wait."""
    async with connected(nats_server.url) as connection:
        moments: list[tuple[bool, int]] = []
        connection.on_disconnect(
            lambda: moments.append((connection.connected.is_set(), len(connection._answers)))
        )
        asked = connection.ask("nobody.listens", timeout=WITHIN)
        await connection.raw._process_op_err(OSError("provoked"))
        assert moments == [(False, 0)]
        with pytest.raises(NoAnswer):
            await asked
        request = asyncio.create_task(connection.request("$JS.API.INFO", timeout=WITHIN))
        assert (await request).data


async def test_a_failing_callback_keeps_no_other_from_a_reconnection(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as connection:
        called: list[str] = []

        def fails() -> None:
            raise ValueError("no")

        async def fails_later() -> None:
            raise ValueError("later")

        for register in (connection.on_connect, connection.on_disconnect):
            register(fails)
            remove = register(lambda: called.append("removed"))
            register(lambda: called.append("x"))
            remove()
            remove()
        connection.on_connect(fails_later)
        nats_server.kill()
        await restarted(connection, nats_server.start)
        await core_request(connection)
        assert called == ["x", "x"]
        assert "nats reconnected failed" in caplog.text


async def test_a_burst_of_restarts_leaves_one_connection(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        heard: list[Message] = []
        connection.listen("news", heard.append)
        for _ in range(4):
            nats_server.kill()
            await asyncio.to_thread(nats_server.start)
        await happens(lambda: connection.connected.is_set() and other.connected.is_set())
        await core_request(connection)
        await core_request(other)
        other.publish("news")
        await other.flush()
        await connection.flush()
        assert len(heard) == 1
