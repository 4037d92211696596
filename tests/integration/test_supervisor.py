"""Supervision and the local stack, with real processes."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentflow.errors import KeyMissing, StackError, StoreBusy, UsageError
from agentflow.local import running
from agentflow.local.child import Child
from agentflow.local.log_file import LogFile
from agentflow.local.parent import PARENT_FD, stop_with_parent
from agentflow.local.stack import LocalStack
from agentflow.local.supervisor import Event, Supervisor
from agentflow.rules.restarts import RestartPolicy
from agentflow.worker import orderly
from tests.support.nats_server import NatsServer
from tests.support.owner import STAND_IN, Owner, stand_ins
from tests.support.until import until

QUICK = RestartPolicy(first_delay=0.01, longest_delay=0.02)


class Events(list[Event]):
    """What happened, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._happened = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.append(event)
        self._happened.set()

    async def until(self, kind: str, part: str, count: int = 1) -> Event:
        while len(found := [e for e in self if (e.kind, e.part) == (kind, part)]) < count:
            self._happened.clear()
            await self._happened.wait()
        return found[-1]

    def order(self, kind: str) -> list[str]:
        return [event.part for event in self if event.kind == kind]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return (tmp_path / "store").resolve()


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Whatever a test started has ended with it."""
    yield
    left = psutil.Process().children(recursive=True)
    for process in left:
        process.kill()
    assert not left


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Call it with a part's name for how that stand-in was started."""
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    monkeypatch.setenv("STAND_INS", str(folder))
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    return lambda name: json.loads((folder / f"{name}.json").read_text())


def status_of(url: str) -> int:
    with urllib.request.urlopen(url, timeout=5) as answer:
        status: int = answer.status
    return status


async def written(shown: Callable[[str], Any], *names: str) -> None:
    """Wait until these stand-ins have shown themselves."""

    def all_there() -> bool:
        try:
            return all(shown(name) for name in names)
        except FileNotFoundError:
            return False

    await until(all_there)


def behave(monkeypatch: pytest.MonkeyPatch, **behaviour: str) -> None:
    monkeypatch.setenv("STAND_IN_BEHAVIOUR", json.dumps(behaviour))


def part(
    store: Path, name: str, code: str = "", *, grace: float = 10.0, drains: bool = False
) -> Child:
    """A child that runs this code, or else stops on SIGTERM."""
    store.mkdir(exist_ok=True)
    argv = [sys.executable, "-c", code or "import signal; signal.pause()"]
    return Child(name, argv, log=store / f"{name}.log", grace=grace, drains=drains)


async def gone(*pids: int) -> None:
    """Wait until none of these processes lives; one that nobody has waited for is dead."""

    def lives(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    await until(lambda: not any(lives(pid) for pid in pids))


# -------------------------------------------------------------------------- supervisor


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise SystemExit(3)", "it ended with exit status 3"),
        ("pass", "it ended with exit status 0"),
        ("import os; os.abort()", "it was ended by SIGABRT"),
    ],
)
async def test_whatever_ends_unasked_has_crashed(store: Path, code: str, how: str) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events, policy=QUICK)
    await supervisor.start(part(store, "brief", code))
    crash = await events.until("crashed", "brief")
    assert crash.detail.startswith(how)
    await events.until("restarted", "brief")
    await supervisor.stop()


async def test_what_somebody_drained_stays_down(store: Path) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events, policy=QUICK)
    left = part(store, "left", f"raise SystemExit({orderly.STATUS})", drains=True)
    crashing = part(store, "crashing", "raise SystemExit(1)", drains=True)
    await supervisor.start(left, crashing)
    await events.until("drained", "left")
    await events.until("restarted", "crashing", 2)
    assert events.order("crashed") == ["crashing"] * events.order("crashed").count("crashing")
    assert "left" not in events.order("restarted")
    await supervisor.stop()


async def test_status_0_of_a_worker_is_no_drain(store: Path) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events, policy=QUICK)
    await supervisor.start(part(store, "left", "pass", drains=True))
    await events.until("restarted", "left")
    assert "although nobody told it to stop" in next(
        event.detail for event in events if event.kind == "crashed"
    )
    await supervisor.stop()


async def test_a_part_that_is_called_wrongly_stops_all_at_once(store: Path) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events)
    code = "import sys; print('no module tasks', file=sys.stderr); sys.exit(2)"
    await supervisor.start(part(store, "mistaken", code))
    with pytest.raises(StackError, match=r"(?s)mistaken cannot work: .* status 2.*no module tasks"):
        await supervisor.wait()
    assert events.order("crashed") == ["mistaken"]


