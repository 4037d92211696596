"""Is a function call better than a process a task? Each design runs the same tasks.

    30 tasks at 1 in flight, 200 at 10, 1000 at 100 and at 1000; 100 processes with 10 slots each
    answers of 2.0 s, and log-normal ones; the API is the simulator, so SIMULATED
    designs that run a CLI stay at 10 in flight

Every design takes its tasks from AgentFlow's queue (but for the floor, which has none), and is
timed by the same client. Each measurement is on a fresh rig (rig.py); the figures are those of
comparison.py. Everything shares one machine: the client, the server, the master and the simulator
compete with the workers, the same for all, and what they used stands beside.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from agentflow.errors import AgentFlowError
from bench.compare import comparison, drive, figures, plan, rig, sizes, tables
from bench.compare.comparison import Comparison, Failed, Measured, Row, Trial
from bench.compare.ladders import SEED, Ladder
from bench.compare.rows import BY_NAME, DESIGNS
from bench.compare.rows.design import Design, find_cli
from bench.instruments import machine, tree

PATIENCE = 4.0
"""A trial that takes so many times the expected time, and five minutes more, is given up."""


async def main(
    ladder: Ladder,
    *,
    names: Sequence[str] = (),
    cli: str | None = None,
    anyway: bool = False,
    out: Path | None = None,
    renew: Path | None = None,
) -> int:
    """Run, print, write JSON; returns the exit code."""
    console = Console(width=None if Console().is_terminal else 120)
    facts = machine.describe() if anyway else machine.settled(console.print)
    busy = machine.busy(facts)
    if busy and not anyway:
        console.print(
            f"This machine is busy: its load is {facts['load_before'][0]} on {facts['cores']} "
            "cores. Figures from now would be the load's, not the designs'. Wait, or compare "
            "--anyway; the result then says so."
        )
        return 3
    program = find_cli(cli)
    chosen = [design for design in DESIGNS if not names or design.name in names]
    rows = [_row(design, program) for design in chosen]
    present = [design for design, row in zip(chosen, rows, strict=True) if row.missing is None]
    todo = plan.trials(present, ladder)
    minutes = sum(_expected(trial) for trial in todo) / 60
    console.print(
        f"SIMULATED answers. {len(todo)} measurements of {len(present)} designs, some "
        f"{minutes:.0f} minutes on a quiet machine."
    )
    for row in rows:
        if row.missing:
            console.print(f"not measured: {row.title}: {row.missing}")
    began = time.monotonic()
    measured, failed = await _all(todo, program, console)
    facts["load_after"] = [round(value, 2) for value in os.getloadavg()]
    compared = Comparison(
        ladder=ladder.name,
        seed=SEED,
        machine=facts,
        busy=busy,
        image=sizes.image_mb(),
        seconds=round(time.monotonic() - began, 1),
        rows=rows,
        trials=measured,
        failed=failed,
    )
    to = out or comparison.path("part" if names else ladder.name)
    if renew is not None:
        try:
            compared, to = comparison.renewed(comparison.read(renew), compared), out or renew
        except comparison.Unlike as error:
            to = comparison.path("part")
            console.print(f"{renew} is left as it was: {error}.")
    comparison.write(compared, to)
    tables.show(compared, console)
    console.print(f"Written to {to}; `python -m bench report {to}` makes the report from it.")
    return 0 if not failed else 1


def _row(design: Design, cli: str | None) -> Row:
    missing = design.missing(cli)
    here = missing is None
    return Row(
        name=design.name,
        title=design.title,
        text=design.text,
        runs_cli=design.runs_cli,
        versions=design.versions(cli) if here else {},
        size=design.size(cli) if here else None,
        missing=missing,
    )


def _expected(trial: Trial) -> float:
    return plan.expected_s(trial, BY_NAME[trial.design], os.cpu_count() or 1)


async def _all(
    todo: Sequence[Trial], cli: str | None, console: Console
) -> tuple[list[Measured], list[Failed]]:
    measured: list[Measured] = []
    failed: list[Failed] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        whole = progress.add_task("measurements", total=len(todo))
        for trial in todo:
            tasks = trial.load.tasks * trial.load.rounds
            bar = progress.add_task(f"  {trial}", total=tasks)
            try:
                async with asyncio.timeout(300 + PATIENCE * _expected(trial)):
                    result = await measure(trial, cli, partial(progress.advance, bar))
                measured.append(result)
                console.print(tables.line(result))
            except (AgentFlowError, OSError, TimeoutError) as error:
                reason = str(error) or "it took too long and was given up"
                failed.append(Failed(trial, reason))
                console.print(f"FAILED {trial}: {reason}")
            progress.remove_task(bar)
            progress.advance(whole)
    return measured, failed


async def measure(trial: Trial, cli: str | None, done: Callable[[], None]) -> Measured:
    """One design under one load, on a rig of its own. Raises AgentFlowError, OSError."""
    load = trial.load
    async with rig.rig(
        BY_NAME[trial.design], slots=trial.slots, processes=trial.processes, cli=cli
    ) as ready:
        pid = ready.worker.pid
        await ready.answer_with(load.latency.layer)
        # The pages that the warming up has touched are counted as what the idle worker has.
        idle = await asyncio.to_thread(tree.pss_mb, pid)
        before, client = _used(pid, ready), _own_cpu()
        rounds: list[drive.Round] = []
        async with tree.Sampler(pid) as sampler:
            for number in range(load.rounds):
                order = drive.Order(load.prompts(number), load.in_flight)
                rounds.append(await ready.round(order, done))
        after = _used(pid, ready)
        used = {name: round(after[name] - before[name], 2) for name in after}
        asked = await ready.asked()
    answers = [answer for done in rounds for answer in done.answers]
    missing = load.tasks * load.rounds - len({answer.prompt for answer in answers})
    if missing:
        raise rig.WorkerEnded(f"{missing} tasks have no answer")
    errors, problem = figures.first_problem(answers)
    return Measured(
        trial=trial,
        makespans_s=[round(done.makespan_s, 3) for done in rounds],
        floors_s=[round(load.floor(number), 3) for number in range(load.rounds)],
        overhead=figures.overhead(answers, load.latency),
        cpu_s=used.pop("worker"),
        beside_s={**used, "client": round(_own_cpu() - client, 2)},
        memory=figures.memory(idle, sampler.looks),
        started_s=round(ready.started_s, 3),
        errors=errors,
        problem=problem,
        requests=asked.paths.get("POST /v1/messages", 0),
        input_tokens=asked.input_tokens,
        load_average=round(os.getloadavg()[0], 2),
    )


def _used(pid: int, ready: rig.Rig) -> dict[str, float]:
    """CPU seconds so far, of the worker and of what is round it."""
    return {name: tree.cpu_s(root) for name, root in {"worker": pid, **ready.beside}.items()}


def _own_cpu() -> float:
    """Of this process, which is the client."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def with_cli_tasks(ladder: Ladder, tasks: int | None) -> Ladder:
    """Another number of runs of the CLI than the ladder's; its own load's is the most."""
    return ladder if tasks is None else msgspec.structs.replace(ladder, cli_tasks=tasks)
