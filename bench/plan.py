"""Which design meets which loads, and how long that will take. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from bench.comparison import Trial
from bench.ladders import CLI_IN_FLIGHT, Ladder, Load
from bench.rows.design import Design

CLI_CPU_S: Final = 0.9
"""Of one run of the CLI when ten run at once; measured with 2.1.197."""
SET_UP_S: Final = 4.0
PROCESS_S: Final = 0.25
"""A forked worker process until it serves."""


def trials(designs: Iterable[Design], ladder: Ladder) -> list[Trial]:
    """All of them, in the order in which they are run."""
    return [trial for design in designs for trial in _of(design, ladder)]


def _of(design: Design, ladder: Ladder) -> Iterator[Trial]:
    if design.alternative:
        widest = [load for load in ladder.steps if load.in_flight <= CLI_IN_FLIGHT][-1]
        yield _cut(design, widest, ladder.cli_tasks)
        return
    for load in ladder.steps:
        if not design.runs_cli:
            yield Trial(design.name, load)
        elif load.in_flight <= CLI_IN_FLIGHT:
            yield _cut(design, load, ladder.cli_tasks)
    if design.prefork:
        for load in ladder.steps:
            if load.in_flight >= 10 * ladder.processes:
                yield Trial(design.name, load, ladder.processes)
        yield Trial(design.name, ladder.crowd, ladder.crowd_processes)
    if ladder.scattered is not None:
        yield _cut(design, ladder.scattered, max(1, ladder.cli_tasks // 2))


def _cut(design: Design, load: Load, most: int) -> Trial:
    """No more tasks than so many, where each is a process."""
    if not design.runs_cli or design.stays or load.tasks <= most:
        return Trial(design.name, load)
    return Trial(design.name, msgspec.structs.replace(load, tasks=most), 1, load.tasks)


def expected_s(trial: Trial, design: Design, cores: int) -> float:
    """About how long a trial takes on a machine that has nothing else to do."""
    load = trial.load
    rounds = sum(load.floor(number) for number in range(load.rounds))
    if design.runs_cli and not design.stays:
        alone = CLI_CPU_S * load.tasks / min(cores, load.in_flight)
        rounds = max(rounds + CLI_CPU_S * load.tasks / load.in_flight, alone)
    elif design.stays:
        rounds += CLI_CPU_S * load.in_flight
    return rounds + SET_UP_S + PROCESS_S * trial.processes
