"""The commands that every view knows, where it has none of its own by that name: one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentflow.dashboard.reader import acts
from agentflow.dashboard.reader.effects import Copy, Effect, Prompt, Quit, Submit, Travel
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.view import Way
from agentflow.dashboard.screen import typed

Answer = list[Effect] | Way | None
"""Effects, or another command that goes on with it; None: there is nothing more to do."""
Common = Callable[[Reader, Scene, str], Answer]


def _view(reader: Reader, scene: Scene, name: str) -> None:
    reader.open(name)


def _show_tasks(reader: Reader, scene: Scene, text: str) -> None:
    reader.open("tasks", text)


def _move(reader: Reader, scene: Scene, rows: str) -> None:
    if (table := reader.here.table) is not None:
        table.move(int(rows), scene.now)


def _half(reader: Reader, scene: Scene, sign: str) -> None:
    if (table := reader.here.table) is not None:
        table.move(int(sign) * max(1, table.height // 2), scene.now)


def _page(reader: Reader, scene: Scene, sign: str) -> None:
    if (table := reader.here.table) is not None:
        table.move(int(sign) * max(1, table.height - 1), scene.now)


def _end(reader: Reader, scene: Scene, sign: str) -> None:
    if (table := reader.here.table) is not None:
        table.move(int(sign) * len(table.order), scene.now)


def _row(reader: Reader, scene: Scene, key: str) -> Answer:
    """A click: the first one goes there, one on the cursor opens."""
    table = reader.here.table
    if table is None:
        return None
    if table.cursor == key:
        return Way("open")
    table.to(key, scene.now)
    return None


def _open(reader: Reader, scene: Scene, _: str) -> Answer:
    """Open what is chosen: what needs attention, else the task under the cursor."""
    way = reader.here.chosen()
    if way is not None:
        return way if way.command else None
    table = reader.here.table
    if table is None or table.item() is None:
        return None
    return Way("open_task", table.cursor)


def _open_task(reader: Reader, scene: Scene, task_id: str) -> None:
    reader.open("task", task_id)


def _sort(reader: Reader, scene: Scene, step: str) -> None:
    if (table := reader.here.table) is not None:
        reader.tell(f"sorted by {table.next_sort(int(step)).lower()}", scene.now)


def _sort_by(reader: Reader, scene: Scene, column: str) -> None:
    if (table := reader.here.table) is not None:
        table.sort_by(column)


def _reverse(reader: Reader, scene: Scene, _: str) -> None:
    if (table := reader.here.table) is not None:
        table.sort_by(table.sort)


def _mark(reader: Reader, scene: Scene, _: str) -> None:
    if (table := reader.here.table) is not None:
        table.mark()
        table.move(1, scene.now)


def _mark_all(reader: Reader, scene: Scene, _: str) -> None:
    if (table := reader.here.table) is not None:
        table.mark_all()
        reader.tell(f"{len(table.marks):,} marked", scene.now)


def _unmark(reader: Reader, scene: Scene, _: str) -> None:
    if (table := reader.here.table) is not None:
        table.marks.clear()


def _back(reader: Reader, scene: Scene, _: str) -> None:
    if reader.travelled is not None and not reader.came_from:
        reader.travelled = None
    elif reader.frozen is not None and not reader.came_from:
        reader.frozen = None
    else:
        reader.back()


def _quit(reader: Reader, scene: Scene, _: str) -> list[Effect] | None:
    return None if reader.back() else [Quit()]


def _leave(reader: Reader, scene: Scene, _: str) -> list[Effect]:
    return [Quit()]


def _help(reader: Reader, scene: Scene, _: str) -> None:
    if reader.view != "help":
        reader.open("help", reader.view)


def _attention(reader: Reader, scene: Scene, _: str) -> None:
    reader.open("overview", "attention")


def _receipts(reader: Reader, scene: Scene, _: str) -> None:
    reader.open("events", "receipts")


def _meter(reader: Reader, scene: Scene, _: str) -> None:
    reader.metered = not reader.metered


def _freeze(reader: Reader, scene: Scene, _: str) -> None:
    if reader.frozen is not None:
        reader.frozen = None
    elif reader.travelled is None:
        reader.freeze(scene.now)


def _travel(reader: Reader, scene: Scene, to: str) -> list[Effect]:
    if not to:
        hint = "a time of day (20:51, 20:51:07), a date and time, or -10m"
        return [Prompt("go to", "travel", hint=hint)]
    at = typed.instant(to, scene.now)
    if at is None:
        reader.tell(f"{to} is no time: 20:51, 2026-11-27 20:51:07 or -10m", scene.now, "warn")
        return []
    return [Travel(to=at)]


def _step(reader: Reader, scene: Scene, step: str) -> list[Effect]:
    return [Travel(step=int(step))]


def _leap(reader: Reader, scene: Scene, seconds: str) -> list[Effect]:
    return [Travel(leap=int(seconds))]


def _live(reader: Reader, scene: Scene, _: str) -> list[Effect]:
    reader.travelled = reader.frozen = None
    return [Travel(live=True)]


def _command(reader: Reader, scene: Scene, text: str) -> Answer:
    if not text:
        return [Prompt(":", "command", hint="tasks state:failed · task ID · t 20:51 · q")]
    return typed.typed(reader, scene, text)


def _filter(reader: Reader, scene: Scene, _: str) -> None:
    reader.tell("this view has nothing to filter", scene.now)


def _submit(reader: Reader, scene: Scene, _: str) -> list[Effect] | None:
    if (why := reader.acts_off(scene.now)) is not None:
        reader.tell(f"nothing was submitted: {why}", scene.now, "warn")
        return None
    return [Submit()]


def _act(reader: Reader, scene: Scene, act: str) -> list[Effect] | None:
    if (why := reader.acts_off(scene.now)) is not None:
        reader.tell(f"nothing was done: {why}", scene.now, "warn")
        return None
    effects, text = acts.pressed(scene, act, reader.here.targets(scene, act))
    if text:
        reader.tell(text, scene.now, "warn")
    return effects


def _begin(reader: Reader, scene: Scene, words: str) -> list[Effect]:
    """An act with its targets, as a choice has it."""
    return typed.started(reader, scene, typed.words_of(words))


def _acts(reader: Reader, scene: Scene, _: str) -> list[Effect] | None:
    if (why := reader.acts_off(scene.now)) is not None:
        reader.tell(f"nothing can be done: {why}", scene.now, "warn")
        return None
    choice = acts.menu(scene, reader.view, lambda act: reader.here.targets(scene, act))
    if choice is None:
        reader.tell("nothing can be done here", scene.now)
        return None
    return [choice]


def _copy(reader: Reader, scene: Scene, _: str) -> list[Effect] | None:
    table = reader.here.table
    if table is None or not table.cursor:
        return None
    return [Copy(table.cursor, "the id")]


COMMON: Final[dict[str, Common]] = {
    "view": _view,
    "show_tasks": _show_tasks,
    "move": _move,
    "half": _half,
    "page": _page,
    "end": _end,
    "row": _row,
    "open": _open,
    "open_task": _open_task,
    "sort": _sort,
    "sort_by": _sort_by,
    "reverse": _reverse,
    "mark": _mark,
    "mark_all": _mark_all,
    "unmark": _unmark,
    "back": _back,
    "quit": _quit,
    "leave": _leave,
    "help": _help,
    "attention": _attention,
    "receipts": _receipts,
    "meter": _meter,
    "freeze": _freeze,
    "travel": _travel,
    "step": _step,
    "leap": _leap,
    "live": _live,
    "command": _command,
    "filter": _filter,
    "submit": _submit,
    "act": _act,
    "acts": _acts,
    "begin": _begin,
    "copy": _copy,
}
