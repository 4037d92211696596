"""What can be done to the system from here: one table, and what each act would mean.

An act has targets (tasks, dead letters, queues or workers), a preview that says how many they are,
what it costs and the command line that does the same, and a client call (feed/acting.py). What is
stopped is named by its queue, or by its key in the bucket (`closed.main.opus`, `pause.kind.docs`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from agentflow.dashboard.reader import keys
from agentflow.dashboard.reader.effects import Choose, Confirm, Effect
from agentflow.dashboard.reader.equivalents import (
    ON_A_LINE,
    Command,
    by_group,
    by_ids,
    drained_with_nats,
    dropped_with_nats,
    letters_of,
    one_by_one,
    paused_with_nats,
    resumed,
    resumed_with_nats,
    stopped,
)
from agentflow.dashboard.reader.remedies import remedy
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import money
from agentflow.dashboard.render.lines import Line, line
from agentflow.protocol.record import State
from agentflow.views import gates as gateviews
from agentflow.views.why import WITHOUT_PAYLOAD

TYPE_ABOVE: Final = 50
"""Above so many targets the number must be typed."""
NAMED: Final = 6
"""Targets that a preview names one by one."""

Of = Literal["task", "letter", "queue", "worker"]


@dataclass(frozen=True, slots=True)
class Act:
    """An act: `verb` as people say it, `done` when it is, `of` what it is done to.

    `effect` is what it means, `possible` whether it can be done to one target and `refusal` why
    not; `command` is the line of ours that does the same, `nats` that of the `nats` CLI.
    """

    name: str
    verb: str
    done: str
    of: Of
    effect: str
    command: Command
    possible: Callable[[Scene, str], bool] = lambda scene, target: True
    refusal: str = "it cannot be done now"
    warning: str = ""
    danger: bool = True
    nats: Callable[[Scene, str], str] | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a confirmation shows. `type_number`: the count must be typed.

    `command` does the same from a shell; `nats` with the `nats` CLI alone, "" where that cannot.
    """

    title: str
    lines: tuple[Line, ...]
    command: str
    count: int
    danger: bool = True
    nats: str = ""

    @property
    def type_number(self) -> bool:
        """Whether the number of targets must be typed to go on."""
        return self.count > TYPE_ABOVE


# What is possible.


def _unended(scene: Scene, target: str) -> bool:
    row = scene.store.rows.get(target)
    return row is not None and row.state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def _failed(scene: Scene, target: str) -> bool:
    row = scene.store.rows.get(target)
    return row is None or (
        row.state == State.FAILED and not row.dropped and row.reason not in WITHOUT_PAYLOAD
    )


def _running_worker(scene: Scene, target: str) -> bool:
    actor = scene.store.actors.get(target)
    return (
        actor is not None
        and not actor.beat.stopping
        and not actor.lost(scene.store.heard_by(scene.now))
    )


_RETRIED: Final = "back into its queue, the failures counted anew; the history is kept"
_PAID: Final = "each is a new call, and paid as one"
_DROPPED: Final = "its payload is deleted: the task stays failed and can be retried no more"

ACTS: Final[dict[str, Act]] = {
    act.name: act
    for act in (
        Act(
            "cancel",
            "cancel",
            "cancelled",
            "task",
            "what waits never starts; of what runs the answer is hung up on, its usage kept",
            by_ids("cancel"),
            _unended,
            "it has ended",
        ),
        Act(
            "retry",
            "retry",
            "started again",
            "task",
            _RETRIED,
            by_ids("retry"),
            _failed,
            "only a failed one whose message is kept can be",
            _PAID,
        ),
        Act(
            "retry_group",
            "retry",
            "started again",
            "letter",
            _RETRIED,
            by_group("retry"),
            _failed,
            "only a failed one whose message is kept can be",
            _PAID,
        ),
        Act(
            "drop",
            "drop",
            "dropped",
            "letter",
            _DROPPED,
            by_ids("dead drop"),
            warning="it cannot be undone",
            nats=dropped_with_nats,
        ),
        Act(
            "drop_group",
            "drop",
            "dropped",
            "letter",
            _DROPPED,
            by_group("drop"),
            warning="it cannot be undone",
            nats=dropped_with_nats,
        ),
        Act(
            "pause",
            "pause",
            "paused",
            "queue",
            "no task of it starts any more; what runs goes on; submissions wait",
            one_by_one("pause"),
            lambda scene, target: "." not in target and stopped(scene.store, target) is None,
            "it is paused already",
            nats=paused_with_nats,
        ),
        Act(
            "resume",
            "resume",
            "resumed",
            "queue",
            "tasks of it start again",
            resumed,
            lambda scene, target: stopped(scene.store, target) is not None,
            "it is not paused",
            danger=False,
            nats=resumed_with_nats,
        ),
        Act(
            "drain",
            "drain",
            "draining",
            "worker",
            "takes no more tasks, finishes what it runs or hands it back, and exits",
            one_by_one("drain"),
            _running_worker,
            "it is lost or draining already",
            nats=drained_with_nats,
        ),
    )
}

