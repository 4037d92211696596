"""The pure parts of `bench compare`: loads, plan, figures, money, verdicts, the report's text."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.compare import claims, comparison, figures, ladders, money, plan, report, words
from bench.compare.comparison import Comparison, Measured, Memory, Overhead, Row, Trial
from bench.compare.drive import Answer
from bench.compare.ladders import FULL, QUICK, SEED, Latency, Load
from bench.compare.money import Instance
from bench.compare.rows import BY_NAME, DESIGNS
from bench.instruments.tree import Look

TWO = Latency(2.0)


def measured(
    design: str,
    load: Load,
    *,
    processes: int = 1,
    makespan: float = 20.0,
    p50_ms: float = 5.0,
    cpu_s: float = 1.0,
    peak_mb: float | None = 80.0,
    whole: int | None = None,
    errors: int = 0,
) -> Measured:
    return Measured(
        trial=Trial(design, load, processes, whole),
        makespans_s=[makespan] * load.rounds,
        floors_s=[load.floor(number) for number in range(load.rounds)],
        overhead=Overhead(p50_ms, p50_ms * 1.5, p50_ms * 3, p50_ms * 4),
        cpu_s=cpu_s,
        beside_s={"server": 1.0, "client": 2.0},
        memory=Memory(70.0, peak_mb, peak_mb, 9, processes),
        started_s=1.5,
        errors=errors,
        problem="it broke" if errors else "",
    )


def a_comparison(*trials: Measured, busy: bool = False, missing: str = "") -> Comparison:
    rows = [
        Row(
            name=each.name,
            title=each.title,
            text=each.text,
            runs_cli=each.runs_cli,
            missing="it is not here" if each.name == missing else None,
        )
        for each in DESIGNS
    ]
    facts = {
        "time": "2026-01-22T00:00:00+00:00",
        "cpu": "A CPU",
        "cores": 2,
        "memory_gib": 8,
        "system": "Linux",
        "python": "3.11",
        "commit": "abc",
        "load_before": [0.1],
        "load_after": [1.0],
    }
    return Comparison(
        ladder="full",
        seed=SEED,
        machine=facts,
        busy=busy,
        image=(None, "no container engine here"),
        seconds=60.0,
        rows=rows,
        trials=list(trials),
    )


SOLO, TENS, HUNDREDS, ALL = FULL.steps

WHOLE = a_comparison(
    measured("sdk", SOLO, makespan=60.2, p50_ms=5.0, peak_mb=80.0),
    measured("sdk", HUNDREDS, makespan=20.6, cpu_s=4.0, peak_mb=100.0),
    measured("sdk", FULL.crowd, processes=100, makespan=3.0, peak_mb=2500.0),
    measured("go", SOLO, makespan=81.0, p50_ms=700.0, peak_mb=300.0, cpu_s=22.0),
    measured("go", TENS, makespan=110.0, p50_ms=3500.0, peak_mb=1200.0, cpu_s=200.0),
)


def test_the_floor_is_what_the_answers_alone_take() -> None:
    assert [load.floor() for load in FULL.steps] == [60.0, 40.0, 20.0, 2.0]
    assert ladders.floor([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert ladders.floor([1.0, 1.0, 3.0], 2) == 4.0


def test_a_prompt_is_asked_once_in_a_measurement() -> None:
    prompts = [prompt for number in range(ALL.rounds) for prompt in ALL.prompts(number)]
    assert len(set(prompts)) == len(prompts) == 3000


def test_a_scattered_latency_is_the_prompt_s_own() -> None:
    scattered = Latency(2.0, 10.0)
    drawn = [scattered.of(f"Name river {number}.") for number in range(400)]
    assert drawn == [scattered.of(f"Name river {number}.") for number in range(400)]
    assert 1.6 < sorted(drawn)[200] < 2.4
    assert 4.0 < max(drawn) < 40.0


def test_a_cli_stays_at_ten_in_flight_and_says_what_it_leaves_out() -> None:
    ladder = msgspec.structs.replace(FULL, cli_tasks=50)
    trials = plan.trials(DESIGNS, ladder)
    with_cli = [each for each in trials if BY_NAME[each.design].runs_cli]
    assert max(each.load.in_flight for each in with_cli) == 10
    tens = next(each for each in with_cli if each.design == "go" and each.load.in_flight == 10)
    assert (tens.load.tasks, tens.whole) == (50, 200)
    assert {each.load for each in trials if each.design == "sdk"} >= set(FULL.steps)
    crowd = max(trials, key=lambda each: each.processes)
    assert (crowd.processes, crowd.slots, crowd.load.tasks) == (100, 10, 1000)


def test_the_ladders_fit_their_time() -> None:
    def minutes(ladder: ladders.Ladder) -> float:
        trials = plan.trials(DESIGNS, ladder)
        return sum(plan.expected_s(each, BY_NAME[each.design], 2) for each in trials) / 60

    assert minutes(QUICK) < 3
    assert minutes(FULL) < 40


def test_overhead_is_of_the_tasks_that_succeeded() -> None:
    answers = [Answer(f"p{number}", 2.0 + number / 1000) for number in range(1, 102)]
    answers.append(Answer("bad", 90.0, "it broke"))
    found = figures.overhead(answers, TWO)
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (51.0, 100.0, 101.0)
    assert figures.first_problem(answers) == (1, "it broke")
    assert figures.overhead(answers[-1:], TWO) == Overhead(0.0, 0.0, 0.0, 0.0)
    assert figures.overhead(answers[:1], TWO).p99_ms == 1.0


def test_memory_is_not_told_where_the_system_does_not() -> None:
    looks = [Look(0.0, 10.0, 1), Look(1.0, 30.0, 4), Look(2.0, 0.0, 0)]
    assert figures.memory(5.0, looks) == Memory(5.0, 20.0, 30.0, 3, 4)
    assert figures.memory(5.0, [Look(0.0, None, 2)]).peak_mb is None


def test_the_median_round_counts() -> None:
    load = Load(10, 10, TWO, rounds=3)
    each = msgspec.structs.replace(
        measured("sdk", load), makespans_s=[9.0, 2.2, 3.0], floors_s=[2.0, 2.0, 2.0], cpu_s=0.3
    )
    assert (each.makespan_s, each.over_floor, each.cpu_ms) == (3.0, 1.5, 10.0)


def test_cpu_or_memory_decides_what_is_rented() -> None:
    instance = Instance("yours", 4.0, 2, 30.0)
    assert money.bill(money.Need(1000, 100.0, 4.0), instance).instances == 25
    found = money.bill(money.Need(1000, 3.0, 100.0), instance)
    assert (found.by_memory, found.by_cpu, found.year_usd) == (1, 50, 18_000)


def test_what_a_design_needs_comes_from_its_figures() -> None:
    found = money.need(WHOLE, "go")
    assert found is not None
    # 500 a second, each holding a place for 2.7 s: 120 MB a place, 1 s of CPU a task.
    assert (round(found.places), round(found.memory_gb), found.cores) == (1350, 162, 500.0)
    assert money.need(WHOLE, "node") is None


@pytest.mark.parametrize(
    ("claimed", "found", "said"),
    [
        (100, 120, "about right"),
        (100, 400, "4.0 times too low"),
        (100, 10, "10 times too high"),
    ],
)
def test_a_claim_stands_against_what_was_measured(claimed: float, found: float, said: str) -> None:
    assert claims.against(claimed, found) == said


def test_every_claim_is_judged_by_the_figures() -> None:
    table = claims.table(WHOLE)
    judged = {each.what.partition(",")[0]: each for each in table}
    assert "140 times as much" in judged["overhead per task"].verdict
    assert "4.0 times too low" in judged["overhead per task"].verdict
    assert "3.0 s" in judged["1000 tasks"].measured
    assert "extrapolated" in judged["1000 tasks"].measured
    assert "floor 2 s" in judged["1000 tasks"].measured


def test_without_figures_nothing_is_judged() -> None:
    for each in claims.table(a_comparison()):
        assert each.verdict == claims.ABSENT
        assert claims.ABSENT in each.measured


def test_without_go_another_cli_worker_stands_for_the_document_s() -> None:
    assert claims.cli_design(WHOLE) == "go"
    assert claims.cli_design(a_comparison(measured("claude-cli", TENS))) == "claude-cli"


def test_the_report_says_what_it_is_worth() -> None:
    text = report.markdown(WHOLE)
    assert "SIMULATED" in text
    assert "machine was busy" not in text
    assert "## Extrapolated, not measured" in text
    busy = report.markdown(a_comparison(busy=True, missing="node"))
    assert "**The machine was busy: these figures are not to be compared.**" in busy
    assert "not measured: it is not here" in busy


def test_the_report_shows_errors_and_cuts() -> None:
    load = Load(20, 10, TWO)
    text = report.markdown(a_comparison(measured("go", load, whole=200, errors=3)))
    assert "20 of 200 tasks" in text
    assert "3 of 20" in text


def test_the_user_s_prices_take_the_place_of_the_document_s() -> None:
    text = report.markdown(WHOLE, own=Instance("yours", 8.0, 4, 60.0))
    assert "yours: 8 GB, 4 cores, $60 a month" in text
    assert "for CLI workers: 4 GB" not in text


def test_the_readme_s_table_has_the_designs_side_by_side() -> None:
    both = a_comparison(
        measured("sdk", TENS), measured("go", TENS, p50_ms=3500.0, peak_mb=1200.0, cpu_s=200.0)
    )
    text = report.section(both)
    assert text.startswith("SIMULATED answers of 2 s, 10 tasks in flight")
    assert "| Go, claude -p per task | 3.50 s / 10.50 s | 1.00 s | 120 MB | 1.50 s |" in text


def test_the_readme_gets_the_last_report_between_its_marks() -> None:
    text = f"Before.\n{report.BEGIN}{report.END}After.\n"
    once = report.spliced(text, "First.")
    assert once == f"Before.\n{report.BEGIN}\nFirst.\n\n{report.END}After.\n"
    assert report.spliced(once, "Second.") == once.replace("First.", "Second.")
    assert report.spliced("No marks.", "First.") == "No marks."
    assert f"{report.BEGIN}\nx\n" in report.spliced(report.README.read_text(encoding="utf-8"), "x")


def test_a_comparison_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "compare.json"
    comparison.write(WHOLE, file)
    assert comparison.read(file) == WHOLE


def test_figures_have_the_digits_that_they_are_worth() -> None:
    assert [words.ms(each) for each in (4.25, 123.4, 2500.0)] == ["4.2 ms", "123 ms", "2.50 s"]
    assert [words.times(each) for each in (1.24, 12.3, 344.0)] == ["1.2", "12", "340"]
    assert [words.gb(each) for each in (900.0, 125_000.0, None)] == ["0.9 GB", "125 GB", "–"]


def a_later_one(**differs: object) -> Comparison:
    whole = a_comparison(measured("sdk", SOLO, makespan=60.1, p50_ms=4.0))
    only = [row for row in whole.rows if row.name == "sdk"]
    machine = {**whole.machine, "commit": "def", **differs}
    return msgspec.structs.replace(whole, rows=only, machine=machine)


def test_a_later_part_takes_the_place_of_its_designs_and_the_report_says_so() -> None:
    both = comparison.renewed(WHOLE, a_later_one())
    assert [one.trial.design for one in both.trials] == ["sdk", "go", "go"]
    assert [row.name for row in both.rows] == [row.name for row in WHOLE.rows]
    assert "in one run of their own at commit def" in report.markdown(both)
    assert "commit abc; sdk at def" in report.section(both)
    again = comparison.renewed(both, a_later_one(commit="fed"))
    assert [one.machine["commit"] for one in again.renewals] == ["fed"]


def test_figures_of_another_machine_are_not_mixed_in() -> None:
    with pytest.raises(comparison.Unlike, match="another machine"):
        comparison.renewed(WHOLE, a_later_one(cpu="Another CPU"))
