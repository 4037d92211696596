"""What stands above and below every view: connection, money, tabs, notices, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentflow.rules import display
from tui.model import keys
from tui.model.amounts import clock, money, span
from tui.model.lines import EMPTY, Hit, Line, Run, clip, line
from tui.model.scene import Scene
from tui.model.totals import since

if TYPE_CHECKING:
    from tui.model.dashboard import Dashboard

TABS: Final = ("overview", "tasks", "workers", "queues", "costs", "dead", "events")
STALE: Final = 5.0
"""Seconds without any item after which the picture is called old: heartbeats come every two."""
DAY: Final = 24 * 60
HOUR: Final = 60
"""Minutes."""
ACT_KEYS: Final = "key.act"


def top(dash: Dashboard, scene: Scene, width: int, now: float) -> list[Line]:
    """Connection and money; then the tabs, or a banner where something is out of the ordinary."""
    return [_status(dash, scene, width, now), _banner(dash, scene, width, now)]


def _status(dash: Dashboard, scene: Scene, width: int, now: float) -> Line:
    store = dash.store
    link = store.link
    runs: list[Run] = [(" AgentFlow ", "brand")]
    if link is None:
        runs.append(("connecting ", "warn"))
    elif not link.up:
        runs.append(("▲ disconnected " if not dash.ascii else "! disconnected ", "crit"))
    else:
        age = max(0.0, now - store.heard)
        token = "ok" if age < STALE else "warn"
        runs.append((f"{scene.glyph('running')} live {span(age)} ", token))
    url = (link.url if link is not None else "").removeprefix("nats://")
    if url and width >= 90:
        runs.append((f"{url} ", "dim"))
    masters = store.masters()
    alive = [each.beat.name for each in masters if not each.lost(now)]
    if width >= 100:
        runs.append((f"master {alive[0]} " if alive else "no master ", "dim" if alive else "warn"))
    if not store.known.complete:
        share = 100 * store.known.done / max(1, store.known.total)
        runs.append((f"reading {share:.0f}% ", "warn"))
    if any(each.beat.simulated for each in store.workers()):
        runs.append(("SIMULATED ", "warn"))
    today, hour = _spent(scene)
    right: list[Run] = [(f"{today} today ", "text"), (f"{hour}/h ", "text")]
    right += [("ro " if dash.readonly else "rw ", "dim"), (f"{clock(now)} ", "dim")]
    right.append(("? help ", "key"))
    return _two_sided(runs, right, width, "status")


def _spent(scene: Scene) -> tuple[str, str]:
    minute = int(scene.now) // 60
    costs = scene.store.totals.costs
    midnight = minute - minute % DAY  # UTC, as bills are
    return money(since(costs, midnight, minute + 1)), money(since(costs, minute - HOUR, minute + 1))


def _two_sided(left: list[Run], right: list[Run], width: int, base: str) -> Line:
    used = sum(display.columns(text) for text, _ in left)
    tail = list(right)
    while tail and used + sum(display.columns(text) for text, _ in tail) > width:
        tail.pop(0)
    room = width - used - sum(display.columns(text) for text, _ in tail)
    return clip(Line((*left, (" " * max(0, room), "text"), *tail), base), width)


def _banner(dash: Dashboard, scene: Scene, width: int, now: float) -> Line:
    link = dash.store.link
    sign = scene.glyph("crit")
    if dash.travelled is not None:
        text = f" ◀ {clock(dash.travelled_to)}, {span(now - dash.travelled_to)} ago"
        keys_shown = (
            "   [ ] record   { } minute   t go to   L live   workers and text: not recorded"
        )
        return clip(
            line(
                (text if not dash.ascii else text.replace("◀", "<"), "travel"),
                (keys_shown, "travel"),
                base="travel",
            ),
            width,
        )
    if link is not None and not link.up:
        since = span(now - dash.store.linked_at)
        text = f" {sign} disconnected from {link.url} for {since}"
        if link.detail:
            text += f" ({link.detail})"
        text += f", trying again. Data below is from {clock(dash.store.linked_at)}. Acts are off."
        return clip(line((text, "banner"), base="banner"), width)
    if dash.frozen is not None:
        behind = dash.store.items - dash.frozen.items
        text = f" frozen for {span(now - dash.frozen_at)}, {behind:,} changes behind   p goes on"
        return clip(line((text, "travel"), base="travel"), width)
    return _tabs(dash, width)


def _tabs(dash: Dashboard, width: int) -> Line:
    runs: list[Run] = []
    hits: list[Hit] = []
    at = 0
    names = [dash.views[name] for name in TABS if name in dash.views]
    wide = sum(len(view.title) + 4 for view in names) <= width
    for number, view in enumerate(names, 1):
        title = view.title if wide else view.title.split()[0][:8]
        text = f" {number} {title} "
        runs.append((text, "tab.here" if view.name == dash.view else "tab"))
        hits.append(Hit(at, at + len(text), "view", view.name))
        at += len(text)
    if dash.here.name not in TABS:
        runs.append(
            (f" › {dash.here.title} " if not dash.ascii else f" > {dash.here.title} ", "tab.here")
        )
    return clip(Line(tuple(runs), "tabs", tuple(hits)), width)


def bottom(dash: Dashboard, scene: Scene, width: int, now: float) -> list[Line]:
    """A notice or the newest receipt while it is news, and the keys that are valid here."""
    found = [_keybar(dash, width)]
    if dash.metered:
        found.insert(0, clip(line((f" {dash.meter}", "dim")), width))
    if (said := _said(dash, width, now)) is not None:
        found.insert(0, said)
    return found


def _said(dash: Dashboard, width: int, now: float) -> Line | None:
    if dash.notice is not None and dash.notice.until > now:
        return clip(line((f" {dash.notice.text}", dash.notice.token)), width)
    if dash.receipts:
        newest = dash.receipts[-1]
        if not newest.ended or now - max(newest.at, newest.changed) < 10:
            return clip(line((f" {newest.command}: ", "dim"), (newest.text, newest.token)), width)
    return None


def _keybar(dash: Dashboard, width: int) -> Line:
    runs: list[Run] = [(" ", "keybar")]
    hits: list[Hit] = []
    at = 1
    valid = keys.keys_of(dash.view, readonly=dash.readonly)
    for key in keys.bar(valid):
        name = keys.named(key.key)
        columns = len(name) + 1 + len(key.title) + 2
        if at + columns > width:
            continue
        runs += [(name, ACT_KEYS if key.act else "key"), (f" {key.title}  ", "keybar")]
        hits.append(Hit(at, at + columns - 2, key.command, key.argument))
        at += columns
    return clip(Line(tuple(runs), "keybar", tuple(hits)), width)


def too_small(dash: Dashboard, width: int, height: int, now: float) -> list[Line]:
    """Numbers and a notice, for a terminal in which no view has room."""
    totals = dash.store.totals
    texts = [
        f"{totals.state('running'):,} running, {totals.state('queued'):,} queued, "
        f"{totals.state('failed'):,} failed",
        f"the terminal is too small: {width}x{height}, 60x20 is the least",
    ]
    lines = [clip(line((text, "warn")), width) for text in texts]
    return (lines + [clip(EMPTY, width)] * height)[:height]
