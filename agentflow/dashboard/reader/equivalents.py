"""The command lines that do what an act does, with `agentflow` or with `nats` alone. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from agentflow.dashboard.reader.scene import Letter, Scene
from agentflow.dashboard.store.store import Store
from agentflow.protocol import control, subjects
from agentflow.protocol.api import GateView
from agentflow.protocol.control import Drain
from agentflow.rules.routes import gates
from agentflow.views import gates as gateviews

ON_A_LINE: Final = 1_000
"""Targets that a command line names; more do not fit one."""
NAMED: Final = 6

Command = Callable[[Scene, Sequence[str]], str]


def by_ids(verb: str) -> Command:
    """`agentflow VERB` with the ids of tasks."""

    def command(scene: Scene, targets: Sequence[str]) -> str:
        # What is dropped is gone, so it is asked about even where it is one.
        more = " --yes" if len(targets) > 1 or verb.endswith("drop") else ""
        return f"agentflow {verb}{more} {_listed(targets)}"

    return command


def _listed(targets: Sequence[str]) -> str:
    if len(targets) <= ON_A_LINE:
        return shlex.join(targets)
    return f"{shlex.join(targets[:NAMED])} ...  # {len(targets):,} in all"


def by_group(verb: str) -> Command:
    """`agentflow dead VERB` by fingerprint, where the targets are all the letters that have it."""

    def command(scene: Scene, targets: Sequence[str]) -> str:
        wanted = set(targets)
        causes = {letter.fingerprint for letter in letters_of(scene, wanted)}
        if len(causes) == 1:
            (fingerprint,) = causes
            known = scene.answers.letters or ()
            if {each.id for each in known if each.fingerprint == fingerprint} == wanted:
                yes = " --yes" if verb == "drop" else ""
                return f"agentflow dead {verb}{yes} --fingerprint {shlex.quote(fingerprint)}"
        return by_ids(f"dead {verb}")(scene, targets)

    return command


def one_by_one(verb: str) -> Command:
    """`agentflow VERB` once for each target."""
    return lambda scene, targets: "; ".join(
        f"agentflow {verb} {shlex.quote(name)}" for name in targets[:ON_A_LINE]
    )


def resumed(scene: Scene, targets: Sequence[str]) -> str:
    """What lifts pauses and closures; all at once where it is all of them."""
    gates_of = [stopped(scene.store, target) for target in targets]
    if all(gates_of) and len(gates_of) == len(scene.store.gates) > 1:
        return "agentflow resume --all"
    return "; ".join(
        gateviews.remedy(gate) if gate is not None else f"agentflow resume {shlex.quote(target)}"
        for gate, target in zip(gates_of, targets, strict=True)
    )


def paused_with_nats(scene: Scene, target: str) -> str:
    """Pause a queue."""
    value = gates.Paused(since=datetime.fromtimestamp(int(scene.now), UTC), actor="nats")
    text = shlex.quote(msgspec.json.encode(value).decode())
    return f"nats kv put agentflow {shlex.quote(gates.queue_key(target))} {text}"


def resumed_with_nats(scene: Scene, target: str) -> str:
    """Lift a pause or a closure."""
    gate = stopped(scene.store, target)
    key = gate.key if gate is not None else gates.queue_key(target)
    return f"nats kv del agentflow {shlex.quote(key)} --force"


def drained_with_nats(scene: Scene, target: str) -> str:
    """Tell a worker to stop."""
    data = control.encode(Drain()).decode()
    mailbox = shlex.quote(subjects.control("worker", target))
    return f"nats pub {mailbox} {shlex.quote(data)}"


def dropped_with_nats(scene: Scene, target: str) -> str:
    """Delete a dead letter."""
    letters = letters_of(scene, {target})
    subject = shlex.quote(subjects.dead(letters[0].queue if letters else "*", target))
    return f"nats stream purge AGENTFLOW_DEAD --subject {subject} --force"


def stopped(store: Store, target: str) -> GateView | None:
    """What stops a queue, or what has this key in the bucket."""
    for gate in store.gates:
        if gate.key == target or (gate.what == gateviews.QUEUE and gate.name == target):
            return gate
    return None


def letters_of(scene: Scene, wanted: set[str]) -> list[Letter]:
    """Those of the dead letters that were read."""
    return [letter for letter in scene.answers.letters or () if letter.id in wanted]
