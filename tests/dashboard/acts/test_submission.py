"""The form for a new task: judged field by field as a worker would, with its command line."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from agentflow.cli.commands import submit as cli
from agentflow.cli.intake import Place
from agentflow.dashboard.reader import submission
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.protocol import limits, task
from agentflow.protocol.api import GateView
from agentflow.protocol.record import Usage
from agentflow.protocol.task import TaskBody
from agentflow.views import feed
from agentflow.views.row import Row

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC).timestamp()


def scene(*rows: Row) -> Scene:
    dash = Dashboard()
    dash.store.apply(feed.Rows(at=NOW, rows=list(rows)))
    return dash.scene(NOW)


def done(number: int, **fields: Any) -> Row:
    at = int(NOW * 1000) - 60_000
    values: dict[str, Any] = {"kind": "claude", "model": "opus", "cost": 3000}
    return Row(
        id=f"t{number}",
        sequence=number,
        state="succeeded",
        queue="reports",
        updated=at,
        submitted=at - 5000,
        started=at - 3000,
        ended=at,
        usage=Usage(10, 20),
        **(values | fields),
    )


def test_what_is_right_is_what_the_client_takes() -> None:
    checked = submission.check(
        {
            "prompt": "Say it's\nso",
            "kind": "claude",
            "queue": "reports",
            "priority": "high",
            "model": "opus",
            "system": "Be brief",
            "max_tokens": "1,000",
            "params": '{"temperature": 0, "stop": "true", "user": "me"}',
            "labels": "team=research 'note=two words'",
            "id": "a-1",
            "start": "10m",
            "file": " ",
        },
        NOW,
    )
    assert checked.ok
    at = checked.arguments.pop("not_before")
    assert at.timestamp() == NOW + 600
    assert checked.arguments == {
        "prompt": "Say it's\nso",
        "kind": "claude",
        "queue": "reports",
        "priority": "high",
        "model": "opus",
        "system": "Be brief",
        "max_tokens": 1000,
        "params": {"temperature": 0, "stop": "true", "user": "me"},
        "labels": {"team": "research", "note": "two words"},
        "id": "a-1",
    }


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "kind": "not a kind"}, "kind"),
        ({"prompt": "x", "queue": "Not A Queue"}, "queue"),
        ({"prompt": "x", "priority": "urgent"}, "priority"),
        ({"prompt": "x", "model": "m" * 300}, "model"),
        ({"prompt": "x", "max_tokens": "many"}, "max_tokens"),
        ({"prompt": "x", "max_tokens": "0"}, "max_tokens"),
        ({"prompt": "x", "params": "[1]"}, "params"),
        ({"prompt": "x", "labels": "team"}, "labels"),
        ({"prompt": "x", "labels": "team='a"}, "labels"),
        ({"prompt": "x", "labels": f"team={'a' * 65}"}, "labels"),
        ({"prompt": "x", "id": "a.b"}, "id"),
        ({"prompt": "x", "start": "soon"}, "start"),
        ({"prompt": "x", "start": "25:61"}, "start"),
        ({"prompt": "x" * (limits.TASK_BYTES + 1)}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": "x", "file": "a.txt"}, "file"),
        ({"file": "a.txt"}, "file"),
    ],
)
def test_a_mistake_stands_beside_its_field(values: dict[str, str], fault: str) -> None:
    checked = submission.check(values, NOW)
    assert list(checked.problems) == [fault]
    assert "$" not in checked.problems[fault]


def test_a_start_too_far_ahead_is_told_at_the_start() -> None:
    at = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 9 * 86_400, UTC)
    assert list(submission.check({"prompt": "x", "start": at.isoformat()}, NOW).problems) == [
        "start"
    ]


def test_several_mistakes_are_told_at_once() -> None:
    checked = submission.check({"queue": "A", "id": "!", "params": "{"}, NOW)
    assert set(checked.problems) == {"queue", "id", "params"}


def test_the_file_is_the_prompt() -> None:
    checked = submission.check({"file": "a b.txt"}, NOW, content="{not a task}")
    assert checked.arguments["prompt"] == "{not a task}"
    assert checked.command == "agentflow submit --text --file 'a b.txt'"
    assert submission.check({"file": "x"}, NOW, unreadable="no such file").problems == {
        "file": "no such file"
    }


def test_a_time_of_day_lies_ahead() -> None:
    for text in ("00:00", "11:59:59", "12:00", "23:59"):
        at = submission.moment(text, NOW)
        assert at is not None
        assert 0 < at.timestamp() - NOW <= 86_400
    iso = submission.moment("2026-11-28T08:00:00+00:00", NOW)
    assert iso == datetime(2026, 11, 28, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "plain"},
        {"prompt": "-f is an option"},
        {"prompt": '{"prompt": "json"}'},
        {"prompt": "it's\n$HOME `x`", "queue": "reports", "priority": "low"},
        {"kind": "sleep", "params": '{"seconds": 2, "name": "true", "who": "me", "n": null}'},
        {"prompt": "x", "labels": "a=b 'c=d e'", "id": "i", "model": "m", "system": "s s"},
        {"prompt": "x", "max_tokens": "5", "start": "2026-11-28T08:00:00+00:00"},
    ],
)
def test_the_command_line_submits_the_same(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[TaskBody, Place]] = []

    async def take(connection: Any, body: TaskBody, place: Place, *_: Any) -> int:
        sent.append((body, place))
        return 0

    monkeypatch.setattr(cli, "_submit", take)
    checked = submission.check(values, NOW)
    assert checked.ok, checked.problems
    words = shlex.split(checked.command)
    assert words[:2] == ["agentflow", "submit"]
    answer = CliRunner().invoke(cli.command, words[2:], standalone_mode=False)
    assert answer.exception is None
    ((body, place),) = sent
    wanted = dict(checked.arguments)
    assert (place.queue, place.priority) == (wanted.pop("queue"), wanted.pop("priority"))
    assert body == TaskBody(**wanted)


def test_the_nats_cli_submits_the_same() -> None:
    values = {"prompt": "say {{Count}}", "queue": "q", "priority": "high", "id": "i", "start": "1h"}
    checked = submission.check(values, NOW)
    words = shlex.split(checked.nats)
    assert words[:3] == ["nats", "pub", "agentflow.tasks.q.high"]
    assert words[4:] == ["--no-templates"]
    body = task.parse_body(words[3].encode(), {})
    assert (body.prompt, body.id) == ("say {{Count}}", "i")
    assert body.not_before is not None
    assert body.not_before.timestamp() == NOW + 3600
    assert submission.check({"file": "f"}, NOW, content="x").nats == ""


def test_the_estimate_names_cost_wait_and_what_stands_in_the_way() -> None:
    found = scene(done(1), done(2, cost=5000), done(3, kind="echo", cost=0))
    values = {"queue": "reports", "kind": "claude"}
    store = found.store
    assert submission.estimate(found, values) == [
        "about $0.0040, as 2 tasks of kind claude cost on average",
        "nothing waits in queue reports",
        "no worker serves queue reports: agentflow worker --queues reports",
    ]
    depth = feed.QueueDepth(queue="reports", messages=30, waiting={"normal": 30})
    store.apply(feed.Depths(at=NOW, queues=[depth]))
    gate = GateView(key="pause.reports", what="queue", name="reports", since=datetime.now(UTC))
    store.apply(feed.Gates(at=NOW, gates=[gate]))
    sentences = submission.estimate(found, values)
    assert sentences[1] == "30 wait in queue reports before it, about 50m00"
    assert "queue reports is paused" in sentences[2]


def test_the_form_offers_what_is_known() -> None:
    fields = {each.name: each for each in submission.fields(scene(done(1)), "reports")}
    assert fields["queue"].value == "reports"
    assert fields["model"].choices == ("opus",)
    assert fields["priority"].choices == ("high", "normal", "low")
    assert submission.check({name: each.value for name, each in fields.items()}, NOW).problems == {
        "prompt": "a task needs a prompt (or params)"
    }
