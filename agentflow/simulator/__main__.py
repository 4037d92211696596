"""python -m agentflow.simulator"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from agentflow.simulator import KnobError, Knobs, Script, main, parse_scripts


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m agentflow.simulator",
        description="Serve a simulated Messages API on 127.0.0.1.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="S", help="seconds an answer takes"
    )
    parser.add_argument(
        "--tokens-per-s", type=float, metavar="N", help="pace of the output, after the latency"
    )
    parser.add_argument(
        "--script", type=Path, metavar="FILE", help='JSON: {"match": ..., "steps": [...]} or a list'
    )
    parser.add_argument(
        "--breaking",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the answers to a JSON schema, those that break it",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random")
    options = parser.parse_args(arguments)
    if options.latency < 0:
        parser.error("--latency: not below 0")
    if options.tokens_per_s is not None and options.tokens_per_s <= 0:
        parser.error("--tokens-per-s: must be above 0")
    if not 0 <= options.breaking <= 1:
        parser.error("--breaking: from 0 to 1")
    return options


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 2 for a wrong script or a taken port."""
    options = parse(arguments)
    knobs = Knobs(
        latency=options.latency,
        tokens_per_s=options.tokens_per_s,
        breaking=options.breaking,
        seed=options.seed,
    )
    scripts: list[Script] = []
    try:
        if options.script is not None:
            scripts = parse_scripts(options.script.read_bytes())
        return asyncio.run(main(options.port, knobs, scripts=scripts))
    except (KnobError, OSError) as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(run())