async def test_too_many_crashes_stop_all_and_give_the_reason(store: Path) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events, policy=QUICK)
    crashing = "import sys; sys.exit('\\x1b[2Jout of luck\\x07')"
    await supervisor.start(part(store, "steady"))
    await supervisor.start(part(store, "unlucky", crashing))
    with pytest.raises(StackError) as caught:
        await supervisor.wait()
    message = str(caught.value)
    assert message.startswith("unlucky crashed 5 times within 60 s, so everything was stopped.")
    assert "out of luck" in message
    assert "\x1b" not in message
    assert "\x07" not in message
    assert events.order("crashed") == ["unlucky"] * 5
    assert events.order("stopped") == ["unlucky", "steady"]
    with pytest.raises(StackError, match="out of luck"):
        await supervisor.start(part(store, "late"))


async def test_a_part_that_cannot_start_is_an_error(store: Path) -> None:
    supervisor = Supervisor()
    store.mkdir()
    with pytest.raises(StackError, match="absent could not be started"):
        await supervisor.start(Child("absent", ["/no/such/program"], log=store / "absent.log"))
    await supervisor.stop()


async def test_stop_undoes_start_in_reverse(store: Path) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events)
    await supervisor.start(part(store, "base"))
    await supervisor.start(part(store, "left"), part(store, "right"))
    await supervisor.start(part(store, "top"))
    await supervisor.stop()
    await supervisor.wait()
    stopped = events.order("stopped")
    assert (stopped[0], set(stopped[1:3]), stopped[3]) == ("top", {"left", "right"}, "base")


STUBBORN = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("listening", flush=True)
for _ in range({times}):
    signal.sigwait([signal.SIGTERM])
    print("asked", flush=True)
