"""Connecting, and what is said when it does not work."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentflow.bus.wire import connection as connections
from agentflow.bus.wire.connection import Connection
from agentflow.bus.wire.message import Message
from agentflow.bus.wire.service import Service
from agentflow.config import Connect
from agentflow.errors import NoAnswer, NoStream, NotConnected, PermissionDenied, UsageError
from agentflow.protocol import headers as blocks
from tests.support.bus import (
    WITHIN,
    connected,
    core_request,
    freeze,
    happens,
    killed_and_started,
    restarted,
)
from tests.support.nats_server import NatsServer, free_port

USERS = "authorization { users: [ { user: u, password: p } ] }"


async def open_error(*urls: str, timeout: float = 2.0, **options: str) -> str:
    with pytest.raises((NotConnected, PermissionDenied, UsageError)) as caught:
        await Connection.open(Connect(urls=urls, **options), timeout=timeout)
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if not task.cancelling()]
    return f"{type(caught.value).__name__}: {caught.value}"


async def test_a_refused_connection_names_the_server_and_a_way_out() -> None:
    port = free_port()
    text = await open_error(f"nats://user:secret@127.0.0.1:{port}")
    assert text == (
        f"NotConnected: cannot reach NATS at nats://127.0.0.1:{port} (connection refused); start "
        "the local stack with `agentflow up`, or name a server with --nats"
    )


@pytest.mark.parametrize(
    "users",
    [
        'users: [ { user: "ada@b", password: "a/b#100%,@:" } ]',
        'users: [ { user: "x", password: "x%41" }, { user: "ada@b", password: "a/b#100%,@:" } ]',
    ],
)
async def test_credentials_in_a_url_are_percent_decoded(tmp_path: Path, users: str) -> None:
    server = NatsServer(tmp_path / "users", extra=f"authorization {{ {users} }}").start()
    place = f"127.0.0.1:{server.port}"
    try:
        async with connected(f"nats://ada%40b:a%2Fb%23100%25%2C%40%3A@{place}") as connection:
            assert connection.options.shown == f"nats://{place}"
        text = await open_error(f"nats://x:x%41@{place}")  # xA, as every other client says it
        assert "PermissionDenied" in text
        assert "x%41" not in text
        assert "xA" not in text
    finally:
        server.kill()


async def test_a_token_in_a_url_is_percent_decoded(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "token", extra='authorization { token: "s/e%c" }').start()
    try:
        async with connected(f"nats://s%2Fe%25c@127.0.0.1:{server.port}") as connection:
            assert connection.connected.is_set()
    finally:
        server.kill()


async def test_a_server_that_says_nothing_is_given_up(nats_server: NatsServer) -> None:
    freeze(nats_server)
    text = await open_error(nats_server.url, timeout=0.3)
    nats_server.resume()
    assert "no answer within 0.3 s" in text


async def test_another_server_is_tried_when_the_first_says_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    silent = NatsServer(tmp_path / "silent").start()
    freeze(silent)
    try:
        for _ in range(3):  # the order is by chance
            async with connected(
                silent.url, f"nats://127.0.0.1:{free_port()}", nats_server.url
            ) as connection:
                assert connection.server["port"] == nats_server.port
    finally:
        silent.kill()


@pytest.mark.parametrize("nats_server", [USERS], indirect=True)
async def test_users_and_passwords(nats_server: NatsServer) -> None:
    async with connected(nats_server.url, user="u", password="p") as connection:
        await core_request(connection)
    text = await open_error(nats_server.url, user="u", password="wrong")
    assert text.startswith("PermissionDenied: ")
    assert "does not accept these credentials" in text
    assert "wrong" not in text
    assert "does not accept" in await open_error(nats_server.url)


@pytest.mark.parametrize("nats_server", [USERS], indirect=True)
async def test_a_user_in_the_url(nats_server: NatsServer) -> None:
    url = f"nats://u:p@127.0.0.1:{nats_server.port}"
    async with connected(url) as connection:
        await core_request(connection)
        await killed_and_started(connection, nats_server)
        await core_request(connection)
        assert connection.options.shown == nats_server.url


async def test_credentials_without_their_package_are_one_sentence(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)  # as if it were not installed
    creds = tmp_path / "user.creds"
    creds.write_text("-----BEGIN NATS USER JWT-----\n")
    text = await open_error(nats_server.url, creds=str(creds))
    assert text == (
        f"UsageError: the credentials in {creds} need a package that is not installed; "
        "install it with: pip install 'agentflow-nats[creds]'"
    )


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


async def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    extra = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}", verify: true }}'
    server = NatsServer(tmp_path / "tls", extra=extra).start()
    try:
        trust = {"tls_ca": str(cert), "tls_cert": str(cert), "tls_key": str(key)}
        async with connected(server.url, **trust) as connection:
            await core_request(connection)
            server.kill()
            await restarted(connection, server.start)
            await core_request(connection)
        assert "certificate" in (await open_error(server.url)).lower()
    finally:
        server.kill()
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    text = await open_error(server.url, tls_ca=str(broken))
    assert text.startswith(f"UsageError: the TLS files {broken} cannot be used")


@contextlib.contextmanager
def in_the_middle(**info: object) -> Iterator[tuple[str, list[bytes]]]:
    """What answers in a server's place, and what it was told."""
    told: list[bytes] = []
    says = {"server_id": "x", "version": "2.15.1", "headers": True, "max_payload": 1 << 20, **info}

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.sendall(b"INFO " + msgspec.json.encode(says) + b"\r\n")
                told.append(client.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", told
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("how", ["tls://", "a CA", "a certificate"])
async def test_who_wants_tls_says_nothing_without(how: str, certificate: tuple[Path, Path]) -> None:
    cert, key = map(str, certificate)
    trust = {"a CA": {"tls_ca": cert}, "a certificate": {"tls_cert": cert, "tls_key": key}}
    with in_the_middle(auth_required=True) as (address, told):
        scheme = "tls" if how == "tls://" else "nats"
        secret = {"user": "worker", "password": "TOPSECRET"}
        text = await open_error(f"{scheme}://{address}", **secret, **trust.get(how, {}))
        assert "TLS is wanted" in text
        assert not any(told)


async def test_tls_that_a_server_offers_is_taken_where_it_is_wanted(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    extra = f'allow_non_tls: true\ntls {{ cert_file: "{cert}", key_file: "{key}" }}'
    server = NatsServer(tmp_path / "tls", extra=extra).start()
    try:
        async with connected(server.url, tls_ca=str(cert)) as connection:
            await core_request(connection)
            client = connection._client
            assert client is not None and client._transport is not None
            assert client._transport._io_writer.get_extra_info("ssl_object") is not None
        async with connected(server.url) as connection:  # nobody asked for it
            await core_request(connection)
    finally:
        server.kill()


async def test_tls_may_come_first(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    extra = f'tls {{ cert_file: "{cert}", key_file: "{key}", handshake_first: auto }}'
    server = NatsServer(tmp_path / "tls", extra=extra).start()
    try:
        async with connected(server.url, tls_ca=str(cert), tls_first=True) as connection:
            await core_request(connection)
    finally:
        server.kill()


@pytest.mark.parametrize("nats_server", [USERS], indirect=True)
async def test_a_replaced_client_waits_for_credentials_that_work_again(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with credentials that expired: the server ends the connection, and refuses the next."""
    monkeypatch.setattr(connections, "DENIED_WAIT", 0.05)
    async with connected(nats_server.url, user="u", password="p") as connection:
        nats_server.kill()
        nats_server.extra = USERS.replace("password: p", "password: other")
        await asyncio.to_thread(nats_server.start)
        connection.raw._status = connection.raw.CLOSED
        await happens(lambda: "Authorization" in connection.last_error)
        with pytest.raises(NotConnected, match="Authorization Violation"):
            await connection.request("anything", timeout=0.05)
        nats_server.kill()
        nats_server.extra = USERS
        await restarted(connection, nats_server.start)
        await core_request(connection)


async def test_requests_wait_for_a_connection(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        nats_server.kill()
        await happens(lambda: not connection.connected.is_set())
        with pytest.raises(NotConnected, match="cannot reach NATS"):
            await connection.request("anything", timeout=0.05)
        waiting = [
            asyncio.create_task(connection.request("nobody.listens", timeout=WITHIN)),
            asyncio.create_task(connection.flush(WITHIN)),
        ]
        await asyncio.to_thread(nats_server.start)
        with pytest.raises(NoStream, match=r"nothing answers on nobody\.listens"):
            await waiting[0]
        await waiting[1]


async def test_a_request_without_an_answer_ends_at_its_deadline(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        connection.listen("silent", lambda message: None)
        with pytest.raises(NoAnswer, match="no answer on silent"):
            await connection.request("silent", timeout=0.1)


async def test_subscriptions_made_and_ended_without_a_connection(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        early: list[Message] = []
        late: list[Message] = []
        ended = connection.listen("news", early.append)
        nats_server.kill()
        await happens(lambda: not connection.connected.is_set())
        ended.end()
        ended.end()
        connection.listen("news", late.append)
        await restarted(connection, nats_server.start)
        connection.publish("news")
        await connection.flush()
        assert (len(early), len(late)) == (0, 1)
        assert not connection.raw._callbacks.keys() - connection.raw._subs.keys()


async def test_a_queue_group_gets_each_message_once(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        heard: list[bytes] = []
        for _ in range(3):
            connection.listen("jobs", lambda message: heard.append(message.data), "group")
        for number in range(10):
            connection.publish("jobs", b"%d" % number)
        await connection.flush()
        assert sorted(heard) == [b"%d" % number for number in range(10)]


async def test_a_lingering_subscription_still_takes_what_was_sent(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection, connected(nats_server.url) as other:
        heard: list[Message] = []
        subscription = connection.listen("news", heard.append)
        await connection.flush()
        other.publish("news")
        await other.flush()
        subscription.end(linger=True)  # the message waits in the socket, unread
        await connection.flush()
        assert len(heard) == 1
        other.publish("news")
        await other.flush()
        await connection.flush()
        assert len(heard) == 1


async def test_opening_that_is_cancelled_leaves_nothing(nats_server: NatsServer) -> None:
    freeze(nats_server)
    for turns in range(1, 15):  # at every step of it
        opening = asyncio.create_task(
            Connection.open(Connect(urls=(nats_server.url,)), timeout=0.2)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        for _ in range(20):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    nats_server.resume()


async def test_a_cancellation_while_opening_is_never_lost(nats_server: NatsServer) -> None:
    for turns in range(1, 60):
        opening = asyncio.create_task(Connection.open(Connect(urls=(nats_server.url,))))
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:
            await (await opening).close()


@pytest.mark.parametrize("turns", range(0, 16, 3))
async def test_closing_while_a_client_is_being_replaced(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(connections, "WATCH_EVERY", 0.01)
    async with connected(nats_server.url) as connection:
        freeze(nats_server)
        connection.raw._status = connection.raw.CLOSED
        while not connection._rebuilding:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
    nats_server.resume()


async def test_a_service_answers_refuses_and_comes_back(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection, connected(nats_server.url) as asking:

        async def endpoint(data: bytes, headers: object) -> bytes:
            if data == b"bad":
                raise UsageError("no\nway")
            if data == b"broken":
                raise RuntimeError("oh")
            return bytes(connection.max_payload + 1) if data == b"huge" else data

        service = Service(
            connection,
            name="s",
            version="1.0.0",
            description="d",
            endpoints={"serve.echo": endpoint},
        )
        await service.start()

        async def asked(data: bytes) -> tuple[bytes, str]:
            message = await asking.request("serve.echo", data)
            return message.data, message.headers.get("Nats-Service-Error-Code", "")

        assert await asked(b"a") == (b"a", "")
        assert await asked(b"bad") == (
            b'{"error":{"type":"UsageError","message":"no way"}}',
            "400",
        )
        assert (await asked(b"broken"))[1] == "500"
        # nats-py would have closed this connection for good.
        assert b"PayloadTooLarge" in (await asked(b"huge"))[0]
        assert connection.reconnects == 0
        connection.raw.send(
            "x", "", blocks.encode({"A": "b"}), bytes(connection.max_payload)
        )  # and now it does
        back = asyncio.Event()
        connection.on_connect(back.set)
        async with asyncio.timeout(WITHIN):
            await back.wait()
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    assert await asked(b"again") == (b"again", "")
                    break
                except NoStream:
                    await asyncio.sleep(0.01)
        await service.stop()
        assert len(connection._on_connect) == 1
        with pytest.raises(NoStream):
            await asked(b"a")
