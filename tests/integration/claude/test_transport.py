"""The way to the API: many at once, proxies, certificates, connections that end."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import UsageError
from agentflow.handlers.claude.handler import ClaudeHandler
from agentflow.rules.retry import Signal
from agentflow.simulator import Simulator

from .conftest import KEY, failure_of, run_of, started

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]

EVENTS = (
    b'data: {"type":"message_start","message":{"id":"m","model":"claude-opus-5-5",'
    b'"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":5}}\n\n'
    b'data: {"type":"message_stop"}\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def request(reader: asyncio.StreamReader) -> bytes:
    """The head of a request; its body is read as well."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            await reader.readexactly(int(line.split(b": ")[1]))
    return head


def whole(body: bytes, lines: bytes = b"") -> bytes:
    return HEAD + lines + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Call it for the address of a server that answers connections with a function of the test."""
    servers: list[asyncio.Server] = []

    async def start(answer: Answer, *, tls: ssl.SSLContext | None = None) -> str:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await answer(b"", reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem and s.pem/s.key for localhost, signed by it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "ext").write_text("subjectAltName=DNS:localhost")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout s.key -out s.csr",
        "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile ext"
        " -out s.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def server_context(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "s.pem", certificates / "s.key")
    return context


async def always(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await request(reader):
        writer.write(whole(EVENTS))
        await writer.drain()


class TestManyAtOnce:
    async def test_more_than_the_connector_has_by_itself(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        simulator.set_mode({"fault": "hang"})
        calls = [asyncio.ensure_future(handler(run_of())) for _ in range(300)]
        await simulator.wait_for(lambda: simulator.log.in_flight == 300)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await simulator.wait_for(lambda: simulator.log.connections == 0)

    async def test_an_answer_that_is_read_leaves_its_connection_to_the_next(
        self, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        for _ in range(3):
            await asyncio.gather(*(handler(run_of()) for _ in range(10)))
        assert simulator.stats().connections_total <= 10

    async def test_a_request_that_fails_leaves_nothing_behind(
        self, free_port: Callable[[], int], simulator: Simulator
    ) -> None:
        async with started(base_url=f"http://127.0.0.1:{free_port()}") as handler:
            for _ in range(3):
                error = await failure_of(handler, run_of())
                assert error.signal == Signal(exception="connection")
            assert handler.pools()[handler.pool]["sonnet"]["in_flight"] == 0


class TestConnections:
    async def test_one_that_a_balancer_closed_meanwhile_is_not_used_again(
        self, serve: Serve
    ) -> None:
        async def once(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            await request(reader)
            writer.write(whole(EVENTS))
            await writer.drain()

        async with started(base_url=await serve(once)) as handler:
            for _ in range(5):
                assert (await handler(run_of())).text == "Hi"
                await asyncio.sleep(0.01)

    @pytest.mark.parametrize("encoding", ["gzip", "identity"])
    async def test_encodings(self, encoding: str, serve: Serve) -> None:
        async def packed(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            head = await request(reader)
            assert b"gzip" in head.lower().split(b"accept-encoding: ")[1].split(b"\r\n")[0]
            body = gzip.compress(EVENTS) if encoding == "gzip" else EVENTS
            writer.write(whole(body, f"content-encoding: {encoding}\r\n".encode()))

        async with started(base_url=await serve(packed)) as handler:
            assert (await handler(run_of())).text == "Hi"

    async def test_a_header_of_many_bytes_costs_no_answer(self, serve: Serve) -> None:
        async def wordy(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            await request(reader)
            writer.write(whole(EVENTS, b"x-policy: " + b"p" * 60_000 + b"\r\n"))

        async with started(base_url=await serve(wordy)) as handler:
            assert (await handler(run_of())).text == "Hi"

    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
    async def test_a_peer_that_takes_nothing_is_not_waited_for(self, serve: Serve) -> None:
        async def deaf(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            writer.transport.pause_reading()
            await asyncio.sleep(30)

        url = await serve(deaf)
        async with started(base_url=url, stall=1.0) as handler:
            async with asyncio.timeout(20):
                error = await failure_of(handler, run_of(prompt="x" * 30_000_000))
        assert error.signal.exception in ("dropped", "stalled")

    async def test_a_name_that_is_none_was_never_sent(self) -> None:
        async with started(base_url="http://nobody.invalid") as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="connection")

    async def test_plain_http_where_tls_is_expected_was_never_sent(self, serve: Serve) -> None:
        url = await serve(always)
        async with started(base_url=url.replace("http:", "https:")) as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="connection")

    @pytest.mark.parametrize("end", ["open", "pings", "reset", "error", "garbage"])
    @pytest.mark.parametrize("last", [True, False], ids=["message_stop", "stop_reason"])
    async def test_a_complete_answer_is_taken_whatever_the_connection_does(
        self,
        end: str,
        last: bool,
        handler: ClaudeHandler,
        simulator: Simulator,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("agentflow.handlers.claude.handler.LAST_EVENT", 0.3)
        body = EVENTS.decode() if last else EVENTS.decode().rsplit("data:", 1)[0]
        more = {
            "open": [],
            "pings": [{"type": "ping"}] * 100,
            "reset": [],
            "error": [{"type": "error", "error": {"type": "overloaded_error"}}],
            "garbage": ["data: {garbage\n\n"],
        }[end]
        after = {"open": "hang", "reset": "reset"}.get(end, "end")
        raw = {"pieces": [body, *more], "end": after, "gap": 0.02}
        simulator.set_mode({"raw": raw})
        run = run_of()
        async with asyncio.timeout(5):
            outcome = await handler(run)
        assert (outcome.text, outcome.stop_reason) == ("Hi", "end_turn")
        assert run.usage.output_tokens == 5
        assert run.cost_micro == 9 * 4 + 5 * 20
        assert run.assumed == (
            ["content_block_start"] if last else ["content_block_start", "message_stop"]
        )
        assert simulator.stats().requests == 1

    @pytest.mark.parametrize("end", ["end", "close", "reset"])
    async def test_events_without_blank_lines_are_read_when_the_connection_breaks(
        self, end: str, handler: ClaudeHandler, simulator: Simulator
    ) -> None:
        body = EVENTS.decode().replace("\n\n", "\n")
        simulator.set_mode({"raw": {"pieces": [body], "end": end, "hold": 0.05}})
        assert (await handler(run_of())).text == "Hi"


class TestTls:
    async def test_a_private_authority(
        self, certificates: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = await serve(always, tls=server_context(certificates))
        async with started(base_url=url) as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="connection")
        assert "certificate" in error.failure.message.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
        async with started(base_url=url) as handler:
            assert (await handler(run_of())).text == "Hi"

    async def test_cancelling_hangs_up_at_once(
        self, certificates: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = asyncio.Event()

        async def talks(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            await request(reader)
            writer.write(HEAD + b"\r\n" + EVENTS.split(b"\n\n")[0] + b"\n\n")
            await writer.drain()
            await reader.read()
            gone.set()

        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
        url = await serve(talks, tls=server_context(certificates))
        async with started(base_url=url) as handler:
            call = asyncio.ensure_future(handler(run_of()))
            await asyncio.sleep(0.3)
            call.cancel()
            async with asyncio.timeout(1):
                await gone.wait()
            with pytest.raises(asyncio.CancelledError):
                await call


@pytest.mark.filterwarnings("ignore:.*uth.* is deprecated:DeprecationWarning")  # as the SDK calls
class TestProxies:
    @pytest.fixture(autouse=True)
    def _none_of_the_machines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)

    async def test_a_request_goes_through_it(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heads: list[bytes] = []

        async def proxy(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            heads.append(await request(reader))
            writer.write(whole(EVENTS))

        address = await serve(proxy)
        monkeypatch.setenv("HTTP_PROXY", address.replace("//", "//me:hidden-password-1@"))
        async with started(base_url="http://api.invalid") as handler:
            assert (await handler(run_of())).text == "Hi"
        assert heads[0].startswith(b"POST http://api.invalid/v1/messages HTTP/1.1")
        assert b"Proxy-Authorization: Basic " in heads[0]

    async def test_an_encrypted_one_goes_through_a_tunnel(
        self, certificates: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
        target = await serve(always, tls=server_context(certificates))
        asked: list[bytes] = []

        async def tunnel(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            there, to = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65_536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, to), pump(there, writer))

        monkeypatch.setenv("HTTPS_PROXY", await serve(tunnel))
        async with started(base_url=target) as handler:
            assert (await handler(run_of())).text == "Hi"
        assert asked[0].startswith(b"CONNECT localhost:")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_one_that_wants_to_know_who_asks(
        self, scheme: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refuses(_: bytes, reader: asyncio.StreamReader, writer: Any) -> None:
            await request(reader)
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n"
                b"proxy-authenticate: Basic\r\n\r\n"
            )

        proxy = (await serve(refuses)).replace("//", "//me:hidden-password-1@")
        monkeypatch.setenv(f"{scheme}_proxy", proxy)
        async with started(base_url=f"{scheme}://api.invalid") as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="connection")
        assert "407" in error.failure.message
        assert "hidden" not in error.failure.message

    async def test_one_that_is_not_there(
        self, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
        async with started(base_url="https://api.invalid") as handler:
            error = await failure_of(handler, run_of())
        assert error.signal == Signal(exception="connection")

    async def test_what_needs_none_goes_without(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with started(base_url=simulator.url) as handler:
            assert (await handler(run_of())).stop_reason == "end_turn"

    async def test_socks_says_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "socks5://me:hidden-password-1@127.0.0.1:1")
        with pytest.raises(UsageError, match=r"SOCKS proxy.*pip install socksio") as caught:
            await ClaudeHandler(api_key=KEY).start()
        assert "hidden" not in str(caught.value)
