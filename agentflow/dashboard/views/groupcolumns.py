"""What a table says of tasks that have something in common, a column each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentflow.dashboard.reader.column import Column
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import money, span
from agentflow.dashboard.rows.taskgroups import Group


def _number(
    key: str,
    title: str,
    width: int,
    read: Callable[[Group], int],
    *,
    token: str = "text",
    drop: int = 0,
) -> Column[Group]:
    return Column(
        key,
        title,
        width,
        lambda group, scene: f"{read(group):,}",
        read,
        lambda group, scene: token if read(group) else "dim",
        right=True,
        drop=drop,
        falling=True,
    )


def _named(group: Group, scene: Scene) -> str:
    if group.example and group.name:
        return f"{group.name}  {group.example}"
    return group.name or "(none)"


GROUP_COLUMNS: Final[list[Column[Group]]] = [
    Column("name", "GROUP", 20, _named, lambda group: group.name, grows=True),
    _number("tasks", "TASKS", 9, lambda group: group.tasks),
    _number("running", "RUNNING", 8, lambda group: group.running, drop=3),
    _number("succeeded", "DONE", 9, lambda group: group.succeeded, drop=2),
    _number("failed", "FAILED", 8, lambda group: group.failed, token="state.failed"),
    Column(
        "cost",
        "COST",
        9,
        lambda group, scene: money(group.cost),
        lambda group: group.cost,
        right=True,
        drop=1,
        falling=True,
    ),
    Column(
        "newest",
        "LAST",
        6,
        lambda group, scene: span(scene.now - group.newest / 1000),
        lambda group: -group.newest,
        right=True,
        drop=4,
    ),
]
