"""What a job will cost: by its size, or by answers that it has."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import preview
from agentflow.handlers import price_file
from agentflow.job.estimate import Learned, estimate, learn
from agentflow.job.ledger import Ledger
from agentflow.job.source import Reading, Source
from agentflow.protocol.record import Timings, Usage
from agentflow.views.ledger import line_of
from tests.unit.test_job_ledger import record

PRICES = price_file.load({})


def source(*tasks: dict[str, Any]) -> Source:
    data = "".join(json.dumps(task) + "\n" for task in tasks)
    return Source("-", io.BytesIO(data.encode()), Reading())


TASKS = [{"prompt": "x" * 700, "max_tokens": 1000, "model": "claude-haiku-5-5"}] * 10


def test_by_size_it_is_a_wide_range_below_max_tokens() -> None:
    figures = estimate(source(*TASKS).models, PRICES, Learned(), slots=1)
    assert (figures.tasks, figures.learned_from, figures.seconds) == (10, 0, None)
    assert figures.input_tokens.likely == pytest.approx(2000)
    assert figures.input_tokens.low < 2000 < figures.input_tokens.high
    assert figures.output_tokens.high == 10_000
    assert figures.cost_micro is not None
    assert 0 < figures.cost_micro.low < figures.cost_micro.likely < figures.cost_micro.high
    short = [{**task, "max_tokens": 5} for task in TASKS]
    assert estimate(source(*short).models, PRICES, Learned(), slots=1).output_tokens.likely == 50


def test_by_answers_it_is_their_mean(tmp_path: Path) -> None:
    tasks = source(*TASKS)
    book = Ledger(tmp_path / "r.jsonl", simulate=False)
    book.open()
    for item in list(tasks)[:2]:
        made = record(item.id, usage=Usage(100, 50, 50, 50), timings=Timings(run_s=3.0))
        book.append(line_of(made, line=item.line, request=item.request, simulate=False))
    failed = record(list(tasks)[2].id, state="failed", usage=Usage(9999, 9999))
    book.append(line_of(failed, line=3, request=None, simulate=False))
    book.close()

    learned = learn(tmp_path / "r.jsonl", tasks, simulate=False)
    figures = estimate(tasks.models, PRICES, learned, slots=5)
    assert figures.learned_from == 2
    assert figures.input_tokens.likely == pytest.approx(2000)
    assert figures.output_tokens.likely == pytest.approx(500)
    assert figures.seconds == pytest.approx(6)
    assert "by 2 answers of this job" in preview.sentences(figures)[0]
    assert learn(tmp_path / "absent", tasks, simulate=False).tasks == 0


def test_a_model_without_a_price_has_no_cost() -> None:
    figures = estimate(
        source(*TASKS, {"prompt": "x", "model": "claude-nova-9"}).models,
        PRICES,
        Learned(),
        slots=1,
    )
    assert (figures.cost_micro, figures.unpriced) == (None, ("claude-nova-9",))
    assert "unknown: no price for claude-nova-9" in "\n".join(preview.sentences(figures))


def test_what_is_not_asked_of_claude_costs_nothing() -> None:
    figures = estimate(source({"prompt": "x", "kind": "echo"}).models, PRICES, Learned(), slots=1)
    assert figures.cost_micro is not None
    assert (figures.tasks, figures.cost_micro.high) == (0, 0)


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    first = preview.sample_of(1000, None, 5, 1)
    assert first == preview.sample_of(1000, None, 5, 1) != preview.sample_of(1000, None, 5, 2)
    assert sorted(preview.sample_of(1000, 3, 5, 1)) == [0, 1, 2]
