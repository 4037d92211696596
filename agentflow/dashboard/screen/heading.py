"""What stands above and below every view: connection, money, tabs, notices, keys."""

from __future__ import annotations

from typing import Final

from agentflow.dashboard.reader import keys
from agentflow.dashboard.reader.reader import Reader
from agentflow.dashboard.reader.scene import Scene
from agentflow.dashboard.render.amounts import money, span
from agentflow.dashboard.render.lines import EMPTY, Hit, Line, Run, clip, columns, line
from agentflow.dashboard.rows.costs import burn, least, recent
from agentflow.dashboard.store.store import DEAF

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
STALE: Final = DEAF
"""Seconds without news after which the picture is called old."""
ACT_KEYS: Final = "key.act"
LISTENS: Final = 2.5
"""Seconds in which every actor that lives has said so."""
RECEIPT_FOR: Final = 10.0
"""Seconds for which the end of an act is news."""

DAY_S: Final = 86_400
HOUR_S: Final = 3_600

Part = tuple[int, Run]
"""A run and its rank: those of the highest rank leave first."""


def top(reader: Reader, scene: Scene, width: int, now: float) -> list[Line]:
    """Connection and money; then the tabs, or a banner where something is out of the ordinary."""
    return [_status(reader, scene, width, now), _banner(reader, scene, width, now)]


def _status(reader: Reader, scene: Scene, width: int, now: float) -> Line:
    store = reader.store
    link = store.link
    left: list[Part] = [(0, (" AgentFlow  ", "brand"))]
    if reader.recording:
        left.append((0, (f"replay of {reader.recording}  ", "travel")))
    elif reader.travelled is not None:
        left.append((0, ("another time  ", "travel")))
    elif link is None:
        left.append((0, ("connecting  ", "warn")))
    elif not link.up:
        left.append((0, (f"{scene.glyph('crit')} disconnected  ", "crit")))
        if store.heard:
            left.append((1, (f"silent {span(max(0.0, now - store.heard)):<4}  ", "crit")))
    else:
        age = max(0.0, now - store.heard)
        token = "ok" if age < STALE else "warn"
        word = "live" if age < STALE else "silent"
        left.append((0, (f"{scene.glyph('running')} {word} {span(age):<4}  ", token)))
    if link is not None and link.url:
        left.append((8, (f"{link.url.removeprefix('nats://')}  ", "dim")))
    alive = [each.beat.name for each in store.masters() if not each.lost(store.heard_by(now))]
    if not reader.store.actors and now - reader.store.linked_at < LISTENS:
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
    today, _ = recent(scene.store.totals, scene.now)
    hour = burn(scene.store.totals.costs, int(scene.now) // 60)
    right: list[Part] = [
        (3, (f"{least(scene, scene.now % DAY_S)}{money(today)} today ", "text")),
        (5, (f" {least(scene, HOUR_S)}{money(hour)}/h ", "text")),
        (4, (" read-only " if reader.readonly else " rw ", "warn" if reader.readonly else "dim")),
        (1, (f" {scene.clock(now)} ", "dim")),
        (7, (f"{scene.zone_name(now)} ", "dim")),
        (6, (" ? help ", "key")),
    ]
    return _two_sided(left, right, width, "status")


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


def _banner(reader: Reader, scene: Scene, width: int, now: float) -> Line:
    link = reader.store.link
    sign = scene.glyph("crit")
    if reader.travelled is not None:
        ago = span(now - reader.travelled_to)
        text = (
            f" ◀ {scene.clock(reader.travelled_to)}, {ago} ago   L live   [ ] record   {{ }} minute"
        )
        text += "   t go to   workers and text are not recorded"
        return clip(line((text, "travel"), base="travel"), width)
    if link is not None and not link.up:
        since_then = span(now - reader.store.linked_at)
        text = f" {sign} disconnected for {since_then}, trying again. Acts are off. "
        heard = scene.clock(reader.store.heard or reader.store.linked_at)
        text += f"Data is from {heard}. {link.url} {link.detail}"
        return clip(line((text, "banner"), base="banner"), width)
    if reader.frozen is not None:
        behind = reader.store.items - reader.frozen.items
        text = f" frozen for {span(now - reader.frozen_at)}, {behind:,} changes behind   p goes on"
        return clip(line((text, "travel"), base="travel"), width)
    return _tabs(reader, width)


def _tabs(reader: Reader, width: int) -> Line:
    names = [reader.views[name] for name in TABS if name in reader.views]
    here = "" if reader.view in TABS else f" › {reader.here.title} "
    wide = sum(len(view.title) + 4 for view in names) + columns(here) <= width
    runs: list[Run] = []
    hits: list[Hit] = []
    at = 0
    for number, view in enumerate(names, 1):
        text = f" {number} {view.title if wide else TABS[view.name]} "
        runs.append((text, "tab.here" if view.name == reader.view else "tab"))
        hits.append(Hit(at, at + len(text), "view", view.name))
        at += len(text)
    if here:
        runs.append((here, "tab.here"))
    return clip(Line(tuple(runs), "tabs", tuple(hits)), width)


def bottom(reader: Reader, scene: Scene, width: int, now: float) -> list[Line]:
    """A notice or the newest receipt while it is news, and the keys that are valid here."""
    lines = [_keybar(reader, scene, width)]
    if reader.metered:
        lines.insert(0, clip(line((f" {reader.meter}", "dim")), width))
    if (said := _said(reader, width, now)) is not None:
        lines.insert(0, said)
    return lines


def _said(reader: Reader, width: int, now: float) -> Line | None:
    newest = reader.receipts[-1] if reader.receipts else None
    notice = reader.notice if reader.notice is not None and reader.notice.until > now else None
    if notice is not None and (newest is None or newest.at < notice.since):
        return clip(line((f" {notice.text}", notice.token)), width)
    if newest is not None and (
        not newest.ended or now - max(newest.at, newest.changed) < RECEIPT_FOR
    ):
        # The outcome first: the command of a bulk act names every task.
        said = line((f" {newest.text}", newest.token), (f"   {newest.command}", "dim"))
        return clip(said, width)
    return None


def _keybar(reader: Reader, scene: Scene, width: int) -> Line:
    """As many keys as find room, the most wanted ones; the way to all others always does."""
    valid = keys.bar(keys.keys_of(reader.view, readonly=scene.readonly))
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


def too_small(reader: Reader, width: int, height: int, now: float) -> list[Line]:
    """Numbers and a notice, for a terminal in which no view has room."""
    totals = reader.store.totals
    texts = [
        f"{totals.state('running'):,} running, {totals.state('queued'):,} queued, "
        f"{totals.state('failed'):,} failed",
        f"too small: {width}x{height}, 60x20 is the least",
    ]
    lines = [clip(line((text, "warn")), width) for text in texts]
    return (lines + [clip(EMPTY, width)] * height)[:height]