GATED: Final = frozenset({"overview", "queues"})
"""Views that show what is paused or closed."""
TOGGLES: Final = frozenset({"pause", "pause_all"})
"""Keys that pause what goes on and resume what is stopped; `_all`: whatever the view shows."""


# Beginning.


def begin(scene: Scene, name: str, targets: Iterable[str]) -> tuple[list[Effect], str]:
    """The effects that begin an act, and a sentence where it cannot be begun, or not for all."""
    act = ACTS[name]
    wanted = list(dict.fromkeys(targets))
    if not wanted:
        return [], f"nothing here to {act.verb}"
    possible = [target for target in wanted if act.possible(scene, target)]
    left = len(wanted) - len(possible)
    if not possible:
        return [], f"nothing to {act.verb}, {_counted(left, act.of)}: {act.refusal}"
    said = f"{_counted(left, act.of)} left out: {act.refusal}" if left else ""
    return [Confirm(name, tuple(possible))], said


def pressed(scene: Scene, name: str, targets: Iterable[str]) -> tuple[list[Effect], str]:
    """`begin` for a key. Of a toggle: what is stopped goes on, what goes on is paused; where there
    is both the person chooses.
    """
    if name not in TOGGLES:
        return begin(scene, name, targets)
    wanted = list(dict.fromkeys(scene.store.queues() if name == "pause_all" else targets))
    held = [target for target in wanted if stopped(scene.store, target) is not None]
    going = [target for target in wanted if ACTS["pause"].possible(scene, target)]
    if held and going:
        options = tuple(
            ("begin", shlex.join([act, *names]), f"{act} {_counted(len(names), 'queue')}")
            for act, names in (("resume", held), ("pause", going))
        )
        return [Choose("pause or resume", options)], ""
    return begin(scene, "resume" if held else "pause", held or going)


def menu(scene: Scene, view: str, targets: Callable[[str], list[str]]) -> Choose | None:
    """Everything that can be done in a view, with the key of each; None: nothing."""
    options = []
    for key in keys.keys_of(view, readonly=scene.readonly):
        if not key.act or key.command not in ("act", "submit"):
            continue
        if key.command == "submit":
            options.append(("submit", "", f"{key.title}   {keys.named(key.key)}"))
            continue
        effects, _ = pressed(scene, key.argument, targets(key.argument))
        if not effects:
            continue
        title = key.title
        if isinstance(effects[0], Confirm):
            act = ACTS[effects[0].act]
            title = f"{act.verb} {_counted(len(effects[0].targets), act.of)}"
            title += " (the group)" if key.argument.endswith("_group") else ""
        options.append(("act", key.argument, f"{title}   {keys.named(key.key)}"))
    if view in GATED and not scene.readonly:
        # A pool and a kind have no row of their own to put the cursor on.
        options += [
            ("begin", f"resume {gate.key}", f"resume {gate.what} {gate.name}")
            for gate in scene.store.gates
            if gate.what not in (gateviews.QUEUE, gateviews.BUDGET)
        ]
    return Choose("what can be done here", tuple(options)) if options else None


# Previewing.


