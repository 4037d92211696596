"""The search: breadth first, every world once."""

from __future__ import annotations

import gc
from collections import deque
from typing import NamedTuple

from tests.support.model.steps import Model
from tests.support.model.world import Kind, Violation, World


class Found(NamedTuple):
    """How a search ended; `kind` is None where every property held in every world."""

    worlds: int
    kind: Kind | None = None
    told: str = ""
    complete: bool = True


def search(model: Model, limit: int = 100_000_000) -> Found:
    """Look at every world that can be reached; the way to a violation is a shortest one."""
    collecting = gc.isenabled()
    gc.disable()  # millions of tuples and no cycle: the collector would take a fifth of the time
    try:
        return _search(model, limit)
    finally:
        if collecting:
            gc.enable()


def _search(model: Model, limit: int) -> Found:
    start = model.initial()
    seen: dict[World, tuple[World, str] | None] = {start: None}
    queue = deque([start])
    way = (start, "")
    try:
        model.check(start)
        while queue:
            world = queue.popleft()
            way = (world, "")
            for label, after in model.steps(world):
                if after not in seen:
                    seen[after] = way = (world, label)
                    model.check(after)
                    queue.append(after)
                    way = (world, "")
            if len(seen) > limit:
                return Found(len(seen), complete=False)
    except Violation as violation:
        return Found(len(seen), violation.kind, _told(seen, way, violation))
    return Found(len(seen))


def _told(
    seen: dict[World, tuple[World, str] | None], way: tuple[World, str], violation: Violation
) -> str:
    """What happened on the way to a violation, a step a line."""
    labels = [str(violation), way[1]]
    step = seen[way[0]]
    while step is not None:
        labels.append(step[1])
        step = seen[step[0]]
    return "\n".join(label for label in reversed(labels) if label)
