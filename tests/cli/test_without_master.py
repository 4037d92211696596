"""What works without a master, and what says that it does not."""

import pytest

from tests.cli.conftest import Here

pytestmark = pytest.mark.usefixtures("nats")


@pytest.mark.parametrize("command", [["list"], ["stats"], ["workers"], ["list", "--json"]])
def test_what_needs_a_master_says_so(cli: Here, command: list[str]) -> None:
    done = cli(*command)
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        "agentflow: No master answers; tasks still run. Start one with: agentflow master\n"
    )


def test_get_of_an_unknown_task(cli: Here) -> None:
    done = cli("get", "unheard-of")
    assert (done.code, done.out) == (1, "")
    assert "no master answers" in done.err


def test_tasks_run(cli: Here, worker: int) -> None:
    assert cli("submit", "x", "--kind", "echo", "--wait", "--id", "free-1").out == "x\n"
    assert cli("get", "free-1").code == 0
    assert "succeeded" in cli("watch", "free-1").out


def test_watch_of_what_is_still_queued_waits(cli: Here, worker: int) -> None:
    cli("submit", "--kind", "sleep", "--param", "seconds=0.3", "--id", "coming-1")
    done = cli("watch", "coming-1", "--json")
    assert done.code == 0
    assert done.lines[-1]["record"]["state"] == "succeeded"
