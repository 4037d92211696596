"""docs/dashboard.md says what the program does: its keys, its views, its fields.

AGENTFLOW_GOLDEN=write puts the table of keys right.
"""

import json
import os
import re
from pathlib import Path

from agentflow.dashboard.once import render
from agentflow.dashboard.reader import keys
from agentflow.dashboard.store.store import Store
from agentflow.views.query import FIELDS
from agentflow_tui.theme import THEMES
from tests.dashboard.support.source import LifelikeSource

PAGE = Path(__file__).parents[2] / "docs" / "dashboard.md"
TABLE = re.compile(r"<!-- made from.*?-->\n(.*?)<!-- end -->", re.S)


def table() -> str:
    """The keys, those that do the same thing together."""
    rows: dict[tuple[str, tuple[str, ...], bool], list[str]] = {}
    for key in keys.KEYS:
        if key.command != "view":
            rows.setdefault((key.title, key.views, key.act), []).append(key.key)
    lines = ["| key | does | where |", "|---|---|---|"]
    for (title, views, act), names in rows.items():
        shown = " ".join(f"`{keys.named(name)}`".replace("|", "\\|") for name in names)
        where = ", ".join(views) if views else "everywhere"
        lines.append(f"| {shown} | {title}{' (asks first)' if act else ''} | {where} |")
    return "\n".join(lines) + "\n"


def test_the_keys_are_those_of_the_table():
    text = PAGE.read_text()
    found = TABLE.search(text)
    assert found is not None
    if os.environ.get("AGENTFLOW_GOLDEN") == "write":
        PAGE.write_text(text.replace(found[1], table()))
    else:
        assert found[1] == table()


def test_every_field_of_the_json_is_listed():
    source = LifelikeSource(tasks=60)
    store = Store()
    for item in (*source.life.begin(), source.life.pause("review")):
        store.apply(item)
    text = PAGE.read_text()
    listed = {
        row.split("`")[1]: set(re.findall(r"`(\w+)`", row))
        for row in text.split("## For scripts")[1].splitlines()
        if row.startswith("| `")
    }
    common = set(
        re.findall(r"`(\w+)`", next(r for r in text.splitlines() if r.startswith("| all")))
    )
    for view, fields in listed.items():
        found = json.loads(render(store, view=view, format="json", now=source.now))
        assert set(found) <= common | fields, view
        for name in {"tasks", "workers", "queues", "groups"} & found.keys():
            if found[name] and view != "overview":
                assert set(found[name][0]) <= fields, view


def test_the_fields_of_the_filter_and_the_themes_are_listed():
    text = PAGE.read_text()
    for name in (*FIELDS, *THEMES):
        assert re.search(rf"`{name}\b|\b{name}[:<>]", text), name
