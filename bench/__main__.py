"""`python -m bench`: the list; `python -m bench NAME`: one of them."""

from __future__ import annotations

import asyncio
import importlib

import click

NAMES = {
    "core": "speed and weight of the queue itself, beside the bare protocol",
    "index": "the master's index: rebuilding 100,000 tasks, and its memory",
    "tui": "the dashboard in a terminal: first paint, CPU, memory, bytes",
}


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure AgentFlow."""
    if context.invoked_subcommand is None:
        for name, text in NAMES.items():
            click.echo(f"python -m bench {name:8} {text}")


@bench.command("core")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 50))
@click.option("--quick", is_flag=True, help="A fifth of the load, to see that it works.")
def core(rounds: int, quick: bool) -> None:
    """Speed and weight of the queue itself, beside the bare protocol."""
    module = importlib.import_module("bench.core")
    raise SystemExit(asyncio.run(module.main(rounds=rounds, quick=quick)))


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
    module = importlib.import_module("bench.tui")
    raise SystemExit(asyncio.run(module.main(seconds=seconds, only=only)))


if __name__ == "__main__":
    bench(prog_name="python -m bench")
