"""`get`, `list`, `watch`, `workers` and `stats`, with a master."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Here, environment

pytestmark = pytest.mark.usefixtures("nats", "worker", "master")


@pytest.fixture(autouse=True)
def ready(nats: object, cli: Here, worker: int, master: int) -> None:
    """Both have said hello to each other; the test's own timeout ends what never comes."""
    while True:
        done = cli("workers", "--json")
        if done.code == 0 and done.out:
            return


def test_get_shows_everything(cli: Here) -> None:
    cli("submit", "hello", "--kind", "echo", "--id", "shown-1", "--label", "a=b", "--wait")
    done = cli("get", "shown-1")
    assert done.code == 0
    for text in ("shown-1", "succeeded", "default (normal)", "echo", "a=b", "w1", "\n\nhello\n"):
        assert text in done.out
    (line,) = cli("get", "shown-1", "--json").lines
    assert (line["id"], line["text"], line["labels"]) == ("shown-1", "hello", {"a": "b"})


def test_get_of_a_queued_task_and_of_a_beginning(cli: Here) -> None:
    cli("submit", "x", "--queue", "nobody", "--id", "prefix-one-1")
    cli("submit", "x", "--queue", "nobody", "--id", "prefix-two-1")
    # A busy master may not answer in time, once or again.
    while (done := cli("get", "prefix-o", "--json")).code:
        pass
    (line,) = done.lines
    assert (line["id"], line["state"], line["queue"]) == ("prefix-one-1", "queued", "nobody")
    while cli("get", "prefix-t", "--json").code:
        pass
    while (done := cli("get", "prefix-")).code == 1:
        pass
    assert done.code == 2
    assert "2 tasks or more have an id that begins with prefix-" in done.err
    done = cli("get", "unheard-of")
    assert done.code == 1
    assert "unheard-of" in done.err


def test_get_waits(cli: Here) -> None:
    cli("submit", "--kind", "sleep", "--param", "seconds=0.5", "--id", "slow-1")
    done = cli("get", "slow-1", "--wait", "--json")
    assert done.code == 0
    assert done.lines[0]["state"] == "succeeded"
    cli("submit", "x", "--kind", "no-such-kind", "--id", "bad-1")
    done = cli("get", "bad-1", "--wait")
    assert done.code == 1
    assert "unknown_kind" in done.out + done.err
    assert cli("get", "bad-1").code == 0


def test_list(cli: Here) -> None:
    for number in range(5):
        cli("submit", f"text {number}", "--kind", "echo", "--label", "set=one", "--wait")
    cli("submit", "x\x1b[2J\ny", "--kind", "echo", "--label", "set=two", "--wait")
    while len(cli("list", "--label", "set=one", "--state", "succeeded", "--json").lines) < 5:
        pass
    lines = cli("list", "--label", "set=one", "--json").lines
    assert [line["text_head"] for line in lines] == [f"text {number}" for number in (4, 3, 2, 1, 0)]
    assert len(cli("list", "--limit", "3", "--json").lines) == 3
    assert cli("list", "--queue", "second", "--label", "set=one").out == "no tasks\n"
    while "x y" not in (shown := cli("list", "--label", "set=two").out):
        pass
    heading, row = shown.splitlines()
    assert heading.split()[:4] == ["ID", "STATE", "QUEUE", "KIND"]
    assert row.split()[1] == "succeeded"
    assert "\x1b" not in shown


def test_workers(cli: Here, worker: int) -> None:
    (line,) = cli("workers", "--json").lines
    assert (line["name"], line["pid"], line["lost"]) == ("w1", worker, False)
    assert line["queues"] == ["default", "second"]
    assert line["slots"] > 0
    assert line["last_heartbeat"]
    shown = cli("workers").out
    assert "w1" in shown
    assert str(worker) in shown
    assert "default,second" in shown


def test_stats(cli: Here) -> None:
    cli("submit", "x", "--queue", "nobody")
    cli("submit", "x", "--kind", "echo", "--wait")
    while True:
        (line,) = cli("stats", "--json").lines
        queues = {queue["queue"]: queue for queue in line["queues"]}
        # A new master listens for heartbeats first, before it says that nobody serves a queue.
        if line["counts"]["succeeded"] and queues.get("nobody", {}).get("unserved"):
            break
    assert not queues["default"]["unserved"]
    shown = cli("stats").out
    assert "succeeded" in shown
    assert any("nobody" in row and "none" in row for row in shown.splitlines())


def test_watch_of_one_task(cli: Here) -> None:
    cli("submit", "--kind", "sleep", "--param", "seconds=0.3", "--id", "watched-1")
    done = cli("watch", "watched-1", "--json")
    assert done.code == 0
    states = [line["record"]["state"] for line in done.lines if line["kind"] == "record"]
    assert states[-1] == "succeeded"
    done = cli("watch", "watched-1")
    assert "watched-1  succeeded" in done.out


def test_watch_of_all_until_its_reader_leaves(cli: Here, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentflow", "watch", "--json"],
        env=environment(tmp_path, AGENTFLOW_NATS=os.environ["AGENTFLOW_NATS"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout:
        os.set_blocking(process.stdout.fileno(), False)
        while not (line := process.stdout.readline()):
            cli("submit", "heard", "--kind", "echo", "--wait")
    assert '"kind":' in line
    while process.poll() is None:
        cli("submit", "nobody reads", "--kind", "echo", "--wait")
    assert process.returncode == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_watch_prints_tokens_as_they_come(cli: Here) -> None:
    done = cli("submit", "one two three", "--kind", "echo", "--stream", "--json")
    text = "".join(line["text"] for line in done.lines if line.get("kind") == "tokens")
    assert text in ("", "one two three")
