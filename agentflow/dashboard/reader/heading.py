"""What stands above and below every view: connection, money, tabs, notices, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentflow.dashboard.reader import keys
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import money, span
from agentflow.dashboard.render.lines import EMPTY, Hit, Line, Run, clip, columns, line
from agentflow.dashboard.store.totals import since

if TYPE_CHECKING:
    from agentflow.dashboard.reader.dashboard import Dashboard

TABS: Final = {
    "overview": "Over",
    "tasks": "Tasks",
    "workers": "Work",
    "queues": "Queue",
    "costs": "Cost",
    "dead": "Dead",
    "events": "Event",
}
"""The views with a number, and their names where there is little room."""
STALE: Final = 5.0
"""Seconds without any item after which the picture is called old: heartbeats come every two."""
DAY: Final = 24 * 60
HOUR: Final = 60
"""Minutes."""
ACT_KEYS: Final = "key.act"
LISTENS: Final = 2.5
"""Seconds in which every actor that lives has said so."""
RECEIPT_FOR: Final = 10.0
"""Seconds for which the end of an act is news."""

Part = tuple[int, Run]
"""A run and its rank: those of the highest rank leave first."""


def top(dash: Dashboard, scene: Scene, width: int, now: float) -> list[Line]:
    """Connection and money; then the tabs, or a banner where something is out of the ordinary."""
    return [_status(dash, scene, width, now), _banner(dash, scene, width, now)]


def _status(dash: Dashboard, scene: Scene, width: int, now: float) -> Line:
    store = dash.store
    link = store.link
    left: list[Part] = [(0, (" AgentFlow  ", "brand"))]
    if dash.recording:
        left.append((0, (f"replay of {dash.recording}  ", "travel")))
    elif dash.travelled is not None:
        left.append((0, ("another time  ", "travel")))
    elif link is None:
        left.append((0, ("connecting  ", "warn")))
    elif not link.up:
        left.append((0, (f"{scene.glyph('crit')} disconnected  ", "crit")))
    else:
        age = max(0.0, now - store.heard)
        token = "ok" if age < STALE else "warn"
        word = "live" if age < STALE else "silent"
        left.append((0, (f"{scene.glyph('running')} {word} {span(age):<4}  ", token)))
    if link is not None and link.url:
        left.append((8, (f"{link.url.removeprefix('nats://')}  ", "dim")))
    alive = [each.beat.name for each in store.masters() if not each.lost(now)]
    if not dash.store.actors and now - dash.store.linked_at < LISTENS:
        pass  # nobody can have said anything yet
    elif alive:
        left.append((7, (f"master {alive[0]}  ", "dim")))
    elif link is not None:
        left.append((3, ("no master  ", "warn")))
    if not store.known.complete:
        share = 100 * store.known.done / max(1, store.known.total)
        left.append((1, (f"reading {share:.0f}%  ", "warn")))
    if any(each.beat.simulated for each in store.actors.values()):
        left.append((2, ("SIMULATED  ", "warn")))
    today, hour = _spent(scene)
    right: list[Part] = [
        (3, (f"{money(today)} today ", "text")),
        (5, (f" {money(hour)}/h ", "text")),
        (4, (" read-only " if dash.readonly else " rw ", "warn" if dash.readonly else "dim")),
        (1, (f" {scene.clock(now)} ", "dim")),
        (6, (" ? help ", "key")),
    ]
    return _two_sided(left, right, width, "status")


def _spent(scene: Scene) -> tuple[int, int]:
    minute = int(scene.now) // 60
    costs = scene.store.totals.costs
    midnight = minute - minute % DAY  # UTC, as bills are
    return since(costs, midnight, minute + 1), since(costs, minute - HOUR, minute + 1)


def _two_sided(left: list[Part], right: list[Part], width: int, base: str) -> Line:
    parts = [*left, *right]
    sizes = [columns(text) for _, (text, _) in parts]
    shown = list(range(len(parts)))
    used = sum(sizes)
    for at in sorted(shown, key=lambda at: -parts[at][0]):
        if used <= width:
            break
        used -= sizes[at]
        shown.remove(at)
    runs = [parts[at][1] for at in shown if at < len(left)]
    tail = [parts[at][1] for at in shown if at >= len(left)]
    return clip(Line((*runs, (" " * max(0, width - used), "text"), *tail), base), width)


def _banner(dash: Dashboard, scene: Scene, width: int, now: float) -> Line:
    link = dash.store.link
    sign = scene.glyph("crit")
    if dash.travelled is not None:
        ago = span(now - dash.travelled_to)
        text = (
            f" ◀ {scene.clock(dash.travelled_to)}, {ago} ago   L live   [ ] record   {{ }} minute"
        )
        text += "   t go to   workers and text are not recorded"
        return clip(line((text, "travel"), base="travel"), width)
    if link is not None and not link.up:
        since_then = span(now - dash.store.linked_at)
        text = f" {sign} disconnected for {since_then}, trying again. Acts are off. "
        text += f"Data is from {scene.clock(dash.store.linked_at)}. {link.url} {link.detail}"
        return clip(line((text, "banner"), base="banner"), width)
    if dash.frozen is not None:
        behind = dash.store.items - dash.frozen.items
        text = f" frozen for {span(now - dash.frozen_at)}, {behind:,} changes behind   p goes on"
        return clip(line((text, "travel"), base="travel"), width)
    return _tabs(dash, width)


def _tabs(dash: Dashboard, width: int) -> Line:
    names = [dash.views[name] for name in TABS if name in dash.views]
    here = "" if dash.view in TABS else f" › {dash.here.title} "
    wide = sum(len(view.title) + 4 for view in names) + columns(here) <= width
    runs: list[Run] = []
    hits: list[Hit] = []
    at = 0
    for number, view in enumerate(names, 1):
        text = f" {number} {view.title if wide else TABS[view.name]} "
        runs.append((text, "tab.here" if view.name == dash.view else "tab"))
        hits.append(Hit(at, at + len(text), "view", view.name))
        at += len(text)
    if here:
        runs.append((here, "tab.here"))
    return clip(Line(tuple(runs), "tabs", tuple(hits)), width)


def bottom(dash: Dashboard, scene: Scene, width: int, now: float) -> list[Line]:
    """A notice or the newest receipt while it is news, and the keys that are valid here."""
    found = [_keybar(dash, scene, width)]
    if dash.metered:
        found.insert(0, clip(line((f" {dash.meter}", "dim")), width))
    if (said := _said(dash, width, now)) is not None:
        found.insert(0, said)
    return found


def _said(dash: Dashboard, width: int, now: float) -> Line | None:
    newest = dash.receipts[-1] if dash.receipts else None
    notice = dash.notice if dash.notice is not None and dash.notice.until > now else None
    if notice is not None and (newest is None or newest.at < notice.since):
        return clip(line((f" {notice.text}", notice.token)), width)
    if newest is not None and (
        not newest.ended or now - max(newest.at, newest.changed) < RECEIPT_FOR
    ):
        return clip(line((f" {newest.command}: ", "dim"), (newest.text, newest.token)), width)
    return None


def _keybar(dash: Dashboard, scene: Scene, width: int) -> Line:
    """As many keys as find room, the most wanted ones; the way to all others always does."""
    valid = keys.bar(keys.keys_of(dash.view, readonly=scene.readonly))
    left = width - 1 - sum(_size(key) for key in valid if key.command == "help")
    shown = []
    for key in valid:
        if key.command == "help":
            shown.append(key)
        elif _size(key) <= left:
            left -= _size(key)
            shown.append(key)
    runs: list[Run] = [(" ", "keybar")]
    hits: list[Hit] = []
    at = 1
    for key in shown:
        runs.append((keys.named(key.key), ACT_KEYS if key.act else "key"))
        runs.append((f" {key.short}  ", "keybar"))
        hits.append(Hit(at, at + _size(key) - 2, key.command, key.argument))
        at += _size(key)
    return clip(Line(tuple(runs), "keybar", tuple(hits)), width)


def _size(key: keys.Key) -> int:
    return columns(keys.named(key.key)) + 1 + len(key.short) + 2


def too_small(dash: Dashboard, width: int, height: int, now: float) -> list[Line]:
    """Numbers and a notice, for a terminal in which no view has room."""
    totals = dash.store.totals
    texts = [
        f"{totals.state('running'):,} running, {totals.state('queued'):,} queued, "
        f"{totals.state('failed'):,} failed",
        f"too small: {width}x{height}, 60x20 is the least",
    ]
    lines = [clip(line((text, "warn")), width) for text in texts]
    return (lines + [clip(EMPTY, width)] * height)[:height]