def preview(scene: Scene, name: str, targets: Sequence[str]) -> Preview:
    """What the confirmation of an act says."""
    act = ACTS[name]
    lines = [_about("what", _what(scene, act, targets)), _about("effect", act.effect)]
    if act.of in ("task", "letter"):
        lines.append(_about("cost", _cost(scene, act, targets)))
    warnings = [act.warning] if act.warning else []
    if act.verb == "retry":
        warnings += _in_vain(scene, targets)
    lines += [line((f"{'warning':<9}", "dim"), (text, "warn")) for text in warnings]
    return Preview(
        title=f"{act.verb} {_counted(len(targets), act.of)}",
        lines=tuple(lines),
        command=act.command(scene, targets),
        count=len(targets),
        danger=act.danger,
        nats=_with_nats(scene, act, targets),
    )


def _with_nats(scene: Scene, act: Act, targets: Sequence[str]) -> str:
    if act.nats is None or len(targets) > ON_A_LINE:
        return ""
    return "; ".join(act.nats(scene, target) for target in targets)


def _about(name: str, text: str) -> Line:
    return line((f"{name:<9}", "dim"), text)


def _what(scene: Scene, act: Act, targets: Sequence[str]) -> str:
    """The set: names, and how many are in which state."""
    store = scene.store
    names = [store.name_of(each) if act.of == "worker" else each for each in targets[:NAMED]]
    shown = ", ".join(names)
    if len(targets) > NAMED:
        shown += f" and {len(targets) - NAMED:,} more"
    counts: dict[str, int] = {}
    for target in targets:
        for state, number in _states(scene, act, target):
            counts[state] = counts.get(state, 0) + number
    parts = ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items()) if number)
    return f"{shown} ({parts})" if parts else shown


def _states(scene: Scene, act: Act, target: str) -> list[tuple[str, int]]:
    store = scene.store
    if act.of == "queue":
        counts = store.totals.states.get(target)
        running = counts[State.RUNNING] if counts is not None else 0
        return [("waiting", max(0, store.waiting(target))), ("running", running)]
    if act.of == "worker":
        actor = store.actors.get(target)
        return [("tasks running", actor.beat.running)] if actor is not None else []
    row = store.rows.get(target)
    return [(row.state if row is not None else "dead letters", 1)]


def _cost(scene: Scene, act: Act, targets: Sequence[str]) -> str:
    rows = [scene.store.rows[target] for target in targets if target in scene.store.rows]
    spent = sum(row.cost or 0 for row in rows)
    burnt = sum(row.attempt for row in rows)
    so_far = f"{money(spent)} spent so far in {burnt:,} attempts"
    if act.verb != "retry":
        return f"{so_far}; nothing more"
    letters = {letter.id: letter.kind for letter in letters_of(scene, set(targets))}
    typical = _typical(scene)
    whole = typical.get("", 0)
    kinds = letters | {row.id: row.kind for row in rows}
    about = sum(typical.get(kinds.get(target, ""), whole) for target in targets)
    return f"about {money(about)}, as tasks of their kinds cost; {so_far}"


def _typical(scene: Scene) -> dict[str, int]:
    """By kind what a task costs on average, in micro-USD; "": of any kind."""
    sums: dict[str, list[int]] = {}
    for _, (_, _, kind), spend in scene.store.totals.booked():
        for name in (kind, ""):
            total = sums.setdefault(name, [0, 0])
            total[0] += spend.cost
            total[1] += spend.tasks - spend.unknown
    return {name: cost // tasks for name, (cost, tasks) in sums.items() if tasks > 0}


def _in_vain(scene: Scene, targets: Sequence[str]) -> list[str]:
    """What would fail again as it is, and what to do instead."""
    advice: dict[str, int] = {}
    letters = {letter.id: letter for letter in letters_of(scene, set(targets))}
    for target in targets:
        row, letter = scene.store.rows.get(target), letters.get(target)
        if row is not None:
            advised = remedy(row.reason, row.error or "")
        elif letter is not None:
            advised = remedy(letter.reason, letter.error)
        else:
            continue
        if not advised.again:
            advice[advised.advice] = advice.get(advised.advice, 0) + 1
    return [
        f"{number:,} of {len(targets):,} will fail again: {text}" for text, number in advice.items()
    ]


def _counted(number: int, of: Of) -> str:
    noun = {"letter": "dead letter"}.get(of, of)
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
