"""Search the scenarios and say what was found: `python -m tests.support.model [--deep]`."""

from __future__ import annotations

import argparse
import resource
import sys
import time

from tests.support.model.scenarios import DEEP, SCENARIOS
from tests.support.model.search import search
from tests.support.model.steps import Model


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.model")
    parser.add_argument("--deep", action="store_true", help="the larger scenarios, many minutes")
    parser.add_argument("--limit", type=int, default=4_000_000, help="worlds a scenario")
    arguments = parser.parse_args()
    total, began = 0, time.monotonic()
    for scenario in DEEP if arguments.deep else SCENARIOS:
        started = time.monotonic()
        found = search(Model(scenario), arguments.limit)
        total += found.worlds
        verdict = "holds" if found.kind is None else found.told
        extent = "" if found.complete or found.kind else " (limit reached)"
        took = time.monotonic() - started
        print(
            f"{scenario.name}: {verdict}{extent}, {found.worlds:,} worlds, {took:.0f} s", flush=True
        )
        if found.kind is not None:
            return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{total:,} worlds in {time.monotonic() - began:.0f} s, {peak:,} MB on Linux")
    return 0


if __name__ == "__main__":
    sys.exit(main())
