"""What is typed after `:`, and the instants that are typed anywhere. Pure."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import Final

from agentflow.dashboard.reader.acts import ACTS, begin
from agentflow.dashboard.reader.effects import Effect, Quit, Travel
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.reader.view import Way

_TIME: Final = re.compile(r"(?:(\d{4})-(\d\d)-(\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d))?(Z?)")
_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def instant(text: str, now: float) -> float | None:
    """The instant that was typed, in seconds since 1970: a time of day lies in the past."""
    text = text.strip()
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    time = _TIME.fullmatch(text)
    if time is None:
        return None
    year, month, day, hour, minute, second, utc = time.groups()
    zone = UTC if utc else None
    base = datetime.fromtimestamp(now, UTC).astimezone(zone)
    try:
        if year:
            base = base.replace(year=int(year), month=int(month), day=int(day))
        at = base.replace(
            hour=int(hour), minute=int(minute), second=int(second or 0), microsecond=0
        )
    except ValueError:
        return None
    if not year and at.timestamp() > now:
        at -= timedelta(days=1)
    return at.timestamp()


def typed(reader: Reader, scene: Scene, text: str) -> list[Effect] | Way:
    """A command that was typed after `:`."""
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    name = _WORDS.get(word, word)
    if name in ("q", "quit", "exit"):
        return [Quit()]
    if name in reader.views and name != "task":
        reader.open(name)
        return Way("filter", rest) if rest else []
    if name == "task" and rest:
        return Way("open_task", rest)
    if name == "t" and rest:
        at = instant(rest, scene.now)
        if at is not None:
            return [Travel(to=at)]
    elif name == "live":
        return Way("live")
    elif name in ACTS:
        return started(reader, scene, [name, *words_of(rest)])
    reader.tell(f"there is no command {word}: ? lists what there is", scene.now, "warn")
    return []


_WORDS: Final = {"o": "overview", "w": "workers", "e": "events", "c": "costs", "d": "dead"}


def started(reader: Reader, scene: Scene, words: list[str]) -> list[Effect]:
    """An act with its targets as words; `all` stands for all queues, names for workers."""
    if (why := reader.acts_off(scene.now)) is not None:
        reader.tell(f"nothing was done: {why}", scene.now, "warn")
        return []
    name, *targets = words
    if ACTS[name].of == "queue" and targets == ["all"]:
        targets = scene.store.queues()
    elif ACTS[name].of == "worker":
        actors = {each.beat.name: each.beat.actor for each in scene.store.workers()}
        targets = [actors.get(target, target) for target in targets]
    effects, problem = begin(scene, name, targets)
    if problem:
        reader.tell(problem, scene.now, "warn")
    return effects


def words_of(text: str) -> list[str]:
    """A text as a shell would take it apart."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
