"""The plain nats CLI is a full client: nothing of ours is between it and the tasks."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.fleet import WITHIN, Fleet

pytestmark = pytest.mark.tools("nats")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        yield fleet.start()
    finally:
        fleet.stop()


class Cli:
    """The nats CLI on a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def __call__(self, *arguments: str, check: bool = True) -> str:
        return self.fleet.run("nats", *arguments, check=check)

    def ask(self, subject: str, body: str = "", *options: str) -> Any:
        """The answer to a request, which is JSON."""
        return json.loads(self("req", subject, body, "--raw", "--timeout", "60s", *options))

    def sub(self, subject: str, count: int, *options: str) -> Callable[[], str]:
        """Listen; call what is returned for all that was heard."""
        command = ["nats", "sub", subject, "--count", str(count), *options]
        process = self.fleet.listen(command, subject)
        return lambda: self.fleet.heard(process)

    def results(self, count: int) -> Callable[[], list[dict[str, Any]]]:
        """Listen for final records of any tasks."""
        heard = self.sub("agentflow.live.results.>", count, "--raw")
        return lambda: [json.loads(line) for line in heard().splitlines() if line]

    def log(self, task_id: str) -> dict[str, int]:
        """How many records a task has, by subject."""
        info = self.ask(
            "$JS.API.STREAM.INFO.AGENTFLOW_RECORDS",
            json.dumps({"subjects_filter": f"agentflow.*.{task_id}"}),
        )
        found: dict[str, int] = info["state"].get("subjects", {})
        return found

    def waiting(self) -> int:
        """Messages in AGENTFLOW_TASKS."""
        found: int = self.ask("$JS.API.STREAM.INFO.AGENTFLOW_TASKS")["state"]["messages"]
        return found