sys.exit(0)
"""


async def stubborn(store: Path, times: int, grace: float) -> tuple[Supervisor, Events, Child]:
    """A supervised part that ends when it was asked so many times."""
    events = Events()
    supervisor = Supervisor(on_event=events)
    child = part(store, "stubborn", STUBBORN.format(times=times), grace=grace)
    await supervisor.start(child)
    await until(lambda: "listening" in child.log.text())
    return supervisor, events, child


async def test_after_its_grace_a_part_is_asked_again(store: Path) -> None:
    supervisor, events, _ = await stubborn(store, times=2, grace=0.05)
    await supervisor.stop()
    assert (await events.until("stopped", "stubborn")).detail == "it ended with exit status 0"


async def test_a_part_that_never_listens_is_killed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentflow.local.supervisor.HURRIED_GRACE", (0.05, 0.05))
    supervisor, events, _ = await stubborn(store, times=99, grace=0.05)
    await supervisor.stop()
    assert (await events.until("stopped", "stubborn")).detail == "it was ended by SIGKILL"


async def test_hurry_does_not_wait_for_the_grace(store: Path) -> None:
    supervisor, events, child = await stubborn(store, times=2, grace=3600)
    stopping = asyncio.create_task(supervisor.stop())
    await until(lambda: "asked" in child.log.text())
    supervisor.hurry()
    await stopping
    assert (await events.until("stopped", "stubborn")).detail == "it ended with exit status 0"


async def test_a_part_is_stopped_while_it_waits_for_its_restart(store: Path) -> None:
    events = Events()
    supervisor = Supervisor(on_event=events, policy=RestartPolicy(first_delay=3600))
    await supervisor.start(part(store, "brief", "pass"))
    await events.until("crashed", "brief")
    await supervisor.stop()
    assert events.order("restarted") == []


async def test_a_listener_that_fails_stops_nothing(store: Path) -> None:
    def fail(event: Event) -> None:
        raise BrokenPipeError

    supervisor = Supervisor(on_event=fail)
    await supervisor.start(part(store, "steady"))
    await supervisor.stop()


def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentflow.local.log_file.LOG_BYTES", 100)
    log = LogFile(tmp_path / "part.log")
    for run in range(4):  # of 60 bytes each: two fit
        log.begin()
        with log.open() as file:
            file.write(b"run %d\n" % run * 10)
        assert log.last_lines(1) == [f"run {run}"]
        assert log.text().count("\n") == 10
    assert (tmp_path / "part.log").stat().st_size == 120
    assert (tmp_path / "part.log.1").stat().st_size == 120


# -------------------------------------------------------------------------- the parent


@pytest.mark.parametrize("value", ["", "x", "-1", "987654"])
def test_no_parent_to_watch(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(PARENT_FD, value)
    assert not stop_with_parent()
    assert PARENT_FD not in os.environ


def test_a_file_that_is_no_pipe_is_not_the_parent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setenv(PARENT_FD, str(file.fileno()))
        assert not stop_with_parent()


# ------------------------------------------------------------------------------- stack


async def test_parts_get_what_they_need_and_no_more(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-real")
    monkeypatch.setenv("AGENTFLOW_TLS_CA", "elsewhere.pem")
    events = Events()
    stack = LocalStack(
        store,
        workers=2,
        concurrency=7,
        queues=["a", "b"],
        lease=3,
        simulate=True,
        simulator_args=["--latency", "0.1"],
        env={"EXTRA": "1"},
        commands=stand_ins(),
        on_event=events,
    )
    async with stack:
        await written(shown, "master", "worker-1", "worker-2", "simulator")
        assert shown("master")["argv"] == ["master"]
        assert shown("simulator")["argv"] == ["simulator", "--port", "0", "--latency", "0.1"]
        assert shown("worker-2")["argv"] == [
            *("worker", "--name", "worker-2"),
            *("--queues", "a,b", "--concurrency", "7", "--lease", "3"),
        ]
        for name in ("master", "worker-1", "worker-2", "simulator"):
            environment = shown(name)["env"]
            assert environment["AGENTFLOW_NATS"] == stack.url
            assert environment["EXTRA"] == "1"
            assert "AGENTFLOW_TLS_CA" not in environment
            assert shown(name)["watched"]
            assert not shown(name)["passed_on"]
            # Ctrl-C in a terminal goes to a process group.
            assert os.getpgid(shown(name)["pid"]) == shown(name)["pid"]
        assert "ANTHROPIC_API_KEY" not in shown("master")["env"]
        assert shown("worker-1")["env"]["ANTHROPIC_API_KEY"] == "simulated"
        assert shown("worker-1")["env"]["ANTHROPIC_BASE_URL"] == stack.simulator_url
        assert "127.0.0.1" in shown("worker-1")["env"]["NO_PROXY"]
        info = running(store)
        assert info is not None
        assert info.simulator_url == stack.simulator_url
        server_pid = stack.server.pid
        assert server_pid is not None
        server = psutil.Process(server_pid)
        assert "ANTHROPIC_API_KEY" not in server.environ()
        assert os.getsid(server_pid) == server_pid
    assert running(store) is None
    stopped = events.order("stopped")
    assert set(stopped[:2]) == {"worker-1", "worker-2"}
    assert stopped[2:] == ["master", "simulator", "server"]
    assert not psutil.pid_exists(server_pid)


async def test_without_a_key_nothing_starts(store: Path, shown: Callable[[str], Any]) -> None:
    with pytest.raises(KeyMissing, match="--simulate"):
        await LocalStack(store, commands=stand_ins()).start()
    assert not store.exists()


async def test_a_key_that_cannot_be_sent_starts_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123\u200b")
    with pytest.raises(UsageError, match=r"its character 12 is U\+200B") as caught:
        await LocalStack(store, commands=stand_ins()).start()
    assert "sk-ant" not in str(caught.value)
    assert not store.exists()


@pytest.mark.parametrize("key", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
async def test_the_key_reaches_the_workers(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(key, "real")
    async with LocalStack(store, workers=1, commands=stand_ins()):
        await written(shown, "worker-1", "master")
        assert shown("worker-1")["env"][key] == "real"
        assert key not in shown("master")["env"]


async def test_a_server_that_is_there_is_used(
    store: Path, shown: Callable[[str], Any], nats_server: NatsServer
) -> None:
    options: Any = {"nats": nats_server.url, "simulate": True, "commands": stand_ins()}
    async with LocalStack(store, **options) as stack:
        assert stack.url == nats_server.url
        assert stack.server.pid is None
        await written(shown, "worker-1")
        assert shown("worker-1")["env"]["AGENTFLOW_NATS"] == nats_server.url
        info = running(store)
        assert info is not None
        assert info.url == nats_server.url
    # Nothing to start, nothing to hold: several may do this at once.
    async with LocalStack(store, workers=0, master=False, **options):
        assert running(store) is None
    assert nats_server.alive


async def test_a_second_stack_on_a_store_is_refused(
    store: Path, shown: Callable[[str], Any]
) -> None:
    async with LocalStack(store, simulate=True, workers=0, commands=stand_ins()) as stack:
        with pytest.raises(StoreBusy, match=stack.url):
            await LocalStack(store, simulate=True, commands=stand_ins()).start()
        assert running(store) is not None


async def test_a_part_that_cannot_start_stops_those_before(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = stand_ins() | {"simulator": [sys.executable, str(STAND_IN), "crash"]}
    behave(monkeypatch, crash="crash")
    with pytest.raises(StackError, match=r"simulator did not start: .*(?s:.*)the reason why"):
        await LocalStack(store, simulate=True, commands=commands).start()
    async with LocalStack(store, simulate=True, commands=stand_ins()):
        pass


async def test_the_server_comes_back_where_it_was(store: Path, shown: Callable[[str], Any]) -> None:
    events = Events()
    stack = LocalStack(
        store, workers=1, simulate=True, commands=stand_ins(), on_event=events, policy=QUICK
    )
    async with stack:
        url, pid = stack.url, stack.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await events.until("restarted", "server")
        info = running(store)
        assert info is not None
        assert (info.url, stack.url) == (url, url)
        assert info.server_pid == stack.server.pid != pid
        assert info.monitor == stack.server.monitor
        assert status_of(f"{info.monitor}/healthz") == 200


async def test_the_simulator_comes_back_on_its_port(
    store: Path, shown: Callable[[str], Any]
) -> None:
    events = Events()
    stack = LocalStack(
        store, workers=1, simulate=True, commands=stand_ins(), on_event=events, policy=QUICK
    )
    async with stack:
        os.kill(events[1].pid or 0, signal.SIGKILL)
        await events.until("restarted", "simulator")
        await written(shown, "simulator")
        assert stack.simulator_url is not None
        assert f"--port {stack.simulator_url.rpartition(':')[2]}" in " ".join(
            psutil.Process((await events.until("restarted", "simulator")).pid).cmdline()
        )


async def test_the_real_simulator_is_understood(store: Path, shown: Callable[[str], Any]) -> None:
    commands = stand_ins() | {"simulator": [sys.executable, "-m", "agentflow.simulator"]}
    async with LocalStack(store, workers=1, simulate=True, commands=commands) as stack:
        assert status_of(f"{stack.simulator_url}/_fake/stats") == 200


async def test_a_crashing_worker_ends_the_stack(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, worker="crash")
    with pytest.raises(StackError, match=r"worker-1 crashed 5 times(?s:.*)the reason why"):
        async with LocalStack(
            store, workers=1, simulate=True, commands=stand_ins(), policy=QUICK
        ) as stack:
            await stack.wait()
    assert running(store) is None


async def test_a_cancelled_stop_still_stops_all(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, worker="stubborn")
    entered, events = asyncio.Event(), Events()

    async def up() -> None:
        async with LocalStack(
            store,
            workers=1,
            simulate=True,
            commands=stand_ins(),
            worker_grace=3600,
            on_event=events,
        ):
            await written(shown, "worker-1")
            entered.set()

    task = asyncio.create_task(up())
    await entered.wait()
    await until(lambda: running(store) is None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events.order("stopped") == ["worker-1", "master", "simulator", "server"]


async def test_what_a_part_left_behind_ends_with_it(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, worker="with child")
    async with LocalStack(store, workers=1, simulate=True, commands=stand_ins()):
        await written(shown, "worker-1")
        child = shown("worker-1")["child"]
    await gone(child)


# ------------------------------------------------------------------------------ kill -9


async def test_the_parts_of_a_killed_owner_stop(store: Path, shown: Callable[[str], Any]) -> None:
    owner = Owner(store)
    await written(shown, "master", "worker-1", "worker-2", "simulator")
    owner.kill()
    parts = [pid for name, pid in owner.pids.items() if name != "server"]
    assert len(parts) == 4
    await gone(*parts)
    # In order, as on any other request: not killed.
    assert "worker-1 was asked (1)" in (store / "logs" / "worker-1.log").read_text()
    assert psutil.pid_exists(owner.pids["server"])
    second = Owner(store)
    assert second.up["adopted"]
    assert second.stop() == 0
    await gone(*second.pids.values(), *owner.pids.values())


async def test_a_stuck_orphan_is_killed(
    store: Path, shown: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, worker="stubborn")
    owner = Owner(store, workers=1)
    await written(shown, "worker-1")
    owner.kill()
    await gone(owner.pids["worker-1"])
    Owner(store).stop()


async def test_a_stack_stopped_from_outside_leaves_nothing(
    store: Path, shown: Callable[[str], Any]
) -> None:
    owner = Owner(store)
    assert owner.stop() == 0
    await gone(*owner.pids.values())
    assert running(store) is None
