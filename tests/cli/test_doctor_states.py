"""What is said of a server that cannot be used: the true cause, and what mends that.

Each state is a real server's, and each sentence is that of `agentflow doctor`; other commands say
the same of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from agentflow.bus.streams.lease import MASTER, Lease
from agentflow.cli.checks import server as server_checks
from agentflow.cli.checks.check import Check, Status
from agentflow.client import Client
from agentflow.config import Connect
from agentflow.local.store import StackInfo, Store
from agentflow.protocol import subjects
from agentflow.protocol.api import StatsView
from tests.cli.conftest import Here
from tests.support.certificates import Authority, Certificate
from tests.support.nats_server import NatsServer, free_port

pytestmark = pytest.mark.timeout(90)

ACCOUNTS = """accounts {
  A { users: [{user: a, password: b}] }
  B { jetstream: enabled, users: [{user: c, password: d}] }
}"""


class Doctor:
    """Runs `agentflow doctor --json`."""

    def __init__(self, cli: Here) -> None:
        self._cli = cli

    def __call__(self, *arguments: str) -> dict[str, Check]:
        done = self._cli("doctor", "--json", *arguments)
        assert done.err == ""
        [answer] = done.lines
        return {
            found["name"]: Check(
                found["name"], Status(found["status"]), found["text"], found.get("remedy", "")
            )
            for found in answer["checks"]
        }

    def failure(self, *arguments: str, of: str = "server") -> str:
        """The sentence of a check that fails, and its remedy."""
        check = self(*arguments)[of]
        assert check.status is Status.FAIL, check
        return f"{check.text} | {check.remedy}"


@pytest.fixture
def doctor(cli: Here) -> Doctor:
    return Doctor(cli)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(
    servers: ExitStack, folder: Path, *, jetstream: str | None = "", extra: str = ""
) -> NatsServer:
    server = NatsServer(folder, extra=extra, jetstream=jetstream).start()
    servers.callback(lambda: server.kill() if server.alive else None)
    return server


def held(port: int) -> socket.socket:
    """A connection that counts, as soon as the look whether the server is there does not."""
    while True:
        other = socket.create_connection(("127.0.0.1", port))
        said = b""
        with contextlib.suppress(ConnectionError):
            other.sendall(b"CONNECT {}\r\nPING\r\n")
            while b"PONG" not in said and (more := other.recv(4096)):
                said += more
        if b"PONG" in said:
            return other
        other.close()


def tls(certificate: Certificate, more: str = "") -> str:
    return f'tls {{ cert_file: "{certificate.pem}", key_file: "{certificate.key}" {more} }}'


# TLS.


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_an_untrusted_certificate(
    servers: ExitStack, tmp_path: Path, authority: Authority, doctor: Doctor, cli: Here, scheme: str
) -> None:
    server = started(servers, tmp_path / "s", extra=tls(authority.certificate("s")))
    url = server.url.replace("nats:", f"{scheme}:")
    text = doctor.failure("--nats", url)
    assert "an authority that is not trusted here" in text
    assert "--tls-ca" in text
    assert "agentflow up" not in text
    assert "--tls-ca" in cli("submit", "x", "--nats", url).err
    assert doctor("--nats", url, "--tls-ca", str(authority.pem))["server"].status is Status.OK


def test_a_certificate_that_fits_not(
    servers: ExitStack, tmp_path: Path, authority: Authority, doctor: Doctor
) -> None:
    trust = ("--tls-ca", str(authority.pem))
    expired = authority.certificate("old", days=-1)
    text = doctor.failure(
        "--nats", started(servers, tmp_path / "o", extra=tls(expired)).url, *trust
    )
    assert "has expired" in text
    assert "clock" in text
    other = authority.certificate("other", to="DNS:other.example")
    text = doctor.failure("--nats", started(servers, tmp_path / "n", extra=tls(other)).url, *trust)
    assert "made out to another host" in text
    assert "agentflow up" not in text


def test_a_server_that_wants_a_certificate(
    servers: ExitStack, tmp_path: Path, authority: Authority, doctor: Doctor
) -> None:
    own = authority.certificate("s")
    extra = tls(own, f', ca_file: "{authority.pem}", verify: true')
    server = started(servers, tmp_path / "s", extra=extra)
    given = ("--nats", server.url, "--tls-ca", str(authority.pem))
    text = doctor.failure(*given)
    assert "asks each client for a certificate" in text
    assert "--tls-cert" in text
    keyed = (*given, "--tls-cert", str(own.pem), "--tls-key", str(own.key))
    assert doctor(*keyed)["server"].status is Status.OK


# Who we are.


def test_who_is_not_let_in_is_told_what_was_given(
    servers: ExitStack, tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = "authorization { user: a, password: b }"
    url = started(servers, tmp_path / "s", extra=extra).url
    assert "none were given" in doctor.failure("--nats", url)
    assert "set AGENTFLOW_PASSWORD" in doctor.failure("--nats", url, "--user", "a")
    monkeypatch.setenv("AGENTFLOW_PASSWORD", "wrong")
    assert "correct user and password" in doctor.failure("--nats", url, "--user", "a")
    in_url = url.replace("//", "//a:wrong@")
    assert "correct user and password" in doctor.failure("--nats", in_url)


def test_a_server_that_is_full(servers: ExitStack, tmp_path: Path, doctor: Doctor) -> None:
    server = started(servers, tmp_path / "s", extra="max_connections: 1")
    with held(server.port):
        text = doctor.failure("--nats", server.url)
    assert "too many connections" in text
    assert "agentflow up" not in text


# What cannot be stored, and what blinds.

LIMITED = """accounts {{
  A {{ jetstream {{ {limits} }}, users: [{{user: a, password: b}}] }}
}}"""


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("max_file: 1000000", "0 of 1,000,000 bytes of the account are used, a task may need"),
        ("max_streams: 3", "the account may have 3 streams and has 0, 8 are needed"),
        ("max_consumers: 2", "the account may have 2 consumers and has 0, a new queue needs 3"),
    ],
)
def test_an_account_that_is_too_small(
    servers: ExitStack, tmp_path: Path, doctor: Doctor, limits: str, said: str
) -> None:
    server = started(servers, tmp_path / "s", extra=LIMITED.format(limits=limits))
    url = server.url.replace("//", "//a:b@")
    text = doctor.failure("--nats", url, of="room")
    assert "submissions are refused" in text
    assert said in text


def test_a_queue_that_is_full(
    servers: ExitStack, tmp_path: Path, doctor: Doctor, cli: Here
) -> None:
    server = started(servers, tmp_path / "s")
    assert cli("submit", "x", "--nats", server.url).code == 0
    assert doctor("--nats", server.url)["room"].status is Status.OK

    async def fill() -> None:
        async with Client(Connect(urls=(server.url,))) as client:
            config = (await client.js.stream_info(subjects.TASKS))["config"]
            await client.js.api(f"STREAM.UPDATE.{subjects.TASKS}", {**config, "max_msgs": 1})

    asyncio.run(fill())
    text = doctor.failure("--nats", server.url, of="room")
    assert "AGENTFLOW_TASKS is full, 1 of 1 messages" in text


@pytest.mark.parametrize("nonsense", [b"", b"{}", b'{"actor": 7}', b"\xff", b'{"actor": "a b"}'])
def test_a_lease_that_holds_nonsense(
    servers: ExitStack, tmp_path: Path, doctor: Doctor, cli: Here, nonsense: bytes
) -> None:
    """The answer of a server, say, that somebody had sent there."""
    server = started(servers, tmp_path / "s")
    assert cli("submit", "x", "--nats", server.url).code == 0
    assert "master" in doctor("--nats", server.url)

    async def put(*, then_taken: bool = False) -> bool:
        async with Client(Connect(urls=(server.url,))) as client:
            await client.js.store(subjects.kv(MASTER), nonsense)
            lease = Lease(client.js, "m-1-abcdef")
            if then_taken:
                await lease.turn()
            return lease.held

    asyncio.run(put())
    found = cli("doctor", "--json", "--nats", server.url).lines[0]["checks"]
    assert [each["status"] for each in found if "holds nonsense" in each["text"]] == ["FAIL"]
    assert asyncio.run(put(then_taken=True)), "a master takes it"


def test_a_master_that_knows_not_all_is_a_failure() -> None:
    view = StatsView(master="m", version="1", ready=False)
    assert server_checks._master(view).status is Status.FAIL
    assert server_checks._master(msgspec.structs.replace(view, ready=True)).status is Status.OK


# Where it is.


def test_an_address_of_no_server(doctor: Doctor) -> None:
    nobody = f"nats://127.0.0.1:{free_port()}"
    assert "`agentflow up`" in doctor.failure("--nats", nobody)
    for wrong in ("http://127.0.0.1:4222", "nats://127.0.0.1:99999"):
        assert "nats://HOST:PORT" in doctor.failure("--nats", wrong), wrong
    text = doctor.failure("--nats", "nats://no-such-host.invalid:4222")
    assert "name is not known" in text
    assert "agentflow up" not in text


def test_another_programs_port(doctor: Doctor) -> None:
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=page.serve_forever, daemon=True)
    thread.start()
    try:
        text = doctor.failure("--nats", f"nats://127.0.0.1:{page.server_address[1]}")
    finally:
        page.shutdown()
        page.server_close()
        thread.join(10)
    assert "is that the port of a NATS server" in text
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = doctor.failure("--nats", f"nats://127.0.0.1:{silent.getsockname()[1]}")
    assert "no answer within 2 s" in text


# JetStream.


def test_without_jetstream(
    servers: ExitStack,
    tmp_path: Path,
    doctor: Doctor,
    cli: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = started(servers, tmp_path / "s", jetstream=None).url
    assert "not enabled on this server" in doctor.failure("--nats", url, of="jetstream")
    assert "JetStream is not enabled there" in cli("submit", "x", "--nats", url).err
    done = cli("streams", "apply", "--nats", url)
    assert (done.code, "$JS" in done.err, "agentflow doctor" in done.err) == (3, False, True)
    of_accounts = started(servers, tmp_path / "accounts", extra=ACCOUNTS).url
    monkeypatch.setenv("AGENTFLOW_PASSWORD", "b")
    text = doctor.failure("--nats", of_accounts, "--user", "a", of="jetstream")
    assert "not enabled for this account" in text


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_cluster_that_loses_its_servers(
    servers: ExitStack, tmp_path: Path, doctor: Doctor, cli: Here
) -> None:
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    three = [
        started(
            servers,
            tmp_path / str(port),
            extra=f"cluster {{ name: c, listen: 127.0.0.1:{port}, routes: [{routes}] }}",
        )
        for port in ports
    ]
    where = ("--nats", three[0].url)

    def said(name: str, status: Status, text: str) -> Check:
        """The check when it says so; an election takes seconds, and the test's timeout ends it."""
        while True:
            check = doctor(*where).get(name)
            if check is not None and check.status is status and text in check.text:
                return check

    said("jetstream", Status.OK, "enabled")
    while cli("streams", "apply", "--replicas", "3", *where).code:
        pass  # not all three have joined
    said("streams", Status.OK, "as defined")
    three[2].kill()
    assert "test-" in said("streams", Status.WARN, "away or behind").text
    three[1].kill()
    assert "other servers back" in said("jetstream", Status.FAIL, "no leader").remedy
    done = cli("streams", "show", *where)
    assert done.code == 3
    assert "not enabled" not in done.err


# Which log.


def test_the_log_is_that_of_the_server_that_is_meant(
    nats_server: NatsServer, tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTFLOW_STORE")
    share = tmp_path / ".local/share/agentflow"
    for name in ("default", "simulated"):
        (share / name / "logs").mkdir(parents=True)
        (share / name / "logs/nats-server.log").write_text("")

    def said(*arguments: str) -> str:
        return doctor(*arguments)["server log"].text

    # A stranger's server: no log of ours is its.
    assert "none of a local stack" in said("--nats", nats_server.url)
    # The simulated stack runs, so it is what is meant, by either name of this machine.
    store = Store(share / "simulated")
    store.take()
    try:
        info = StackInfo(
            url=nats_server.url, owner_pid=os.getpid(), server_pid=nats_server.pid, simulate=True
        )
        store.write_state(info)
        for given in ((), ("--nats", f"localhost:{nats_server.port}")):
            assert said(*given) == f"the local server writes {share}/simulated/logs/nats-server.log"
            assert "SIMULATED" in doctor(*given)["key"].text
        store.write_state(StackInfo(url=nats_server.url, owner_pid=os.getpid()))
        assert "did not start" in said()
    finally:
        store.release()
        store.clear_state()
