"""What can be done here: who may be done what to, what it would cost, and the line that does it."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
import pytest

from agentflow.cli import cli
from agentflow.dashboard.reader import acts
from agentflow.dashboard.reader.effects import Choose, Confirm
from agentflow.dashboard.reader.scene import Letter, Scene
from agentflow.dashboard.screen import typed
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.protocol import control
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Drain, Heartbeat
from agentflow.protocol.record import Usage
from agentflow.rules.routes import gates
from agentflow.views import feed
from agentflow.views.row import Row

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC).timestamp()
STATES = ("queued", "running", "retrying", "succeeded", "failed", "cancelled")


def row(task_id: str, state: str, **fields: Any) -> Row:
    values: dict[str, Any] = {
        "queue": "default",
        "kind": "claude",
        "sequence": len(task_id) + STATES.index(state),
        "updated": int(NOW * 1000) - 1000,
        "usage": Usage(10, 20),
        "cost": 2000,
        "attempt": 2,
    }
    return Row(id=task_id, state=state, **(values | fields))


def gate(what: str, name: str) -> GateView:
    key = {
        "queue": gates.queue_key(name),
        "kind": gates.kind_key(name),
        "pool": f"{gates.CLOSED}{name}",
    }[what]
    return GateView(key=key, what=what, name=name, since=datetime.now(UTC))


def beat(name: str, **fields: Any) -> Heartbeat:
    at = datetime.fromtimestamp(NOW, UTC)
    values: dict[str, Any] = {
        "role": "worker",
        "actor": f"{name}-abc",
        "name": name,
        "host": "h",
        "pid": 1,
        "version": "1",
        "started": at,
        "time": at,
        "interval_s": 2.0,
        "queues": ["default"],
        "running": 3,
    }
    return Heartbeat(**(values | fields))


@pytest.fixture
def dash() -> Dashboard:
    made = Dashboard()
    take = made.store.apply
    take(feed.Link(at=NOW, up=True))
    take(feed.Rows(at=NOW, rows=[row(state, state) for state in STATES]))
    depths = [feed.QueueDepth(queue=name) for name in ("default", "other")]
    take(feed.Depths(at=NOW, queues=depths))
    for worker in (beat("w-1"), beat("w-2", stopping=True)):
        take(feed.Beat(at=NOW, beat=worker))
    return made


def begun(dash: Dashboard, name: str, *targets: str) -> tuple[list[object], str]:
    effects, said = acts.begin(dash.scene(NOW), name, targets)
    return list(effects), said


def letter(task_id: str, fingerprint: str = "f1", **fields: Any) -> Letter:
    values: dict[str, Any] = {"reason": "timeout", "error": "timeout: too long", "kind": "claude"}
    return Letter(
        id=task_id,
        queue="default",
        fingerprint=fingerprint,
        attempts=3,
        at=NOW,
        labels={},
        **(values | fields),
    )


# Who.


def test_only_what_can_be_done_is_begun_and_the_rest_is_told(dash: Dashboard) -> None:
    effects, said = begun(dash, "cancel", *STATES)
    assert effects == [Confirm("cancel", ("queued", "running", "retrying"))]
    assert said == "3 tasks left out: it has ended"
    effects, said = begun(dash, "retry", "failed", "old-one", "failed")
    assert (effects, said) == ([Confirm("retry", ("failed", "old-one"))], "")
    assert begun(dash, "retry", "running") == (
        [],
        "nothing to retry, 1 task: only a failed one whose message is kept can be",
    )
    assert begun(dash, "drain", "w-1-abc", "w-2-abc")[0] == [Confirm("drain", ("w-1-abc",))]
    assert begun(dash, "drop") == ([], "nothing here to drop")


def test_pause_is_a_toggle(dash: Dashboard) -> None:
    def pressed(name: str, *targets: str) -> object:
        effects, _ = acts.pressed(dash.scene(NOW), name, targets)
        return effects[0] if effects else None

    assert pressed("pause", "default") == Confirm("pause", ("default",))
    assert pressed("pause_all") == Confirm("pause", ("default", "other"))
    dash.store.apply(feed.Gates(at=NOW, gates=[gate("queue", "other"), gate("pool", "main.opus")]))
    assert pressed("pause", "other") == Confirm("resume", ("other",))
    assert pressed("pause", "closed.main.opus") == Confirm("resume", ("closed.main.opus",))
    choice = pressed("pause_all")
    assert isinstance(choice, Choose)
    assert choice.options == (
        ("begin", "resume other", "resume 1 queue"),
        ("begin", "pause default", "pause 1 queue"),
    )
    assert dash.do("begin", "pause default", NOW) == [Confirm("pause", ("default",))]
    assert pressed("pause") is None
    # What is typed is meant.
    assert begun(dash, "pause", "other")[0] == []


def test_typed_acts_take_names_and_all(dash: Dashboard) -> None:
    assert dash.do("command", "drain w-1", NOW) == [Confirm("drain", ("w-1-abc",))]
    assert dash.do("command", "pause all", NOW) == [Confirm("pause", ("default", "other"))]
    assert dash.do("command", "cancel running", NOW) == [Confirm("cancel", ("running",))]
    dash.readonly = True
    assert dash.do("command", "cancel running", NOW) == []
    assert dash.notice is not None
    assert "read-only" in dash.notice.text


def test_the_menu_has_what_can_be_done_here_with_its_key(dash: Dashboard) -> None:
    dash.do("open_task", "running", NOW)
    (menu,) = dash.press("a", NOW)
    assert isinstance(menu, Choose)
    assert [title for _, _, title in menu.options] == [
        "cancel 1 task   c",
        "pause 1 queue   P",
        "pause 2 queues   Z",
    ]
    command, argument, _ = menu.options[0]
    assert dash.do(command, argument, NOW) == [Confirm("cancel", ("running",))]
    for lost in (feed.Link(at=NOW, up=False), None):
        if lost is None:
            dash.readonly = True
        else:
            dash.store.apply(lost)
        assert dash.press("a", NOW) == []
        assert dash.do("act", "cancel", NOW) == []
        assert dash.do("acts", "", NOW) == []


def test_the_menu_lifts_what_has_no_row_of_its_own(dash: Dashboard) -> None:
    stopped = [gate("queue", "other"), gate("pool", "main.opus"), gate("kind", "my.kind")]
    dash.store.apply(feed.Gates(at=NOW, gates=stopped))
    dash.open("queues")
    (menu,) = dash.press("a", NOW)
    assert isinstance(menu, Choose)
    assert [title for _, _, title in menu.options][-2:] == [
        "resume pool main.opus",
        "resume kind my.kind",
    ]
    command, argument, _ = menu.options[-1]
    assert dash.do(command, argument, NOW) == [Confirm("resume", ("pause.kind.my_kind",))]


def test_marked_tasks_are_the_targets(dash: Dashboard) -> None:
    dash.open("tasks")
    dash.do("filter_set", "state:running,queued", NOW)
    dash.frame(120, 36, NOW)
    dash.press("*", NOW)
    (confirm,) = dash.press("c", NOW)
    assert isinstance(confirm, Confirm)
    assert set(confirm.targets) == {"running", "queued"}


# What it means.


def told(scene: Scene, name: str, *targets: str) -> str:
    found = acts.preview(scene, name, targets)
    return "\n".join([found.title, *(line.text for line in found.lines)])


def test_a_preview_says_set_states_cost_and_what_is_in_vain(dash: Dashboard) -> None:
    scene = dash.scene(NOW)
    text = told(scene, "cancel", "queued", "running", "retrying")
    assert "cancel 3 tasks" in text
    assert "queued, running, retrying (1 queued, 1 retrying, 1 running)" in text
    assert "$0.0060 spent so far in 6 attempts; nothing more" in text
    too_long = row("failed", "failed", reason="invalid_request", error="x: prompt is too long")
    dash.store.apply(feed.Rows(at=NOW, rows=[msgspec.structs.replace(too_long, sequence=99)]))
    dash.answers.letters = [letter("old-one")]
    text = told(scene, "retry", "failed", "old-one")
    assert "failed, old-one (1 dead letters, 1 failed)" in text
    assert "about $0.0040, as tasks of their kinds cost" in text
    assert "1 of 2 will fail again: split the prompt" in text
    text = told(scene, "drain", "w-1-abc")
    assert "w-1 (3 tasks running)" in text
    assert "default (1 running)" in told(scene, "pause", "default")


def test_above_fifty_the_number_is_typed_and_few_are_named(dash: Dashboard) -> None:
    scene = dash.scene(NOW)
    many = [f"t{number}" for number in range(51)]
    assert acts.preview(scene, "cancel", many).type_number
    assert not acts.preview(scene, "cancel", many[1:]).type_number
    assert "t5 and 45 more" in told(scene, "cancel", *many)
    found = acts.preview(scene, "cancel", [f"t{number}" for number in range(5_000)])
    assert found.command.endswith("...  # 5,000 in all")


def test_a_group_is_named_by_its_fingerprint_where_it_is_whole(dash: Dashboard) -> None:
    dash.answers.letters = [letter("a"), letter("b"), letter("c", "f2")]
    scene = dash.scene(NOW)
    command = acts.preview(scene, "retry_group", ["a", "b"]).command
    assert command == "agentflow dead retry --fingerprint f1"
    assert acts.preview(scene, "drop_group", ["a"]).command == "agentflow dead drop --yes a"
    assert acts.preview(scene, "drop_group", ["a", "c"]).command == "agentflow dead drop --yes a c"


def parsed(command: click.Command, words: list[str]) -> None:
    """Fails unless the program takes the words, whatever it would do then."""
    with click.Context(command) as context:
        while isinstance(command, click.Group):
            found = command.get_command(context, words[0])
            assert found is not None, words
            command, words = found, words[1:]
        command.make_context(command.name, words, parent=context)


def test_every_command_line_is_one_that_the_program_takes(dash: Dashboard) -> None:
    dash.store.apply(
        feed.Gates(
            at=NOW, gates=[gate("queue", "other"), gate("pool", "main.opus"), gate("kind", "x")]
        )
    )
    scene = dash.scene(NOW)
    cases = {
        "cancel": ["running"],
        "retry": ["failed", "old-one"],
        "retry_group": ["failed"],
        "drop": ["failed"],
        "drop_group": ["failed", "old-one"],
        "pause": ["default"],
        "resume": ["other", "closed.main.opus"],
        "drain": ["w-1-abc"],
    }
    assert cases.keys() == acts.ACTS.keys()
    for name, targets in cases.items():
        for each in acts.preview(scene, name, targets).command.split("; "):
            words = shlex.split(each)
            assert words[0] == "agentflow"
            parsed(cli, words[1:])
    command = acts.preview(scene, "resume", ["other", "closed.main.opus", "pause.kind.x"]).command
    assert command == "agentflow resume --all"


def test_what_nats_alone_can_do(dash: Dashboard) -> None:
    scene = dash.scene(NOW)
    paused = shlex.split(acts.preview(scene, "pause", ["default"]).nats)
    assert paused[:5] == ["nats", "kv", "put", "agentflow", "pause.default"]
    found = gates.read_paused(paused[5].encode())
    assert found is not None
    assert found.since.timestamp() == NOW
    drained = shlex.split(acts.preview(scene, "drain", ["w-1-abc"]).nats)
    assert drained[:3] == ["nats", "pub", "agentflow.control.worker.w-1-abc"]
    assert control.decode(drained[3].encode()) == Drain()
    resumed = acts.preview(scene, "resume", ["default"]).nats
    assert resumed == "nats kv del agentflow pause.default --force"
    assert acts.preview(scene, "cancel", ["running"]).nats == ""


@pytest.mark.parametrize(
    ("text", "before"),
    [("12:00:00", 0.0), ("11:59", 60.0), ("-10m", 600.0), ("2026-11-27 11:00:00Z", 3600.0)],
)
def test_an_instant_that_is_typed(text: str, before: float) -> None:
    at = typed.instant(f"{text}Z" if ":" in text and "Z" not in text else text, NOW)
    assert at == NOW - before


def test_what_is_no_instant() -> None:
    for text in ("soon", "25:00", "2026-13-01 10:00"):
        assert typed.instant(text, NOW) is None
