"""`agentflow simulator`: a local server that speaks the Messages API."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from agentflow.errors import UsageError


@click.command("simulator")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0 takes a free one.")
@click.option(
    "--latency", type=click.FloatRange(0, 600), default=0.0, help="Seconds an answer takes."
)
@click.option(
    "--tokens-per-s", type=click.FloatRange(min=0, min_open=True), help="Pace of the output."
)
@click.option("--script", type=Path, metavar="FILE", help="JSON: which prompts meet which faults.")
@click.option(
    "--breaking",
    type=click.FloatRange(0, 1),
    default=0.0,
    envvar="AGENTFLOW_SIMULATE_BREAKING",
    help="Share of the answers to a JSON schema that break it.",
)
@click.option("--seed", type=int, default=0, help="Of everything random.")
def command(
    port: int,
    latency: float,
    tokens_per_s: float | None,
    script: Path | None,
    breaking: float,
    seed: int,
) -> int:
    """Serve a simulated Messages API on 127.0.0.1, for tests and demonstrations.

    Answers are made up and cost nothing; each says that it is simulated.
    """
    from agentflow.local.parent import stop_with_parent
    from agentflow.simulator import KnobError, Knobs, main, parse_scripts

    stop_with_parent()
    try:
        scripts = parse_scripts(script.read_bytes()) if script is not None else []
        knobs = Knobs(latency=latency, tokens_per_s=tokens_per_s, breaking=breaking, seed=seed)
        return asyncio.run(main(port, knobs, scripts=scripts))
    except KnobError as error:
        raise UsageError(f"{script or 'the simulator'}: {error}") from None
    except OSError as error:
        raise UsageError(f"the simulator cannot start: {error}") from None
