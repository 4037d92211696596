"""Documents: what `--once --format json` gives is what docs/dashboard.schema.json says.

AGENTFLOW_GOLDEN=write writes the schema anew.
"""

from __future__ import annotations

import json
import os
from datetime import UTC
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from agentflow.dashboard.once import render
from agentflow.dashboard.rows import documents
from agentflow.dashboard.screen.dashboard import Dashboard
from agentflow.dashboard.store.store import Store
from agentflow.views import feed
from tests.dashboard.support import scenery
from tests.dashboard.support.scenery import NOW

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "dashboard.schema.json"


def test_the_schema_is_that_of_the_types() -> None:
    text = msgspec.json.format(msgspec.json.encode(documents.schema()), indent=2).decode() + "\n"
    if os.environ.get("AGENTFLOW_GOLDEN") == "write":
        SCHEMA.write_text(text)
    assert SCHEMA.read_text() == text


@pytest.mark.parametrize("make", [scenery.dashboard, scenery.empty])
@pytest.mark.parametrize("view", documents.DOCUMENTS)
def test_what_is_printed_is_what_the_schema_allows(view: str, make: type) -> None:
    printed = render(make().store, view=view, format="json", now=NOW)
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(printed))
    read = msgspec.json.decode(printed, type=documents.AnyDocument)
    assert documents.encode(read) == printed


def test_a_document_that_lacks_a_field_is_none() -> None:
    printed = json.loads(render(scenery.empty().store, view="queues", format="json", now=NOW))
    del printed["gates"]
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert not validator.is_valid(printed)


def test_the_terminal_and_the_document_have_the_same_rows() -> None:
    dash = scenery.dashboard()
    dash.open("queues")
    dash.frame(120, 36, NOW)
    assert dash.here.table is not None
    printed = json.loads(render(dash.store, view="queues", format="json", now=NOW))
    rows = {row["queue"]: row for row in printed["queues"]}
    assert rows.keys() == set(dash.here.table.order)
    shown = dash.here.table.item()
    assert json.loads(msgspec.json.encode(shown)) == rows[dash.here.table.cursor]


def test_a_table_is_data_before_it_is_lines() -> None:
    dash = scenery.dashboard()
    dash.open("tasks")
    lines = dash.frame(160, 36, NOW)
    table = dash.here.table
    assert table is not None
    grid = table.grid(dash.scene(NOW), 0, 5)
    assert (grid.first, grid.total, grid.sort) == (0, len(table.order), "state")
    assert [row.key for row in grid.rows] == table.order[:5]
    assert [row.cursor for row in grid.rows] == [True, *[False] * 4]
    at = [heading.key for heading in grid.headings].index("state")
    for row, line in zip(grid.rows, lines[4:], strict=False):
        assert row.cells[at].text in line.text
        assert row.cells[at].token in {token for _, token in line.runs}
    assert msgspec.json.decode(msgspec.json.encode(grid), type=type(grid)) == grid


def test_a_part_of_what_there_is_is_not_called_complete() -> None:
    """Only the newest records were read: sums of them are a part, and say so."""
    store = Store()
    store.apply(feed.Loading(at=NOW, done=9, total=9, older=4_045))
    dash = Dashboard(store=store, zone=UTC)
    document = documents.document("costs", dash.scene(NOW))
    assert (document.complete, document.older) == (False, 4_045)
    assert any(">=$0" in line.text for line in dash.frame(120, 36, NOW)[:1])
    store.apply(feed.Loading(at=NOW, done=9, total=9))
    assert documents.document("costs", dash.scene(NOW)).complete