@pytest.fixture
def nats(fleet: Fleet) -> Cli:
    return Cli(fleet)


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once it is true."""
    end = time.monotonic() + WITHIN
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


# ------------------------------------------------------------------- submitting


def test_a_plain_publish_is_a_task(nats: Cli) -> None:
    results = nats.results(1)
    nats("pub", "agentflow.tasks.default", "Write a haiku about queues")
    (record,) = results()
    assert record["state"] == "succeeded"
    assert record["kind"] == "claude"
    assert record["text"].startswith("[SIMULATED] ")
    assert record["usage"]["output_tokens"] > 0
    assert re.fullmatch(r"default-\d+-[0-9a-z]+", record["id"])


def test_a_jetstream_publish_says_that_it_is_stored(nats: Cli) -> None:
    results = nats.results(1)
    said = nats("pub", "-J", "agentflow.tasks.default", "Write a haiku about queues")
    assert "Stored in Stream: AGENTFLOW_TASKS Sequence: " in said
    assert results()[0]["state"] == "succeeded"


@pytest.mark.parametrize("kind", ["claude", "echo"])
def test_a_hundred_tasks_in_one_command(nats: Cli, kind: str) -> None:
    results = nats.results(100)
    nats(
        *("pub", "agentflow.tasks.default", "Haiku number {{Count}}", "--count", "100"),
        *("-H", f"Agentflow-Kind:{kind}"),
    )
    records = results()
    assert {record["state"] for record in records} == {"succeeded"}
    assert len({record["id"] for record in records}) == 100
    if kind == "echo":
        assert {record["text"] for record in records} == {
            f"Haiku number {number}" for number in range(1, 101)
        }


def test_a_task_as_json(nats: Cli) -> None:
    task = {
        "id": "cli-json",
        "prompt": "Schreibe ein Haiku über Flüsse",
        "system": "Answer in German.",
        "model": "claude-haiku-4-5",
        "max_tokens": 64,
        "labels": {"team": "x"},
    }
    results = nats.results(1)
    nats("pub", "agentflow.tasks.default.high", json.dumps(task))
    (record,) = results()
    assert (record["id"], record["state"], record["priority"]) == ("cli-json", "succeeded", "high")
    assert record["labels"] == {"team": "x"}
    assert record["model"].startswith("claude-haiku-4-5")


@pytest.mark.parametrize("priority", ["", ".high", ".normal", ".low"])
def test_every_priority_is_a_subject(nats: Cli, priority: str) -> None:
    results = nats.results(1)
    nats("pub", f"agentflow.tasks.default{priority}", "x", "-H", "Agentflow-Kind:echo")
    assert results()[0]["priority"] == (priority[1:] or "normal")


def test_a_message_id_runs_once(nats: Cli) -> None:
    publish = ("pub", "agentflow.tasks.default", "once only", "-H", "Nats-Msg-Id:my1")
    nats(*publish)
    nats(*publish)
    assert nats.ask("agentflow.api.run", "once only", "-H", "Nats-Msg-Id:my1")["id"] == "my1"
    # The server's own window drops what comes at once; what comes later, the log makes harmless.
    until(lambda: "Duplicate: true" not in nats("pub", "-J", *publish[1:]))
    until(lambda: nats.waiting() == 0)
    assert nats.log("my1") == {"agentflow.progress.my1": 1, "agentflow.results.my1": 1}


def test_a_request_to_a_task_subject_answers_with_the_puback(nats: Cli) -> None:
    results = nats.results(1)
    ack = nats.ask("agentflow.tasks.default", "hello", "-H", "Agentflow-Kind:echo")
    assert ack["stream"] == "AGENTFLOW_TASKS"
    assert ack["seq"] > 0
    assert results()[0]["message"].startswith(f"{ack['seq']}-")


def test_a_request_to_run_answers_with_the_result(nats: Cli) -> None:
    said = nats("req", "agentflow.api.run", "Write a haiku", "--timeout", "60s")
    record = json.loads(said[said.index("{") :])
    assert record["state"] == "succeeded"
    assert record["text"]
    stored = nats.ask(
        "$JS.API.STREAM.MSG.GET.AGENTFLOW_RECORDS",
        json.dumps({"last_by_subj": f"agentflow.*.{record['id']}"}),
    )
    assert json.loads(base64.b64decode(stored["message"]["data"])) == record


@pytest.mark.parametrize("priority", ["hihg", "HIGH", "high.x"])
def test_a_mistyped_priority_is_refused_by_the_server(nats: Cli, priority: str) -> None:
    subject = f"agentflow.tasks.default.{priority}"
    assert "No responders" in nats("req", subject, "x")
    assert "no responders" in nats("pub", "-J", subject, "x", check=False)
    until(lambda: nats.waiting() == 0)


# ------------------------------------------------------------------- watching


def test_live_subjects_show_it_run(nats: Cli) -> None:
    heard = nats.sub("agentflow.live.>", 12)
    nats("req", "agentflow.api.run", "watch me", "-H", "Agentflow-Id:cli-live", "--timeout", "60s")
    # The bucket's keys are live too: how many messages are heard of the task is not known.
    nats("pub", "agentflow.tasks.default", "x", "--count", "8", "-H", "Agentflow-Kind:echo")
    said = heard()
    shown = re.findall(r'Received on "agentflow\.live\.([a-z]+)', said)
    assert [each for each in shown if each != "state"][:3] == ["tasks", "progress", "results"]
    assert '"id":"cli-live","state":"running"' in said
    assert '"id":"cli-live","state":"succeeded"' in said
    until(lambda: nats.waiting() == 0)


def test_tokens_show_it_speak(nats: Cli) -> None:
    heard = nats.sub("agentflow.tokens.>", 1)
    final = nats.ask("agentflow.api.run", "Write a haiku", "-H", "Agentflow-Id:cli-tokens")
    said = heard()
    assert 'Received on "agentflow.tokens.cli-tokens"' in said
    assert "Agentflow-Offset: 0" in said
    text = said.partition("\n\n")[2].strip()
    assert text
    assert final["text"].startswith(text)


# ------------------------------------------------------------------- looking


def test_streams_are_listed(nats: Cli) -> None:
    said = nats("stream", "ls")
    for name in ("TASKS", "RECORDS", "SCHEDULE", "DEAD"):
        assert f"AGENTFLOW_{name}" in said


def test_a_consumer_can_be_inspected(nats: Cli) -> None:
    said = nats("consumer", "info", "AGENTFLOW_TASKS", "default-normal")
    assert re.search(r"Ack Wait: 15\.00s", said)
    assert re.search(r"Waiting Pulls: [1-9]", said)
    assert re.search(r"Outstanding Acks: 0 ", said)
    assert "agentflow.tasks.default, agentflow.tasks.default.normal" in said


def test_the_bucket_is_listed(nats: Cli) -> None:
    assert re.search(r"\bagentflow\b", nats("kv", "ls"))
    assert "lease.master" in nats("kv", "ls", "agentflow")
    assert json.loads(nats("kv", "get", "agentflow", "lease.master", "--raw"))["actor"]


def test_the_master_is_a_service(nats: Cli) -> None:
    assert re.search(r"\bagentflow\b", nats("micro", "ls"))
    info = nats("micro", "info", "agentflow")
    for verb in ("run", "submit", "get", "list", "stats", "workers"):
        assert f"agentflow.api.{verb}\n" in info


# ------------------------------------------------------------------- a queue that nobody serves


def test_a_queue_without_a_worker_is_named(nats: Cli, fleet: Fleet) -> None:
    said = fleet.agentflow("submit", "anybody?", "--queue", "lonely")
    assert re.search(r"no worker serves the queue lonely\b", said)
    # A master that has just started does not know yet who is there.
    said = until(lambda: _naming(fleet.agentflow("stats")))
    assert re.search(r"^lonely .*\bnone\b", said, re.M)
    assert "lonely" in fleet.agentflow("doctor", check=False)


def _naming(said: str) -> str | None:
    return said if "queue lonely holds tasks and no worker serves it" in said else None
