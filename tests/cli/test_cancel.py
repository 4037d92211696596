"""`cancel`, `retry` and `dead` from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Here, environment, run
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("nats")


@pytest.fixture
def _known(nats: NatsServer, cli: Here, worker: int, master: int) -> None:
    """Worker and master have said hello; the test's own timeout ends what never comes."""
    while not cli("workers", "--json").out:
        pass


@pytest.mark.usefixtures("_known")
def test_cancel_by_id_and_by_filter(cli: Here, nats: NatsServer, tmp_path: Path) -> None:
    cli("submit", "done", "--kind", "echo", "--id", "ended", "--wait")
    for number in range(3):
        cli("submit", "x", "--queue", "nobody", "--id", f"q-{number}")
    cli("submit", "later", "--in", "1h", "--id", "parked")
    cli("submit", "--kind", "sleep", "--param", "seconds=60", "--id", "runs")
    while len(cli("list", "--state", "scheduled", "--json").lines) < 1:
        pass
    (line,) = cli("list", "--state", "scheduled", "--json").lines
    assert line["resume_at"]
    assert "resumes 20" in cli("list", "--state", "scheduled").out
    runs(cli, "runs")

    done = cli("cancel", "parked", "ended", "runs")
    assert (done.code, done.out) == (0, "cancelled 2 tasks; 1 had ended before\n")
    assert "task ended had ended before: succeeded" in done.err
    done = cli("cancel", "unheard-of", "q-0", "--json")
    assert done.code == 1
    assert "unheard-of" in done.err
    assert {(line["id"], line["cancelled"]) for line in done.lines} == {
        ("unheard-of", False),
        ("q-0", True),
    }
    while len(cli("list", "--queue", "nobody", "--state", "queued", "--json").lines) != 2:
        pass
    done = cli("cancel", "--queue", "nobody", "--state", "queued")
    assert (done.code, done.out) == (0, "cancelled 2 tasks\n")
    assert cli("get", "q-2", "--json").lines[0]["state"] == "cancelled"
    for wrong in ((), ("q-1", "--queue", "nobody")):
        done = cli("cancel", *wrong)
        assert done.code == 2
        assert "say which tasks" in done.err

    many = [f"never-{number}" for number in range(101)]
    env = environment(tmp_path, AGENTFLOW_NATS=nats.url)
    refused = run("cancel", *many, env=env)
    assert refused.code == 2
    assert "this cancels 101 tasks; nothing was done, say --yes to go on" in refused.err


def test_a_task_that_kills_its_workers_is_a_dead_letter(
    cli: Here, server: NatsServer, tmp_path: Path
) -> None:
    cli("submit", "--kind", "sleep", "--param", "seconds=60", "--id", "killer", "--queue", "loop",
        "--max-attempts", "1", "--label", "a=b")  # fmt: skip
    starting = workers(tmp_path, server)
    first = next(starting)
    runs(cli, "killer")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    for second in workers(tmp_path, server):
        while not (lines := cli("dead", "list", "--reason", "worker_lost", "--json").lines):
            assert second.poll() is None
        second.terminate()
        assert second.wait(30) == 0
    assert (lines[0]["id"], lines[0]["labels"], lines[0]["attempts"]) == ("killer", {"a": "b"}, 1)

    (group,) = cli("dead", "list", "--group", "--json").lines
    assert (group["count"], group["reason"], group["example"]) == (1, "worker_lost", "killer")
    shown = cli("dead", "list", "--queue", "loop", "--label", "a=b").out
    assert "killer  worker_lost" in shown
    assert "its worker <id> was lost" in cli("dead", "list", "--group").out
    shown = cli("dead", "show", "killer").out
    assert "state     failed" in shown
    assert '"seconds":60' in shown
    assert cli("dead", "retry").code == 2
    assert cli("retry", "killer").out == "1 task submitted again\n"
    assert cli("dead", "list").out == "no dead letters\n"
    assert cli("dead", "drop", "killer").code == 2, "the first one is asked about too"
    done = cli("dead", "drop", "killer", "--yes")
    assert (done.code, done.out) == (1, "0 tasks dropped\n")
    assert "task killer has no dead letter" in done.err
    assert cli("cancel", "killer").code == 0


def runs(cli: Here, task_id: str) -> None:
    """Return when the task runs."""
    while not any(line["state"] == "running" for line in cli("get", task_id, "--json").lines):
        pass


def workers(folder: Path, server: NatsServer) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the queue with a short lease."""
    options = ("--queues", "loop", "--kinds", "sleep", "--lease", "0.5", "--nats", server.url)
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", "worker", *options],
            env=environment(folder),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
