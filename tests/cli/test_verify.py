"""`agentflow verify` as its users call it."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Here
from tests.cli.test_streams import with_js
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def ran(cli: Here, nats: NatsServer, worker: int) -> list[str]:
    """Ids of three tasks that have ended."""
    ids = [f"{cli.__class__.__name__}-{number}" for number in range(3)]
    for task_id in ids:
        cli("submit", "x", "--kind", "echo", "--id", task_id, "--wait")
    return ids


def test_what_is_well_is_said(cli: Here, ran: list[str], tmp_path: Path) -> None:
    ledger = tmp_path / "ids"
    ledger.write_text("\n".join(ran))
    # The tasks of the other tests were submitted more than once.
    done = cli("verify", "--ledger", str(ledger), "--json")
    found = done.lines[0]
    assert found["figures"]["submitted"] == 3
    assert found["figures"]["states"]["succeeded"] >= 3
    assert [each for each in found["findings"] if each["kind"] != "unproved"] == []


def test_what_is_lost_is_named_and_ends_with_1(
    cli: Here, ran: list[str], nats: NatsServer, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(json.dumps({"id": "never-came", "sequence": 999_999}) + "\n")
    done = cli("verify", "--ledger", str(ledger))
    assert done.code == 1
    assert "lost: never-came: acknowledged, and it has neither message nor log" in done.out
    done = cli("verify", "--ledger", str(ledger), "--json")
    assert (done.code, done.lines[0]["ids"]) == (1, ["never-came"])
    assert done.lines[0]["kept"] is False


def test_a_server_where_all_is_well_ends_with_0(
    cli: Here, nats_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from agentflow.bus.streams import provision

    with_js(nats_server, provision.ensure_streams)
    done = cli("verify", "--nats", nats_server.url, "--rest")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("Nothing is lost, nothing ended twice.\n")


def test_the_dashboard_counts_what_is_there(cli: Here, nats: NatsServer, ran: list[str]) -> None:
    done = cli("verify", "--dashboard", "--json")
    assert [each for each in done.lines[0]["findings"] if each["kind"] == "mistold"] == []
    assert done.lines[0]["figures"]["states"]["succeeded"] >= 3


def test_requests_may_come_from_a_file(
    cli: Here, nats: NatsServer, ran: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "stats.json"
    log.write_text(json.dumps({"requests": 0, "log": []}))
    done = cli("verify", "--requests", str(log), "--json")
    assert done.lines[0]["figures"]["paid_calls"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--complete"], "--complete says something of the ledger"),
        (["--simulator", "x", "--requests", "y"], "give one"),
        (["--simulator", "ftp://x"], "is not the URL of a simulator"),
        (["--requests", "/nowhere"], "cannot read /nowhere"),
    ],
)
def test_wrong_usage_is_said(cli: Here, arguments: list[str], says: str) -> None:
    done = cli("verify", *arguments)
    assert done.code == 2
    assert says in done.err


def test_a_file_that_is_no_ledger_is_said(cli: Here, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("fine\nnot an id\n")
    done = cli("verify", "--ledger", str(tmp_path / "x"))
    assert done.code == 2
    assert "line 2 is neither an id nor a JSON object: 'not an id'" in done.err


def test_a_server_without_streams_is_one_sentence(cli: Here, nats_server: NatsServer) -> None:
    done = cli("verify", "--nats", nats_server.url)
    assert done.code == 3
    assert done.err.startswith("agentflow: ")
    assert "AGENTFLOW_TASKS" in done.err
