"""`python -m bench`: the list; `python -m bench NAME`: one of them."""

from __future__ import annotations

import asyncio
import importlib
import signal
from pathlib import Path

import click

NAMES = {
    "compare": "worker designs on the same tasks: SDK in process, CLI a task, and others",
    "report": "report and charts from the results of compare",
    "core": "speed and weight of the queue itself, beside the bare protocol",
    "claude": "Claude tasks beside the bare SDK, on simulated answers of 2 s; 100 processes",
    "governor": "a fleet against the limits of its account: how much is used, how much refused",
    "fair": "four tenants with 1 to 1,000 times the load: what each gets of a saturated limit",
    "prefixes": "tasks that begin alike: how many read what the first wrote into the prompt cache",
    "index": "the master's index: rebuilding 100,000 tasks, and its memory",
    "tui": "the dashboard in a terminal: first paint, CPU, memory, bytes",
    "peers": "AgentFlow beside other Python task queues, and the tables of docs/peers.md",
    "recovery": "until work goes on after kill -9 of worker, master, server, or all",
    "batches": "tasks through the batch lane: time, operations and bytes a task, memory",
    "gateway": "HTTP: what a GET, a POST, a task of a bulk and a reader cost",
    "soak": "half an hour at 300 tasks/s: memory, streams, latency",
    "scale": "how the cost of a task grows, and the tables of docs/scaling.md",
}


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure AgentFlow."""
    # By default it would end us at once, and what we started would run on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if context.invoked_subcommand is None:
        for name, text in NAMES.items():
            click.echo(f"python -m bench {name:8} {text}")


@bench.command("core")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 50))
@click.option("--quick", is_flag=True, help="A fifth of the load, to see that it works.")
def core(rounds: int, quick: bool) -> None:
    """Speed and weight of the queue itself, beside the bare protocol."""
    module = importlib.import_module("bench.core.run")
    raise SystemExit(asyncio.run(module.main(rounds=rounds, quick=quick)))


@bench.command("compare")
@click.option("--quick", is_flag=True, help="A little of each load: under three minutes.")
@click.option("--tiny", is_flag=True, hidden=True)
@click.option(
    "--only", metavar="DESIGNS", default="", help="These designs, with commas between: sdk,node."
)
@click.option("--cli", metavar="PROGRAM", help="The Claude Code to run. [default: make tools' one]")
@click.option(
    "--cli-tasks", type=click.IntRange(1, 1000), help="Runs of a CLI a load at most. [default: 200]"
)
@click.option("--anyway", is_flag=True, help="Compare on a busy machine too; the result says so.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
@click.option(
    "--renew",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="A result in which the designs measured now take the place of their older figures.",
)
def compare(
    quick: bool,
    tiny: bool,
    only: str,
    cli: str | None,
    cli_tasks: int | None,
    anyway: bool,
    out: Path | None,
    renew: Path | None,
) -> None:
    """Worker designs on the same tasks: SDK in process, CLI a task, and others."""
    module = importlib.import_module("bench.compare.run")
    ladders, rows = (
        importlib.import_module("bench.compare.ladders"),
        importlib.import_module("bench.compare.rows"),
    )
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(names) - rows.BY_NAME.keys():
        raise click.UsageError(
            f"there is no design {', '.join(sorted(unknown))}; there are {', '.join(rows.BY_NAME)}"
        )
    ladder = module.with_cli_tasks(
        ladders.TINY if tiny else ladders.QUICK if quick else ladders.FULL, cli_tasks
    )
    code = asyncio.run(
        module.main(ladder, names=names, cli=cli, anyway=anyway, out=out, renew=renew)
    )
    raise SystemExit(code)


@bench.command("report")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="Of the last quick comparison.")
@click.option("--instance-memory", type=click.FloatRange(0.1), help="GB of one of your instances.")
@click.option("--instance-cores", type=click.IntRange(1), help="Its cores. [default: 2]")
@click.option("--instance-price", type=click.FloatRange(0), help="Its dollars a month.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the report.")
# What `make bench BENCH=...` passes on to both commands.
@click.option("--anyway", is_flag=True, hidden=True)
def report(
    file: Path | None,
    quick: bool,
    instance_memory: float | None,
    instance_cores: int | None,
    instance_price: float | None,
    out: Path | None,
    anyway: bool,
) -> None:
    """Report and charts from the results of compare."""
    module = importlib.import_module("bench.compare.report")
    money, results = (
        importlib.import_module("bench.compare.money"),
        importlib.import_module("bench.compare.comparison"),
    )
    own = None
    if instance_memory is not None and instance_price is not None:
        own = money.Instance(
            "yours", instance_memory, instance_cores or money.CORES, instance_price
        )
    elif instance_memory is not None or instance_price is not None or instance_cores is not None:
        raise click.UsageError("an instance needs --instance-memory and --instance-price")
    measured = file or results.path("quick" if quick else "full")
    raise SystemExit(module.main(measured, own=own, out=out))


@bench.command("claude")
@click.option("--quick", is_flag=True, help="Less of all, to see that it works.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
def claude(quick: bool, out: Path | None) -> None:
    """Claude tasks beside the bare SDK, on simulated answers of 2 s; 100 processes."""
    module = importlib.import_module("bench.claude.run")
    raise SystemExit(asyncio.run(module.main(quick=quick, out=out or module.RESULTS)))


@bench.command("governor")
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(5, 3600))
@click.option("--ramp", default=60.0, show_default=True, type=click.FloatRange(0, 600))
@click.option("--only", default="", metavar="WORDS", help="Shapes with these words in their name.")
@click.option("--ours", is_flag=True, help="Only with the governor, not with closures beside it.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
@click.option("--page", is_flag=True, help="Only write docs/limits.md from the result.")
def governor(
    seconds: float, ramp: float, only: str, ours: bool, out: Path | None, page: bool
) -> None:
    """A fleet against the limits of its account: how much is used, how much refused."""
    module = importlib.import_module("bench.governor.run")
    if page:
        importlib.import_module("bench.governor.page").refresh(out or module.RESULTS)
        return
    kept = out or module.RESULTS
    raise SystemExit(asyncio.run(module.main(only, ramp, seconds, kept, closed=not ours)))


@bench.command("fair")
@click.option("--seconds", default=120.0, show_default=True, type=click.FloatRange(5, 3600))
@click.option("--only", default="", metavar="WORDS", help="Shapes with these words in their name.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
def fair(seconds: float, only: str, out: Path | None) -> None:
    """Four tenants with 1 to 1,000 times the load: what each gets of a saturated limit."""
    module = importlib.import_module("bench.fair")
    raise SystemExit(asyncio.run(module.main(only, seconds, out or module.RESULTS)))


@bench.command("prefixes")
def prefixes() -> None:
    """Tasks that begin alike: how many read what the first wrote into the prompt cache."""
    module = importlib.import_module("bench.prefixes")
    raise SystemExit(asyncio.run(module.main()))


@bench.command("index")
def index() -> None:
    """The master's index: rebuilding 100,000 tasks, and its memory."""
    module = importlib.import_module("bench.index")
    raise SystemExit(asyncio.run(module.main()) or 0)


