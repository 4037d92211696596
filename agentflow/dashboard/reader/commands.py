"""What is typed after `:`, and the instants that are typed anywhere. Pure."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from agentflow.dashboard.reader.acts import ACTS, begin
from agentflow.dashboard.reader.effects import Effect, Quit, Travel
from agentflow.dashboard.reader.scene import Scene

if TYPE_CHECKING:
    from agentflow.dashboard.reader.dashboard import Dashboard

_TIME: Final = re.compile(r"(?:(\d{4})-(\d\d)-(\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d))?(Z?)")
_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def instant(text: str, now: float) -> float | None:
    """The instant that was typed, in seconds since 1970: a time of day lies in the past."""
    text = text.strip()
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, utc = found.groups()
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


def typed(dash: Dashboard, scene: Scene, text: str) -> list[Effect]:
    """A command that was typed after `:`."""
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    name = _WORDS.get(word, word)
    if name in ("q", "quit", "exit"):
        return [Quit()]
    if name in dash.views and name != "task":
        dash.open(name)
        if rest:
            return dash.do("filter", rest, scene.now)
        return []
    if name == "task" and rest:
        return dash.do("open_task", rest, scene.now)
    if name == "t" and rest:
        at = instant(rest, scene.now)
        if at is not None:
            return [Travel(to=at)]
    elif name == "live":
        return dash.do("live", "", scene.now)
    elif name in ACTS:
        return started(dash, scene, [name, *words_of(rest)])
    dash.tell(f"there is no command {word}: ? lists what there is", scene.now, "warn")
    return []


_WORDS: Final = {"o": "overview", "w": "workers", "e": "events", "c": "costs", "d": "dead"}


def started(dash: Dashboard, scene: Scene, words: list[str]) -> list[Effect]:
    """An act with its targets as words; `all` stands for all queues, names for workers."""
    if (why := dash.acts_off(scene.now)) is not None:
        dash.tell(f"nothing was done: {why}", scene.now, "warn")
        return []
    name, *targets = words
    if ACTS[name].of == "queue" and targets == ["all"]:
        targets = scene.store.queues()
    elif ACTS[name].of == "worker":
        actors = {each.beat.name: each.beat.actor for each in scene.store.workers()}
        targets = [actors.get(target, target) for target in targets]
    effects, problem = begin(scene, name, targets)
    if problem:
        dash.tell(problem, scene.now, "warn")
    return effects


def words_of(text: str) -> list[str]:
    """A text as a shell would take it apart."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