@bench.command("tui")
@click.option("--seconds", default=15.0, show_default=True, type=click.FloatRange(2, 600))
@click.option("--only", default="", help="Only the cases with this in their name; writes nothing.")
def tui(seconds: float, only: str) -> None:
    """The dashboard in a terminal: first paint, CPU, memory, bytes."""
    module = importlib.import_module("bench.tui.run")
    raise SystemExit(asyncio.run(module.main(seconds=seconds, only=only)))


@bench.command("peers")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--quick", is_flag=True, help="A small load, to see that it works.")
@click.option("--only", multiple=True, metavar="NAME", help="A queue, or queue/setting.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Another result file.")
@click.option("--page", is_flag=True, help="Only write docs/peers.md from the result.")
def peers(rounds: int, quick: bool, only: tuple[str, ...], out: Path | None, page: bool) -> None:
    """AgentFlow beside other Python task queues; tools/install-peers installs them."""
    module = importlib.import_module("bench.peers.rounds")
    if page:
        importlib.import_module("bench.peers.page").refresh(out or module.RESULTS)
        return
    try:
        # What is kept is of a full run.
        kept = module.PART if quick or only else module.RESULTS
        code = asyncio.run(module.main(rounds, quick, only, out or kept))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    raise SystemExit(code)


@bench.command("scale")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 50))
@click.option("--quick", is_flag=True, help="Small values and loads, once, to see that it works.")
@click.option(
    "--only",
    multiple=True,
    metavar="AXIS",
    help="One axis, such as workers; the result keeps the others.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Another result file.")
@click.option("--page", is_flag=True, help="Only write docs/scaling.md from the result.")
def scale(rounds: int, quick: bool, only: tuple[str, ...], out: Path | None, page: bool) -> None:
    """How the cost of a task grows: workers, backlog, payload, history, queues, copies."""
    module = importlib.import_module("bench.scale.run")
    if page:
        importlib.import_module("bench.scale.page").refresh(out or module.RESULTS)
        return
    try:
        kept = module.PART if quick else module.RESULTS
        code = asyncio.run(module.main(1 if quick else rounds, quick, only, out or kept))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    raise SystemExit(code)


@bench.command("recovery")
@click.option("--kills", default=30, show_default=True, type=click.IntRange(1, 1000))
@click.option("--queued", default=100_000, show_default=True, type=click.IntRange(100))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
def recovery(kills: int, queued: int, out: Path | None) -> None:
    """Until work goes on after kill -9 of worker, master, server, or all."""
    module = importlib.import_module("bench.recovery")
    raise SystemExit(asyncio.run(module.main(kills, queued, out or module.RESULTS)))


@bench.command("batches")
@click.option("--tasks", default=20_000, show_default=True, help="How many.")
@click.option("--out", type=click.Path(path_type=Path), help="File of the figures.")
def batches(tasks: int, out: Path | None) -> None:
    """Tasks through the batch lane, with what each costs the bus."""
    module = importlib.import_module("bench.batch_lane")
    raise SystemExit(asyncio.run(module.main(tasks, out or module.RESULTS)))


@bench.command("gateway")
@click.option("--quick", is_flag=True, help="A tenth of the load, to see that it works.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
def gateway(quick: bool, out: Path | None) -> None:
    """HTTP: what a GET, a POST, a task of a bulk and a reader cost."""
    module = importlib.import_module("bench.gateway")
    raise SystemExit(asyncio.run(module.main(quick, out or module.RESULTS)))


@bench.command("soak")
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(10))
@click.option("--rate", default=300.0, show_default=True, help="Tasks a second.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File of the result.")
def soak(minutes: float, rate: float, out: Path | None) -> None:
    """Half an hour at 300 tasks/s: memory, streams, latency."""
    module = importlib.import_module("bench.soak")
    raise SystemExit(asyncio.run(module.main(minutes, rate, out or module.RESULTS)))


if __name__ == "__main__":
    bench(prog_name="python -m bench")
