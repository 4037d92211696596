"""`agentflow run FILE`: a whole job, from a file of any kind to a file of results."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import signal
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentflow.cli import resultsfile
from agentflow.cli.options import Dollars, Patience, connection_options, resolve
from agentflow.cli.reading import (
    batch_of,
    batch_options,
    default_options,
    reading_options,
    redact_option,
)
from agentflow.cli.workforce import SLOTS, chosen, limit_options, limits_of, workforce_options
from agentflow.errors import CostLimitReached, GaveUp, UsageError

if TYPE_CHECKING:
    from agentflow.cli.report import Display
    from agentflow.job.job import Job
    from agentflow.job.source import Source
    from agentflow.job.spec import Ending, JobSpec

INTERRUPTED = 130
NO_ANSWERS = 6
GIVE_UP = 600.0
"""Seconds of patience where nobody looks."""


@click.command("run")
@click.argument("file")
@click.option(
    "--out",
    "-o",
    metavar="FILE",
    help="File of the results: .jsonl, .csv, .parquet, or - for standard output; one that is there "
    "is continued. [default: FILE's name with .results.jsonl, here]",
)
@click.option("--append", is_flag=True, help="The file of results may hold those of other jobs.")
@click.option(
    "--with", "carry", metavar="NAME,...", help="Put beside each result: prompt, labels, a column."
)
@reading_options
@click.option(
    "--workers",
    type=click.IntRange(0, 200),
    help="Worker processes to start. [default: 2, with --nats 0]",
)
@SLOTS
@workforce_options
@limit_options
@click.option(
    "--queue",
    help="Queue to use. [default: one of the job's own; `default` where others run the workers]",
)
@click.option(
    "--simulate", is_flag=True, help="Answer from a local simulator: costs nothing, needs no key."
)
@click.option("--store", help="Directory of the local stack's data. [default: the user's own]")
@default_options
@click.option(
    "--cache-prefix",
    is_flag=True,
    help="Have the API cache what the lines share (the system prompt and the tools before it): "
    "one asks first and writes it, the others read it for a tenth of its price or less.",
)
@redact_option
@batch_options
@click.option(
    "--max-cost",
    type=Dollars(),
    help="Never spend more on the job, earlier runs included: what a request may cost is held "
    "before it is sent. The rest is left for a higher limit.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run only the first N.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run N of them, show answers and what the rest would cost, then ask.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which N --sample takes.")
@click.option("--yes", "-y", is_flag=True, help="Go on after --sample without being asked.")
@click.option("--estimate", "only_estimate", is_flag=True, help="Say what it would cost, run none.")
@click.option("--dry-run", is_flag=True, help="Print what would be asked, run none.")
@click.option(
    "--cache",
    "cache_days",
    type=click.IntRange(1, 3650),
    metavar="DAYS",
    help="Take whole answers to the same requests that are no older, and keep new ones so long.",
)
@click.option("--retry-failed", is_flag=True, help="Run failed tasks again.")
@click.option(
    "--fresh", is_flag=True, help="Ask anew what was answered before; interrupted, go on with that."
)
@click.option(
    "--again",
    metavar="KIND,...",
    help="Ask again where an earlier run got none: cut, empty, refused, paused, schema.",
)
@click.option("--strict", is_flag=True, help="Exit 6 where an answer is none (see --again).")
@click.option(
    "--give-up",
    type=Patience(),
    metavar="TIME",
    help="End where nothing goes on without a person for so long (10m, 2h), or never. "
    "[default: never on a terminal, else 10m]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and no progress.")
@connection_options(store=False)
def command(file: str, **options: Any) -> int:
    """Run all tasks of FILE and write their results.

    FILE is JSON lines (task objects, conversations, batch lines of Anthropic or OpenAI), a JSON
    array, text (a prompt a line), CSV, TSV or Parquet, each also as .gz; or - for standard input.
    It is checked whole before anything is spent. Interrupted and started again, the job goes on
    where it was: what has succeeded is neither run nor paid again.

    Exit codes: 0 all succeeded, 1 some failed or the file of results was lost, 2 wrong usage or
    input, 3 the stack could not start, 4 stopped by the cost limit, 5 nothing went on without a
    person (--give-up), 6 all succeeded and some answers are none (--strict), 130 interrupted.
    """
    from agentflow.cli import preview

    reading = ("format_name", "prompt", "template", "carry", "app", "simulate")
    defaults = ("model", "system", "max_tokens", "temperature", "max_attempts", "schema", "repair")
    batch = batch_of(*(options.pop(name) for name in ("batch", "batch_after", "batch_expired")))
    if options.pop("redact"):
        batch = {**batch, "redact": True}
    job = _Command(file, {name: options.pop(name) for name in _OURS}, options)
    given = {name: job.options[name] for name in (*reading, *defaults)} | batch
    if job.options["cache_prefix"]:  # a job without it stays the same job
        given["cache_prefix"] = True
    source = job.read(given)
    if job.ours["dry_run"]:
        limit = job.ours["limit"]
        preview.print_requests(item for at, item in enumerate(source) if not limit or at < limit)
        return 0
    if job.ours["only_estimate"]:
        return job.estimate(source)
    if job.ours["sample"]:
        return job.sampled(source)
    return job.run(source)


_OURS = (
    *("out", "dry_run", "only_estimate", "sample", "seed", "yes", "limit", "as_json", "max_cost"),
    *("fresh", "strict", "give_up", "again"),
)


class _Command:
    """The command with its options: `ours` say what to do, the others how to run the job."""

    def __init__(self, file: str, ours: dict[str, Any], options: dict[str, Any]) -> None:
        self.ours = ours
        self._limits = limits_of(options)
        self.options = options
        self._printed = ours["out"] == "-"
        self._file = file
        if self._printed and (ours["sample"] or ours["only_estimate"]):
            raise UsageError("--sample and --estimate need a file of results to learn from")
        if self._printed and options["append"]:
            raise UsageError("--append is for a file of results, not for standard output")
        self.out = resultsfile.of(file, ours["out"])

    def read(self, how: dict[str, Any]) -> Source:
        """The input, checked; says what it was taken for."""
        from agentflow.cli import output, reading
        from agentflow.job.fresh import Round
        from agentflow.protocol import jobs, subjects

        if self.options["queue"] is not None:
            subjects.check_queue(self.options["queue"])
        if not self._printed and resultsfile.same(self._file, self.out):
            raise UsageError(f"{self.out} is the input; name another file for the results: -o")
        results = None if self._printed else self._results()
        self._round = Round(results, wanted=self.ours["fresh"])
        source = reading.source(
            self._file,
            labelled=True,
            limited=self.ours["max_cost"] is not None,
            round=self._round.word,
            served=self._served(),
            **how,
        )
        self._input = source.origin
        self._job = jobs.job_id(resultsfile.stem(self._file), self._identity(source))
        self._defaults = _hash(how)
        if not self.ours["as_json"]:
            output.note(source.taken_for)
            if not (self.ours["out"] or self.ours["dry_run"] or self.ours["only_estimate"]):
                output.note(resultsfile.told(self.out))
        return source

    def spec(self, only: Collection[int] | None) -> JobSpec:
        """What to run, of the positions `only`."""
        from agentflow.job import outputs, served
        from agentflow.job.spec import JobSpec
        from agentflow.rules.answers import named
        from agentflow.rules.records import micro

        options, max_cost = self.options, self.ours["max_cost"]
        table = not self._printed and outputs.is_table(self.out)
        names = ("workers", "processes", "concurrency", "app", "queue", "simulate", "store")
        kinds = chosen(options["app"], options["kinds"])
        return JobSpec(
            id=self._job,
            file=self._file,
            input=self._input,
            defaults=self._defaults,
            again=named(self.ours["again"]) if self.ours["again"] else frozenset(),
            give_up=self._patience(),
            results=None if self._printed else outputs.journal_of(self.out) if table else self.out,
            table=self.out if table else None,
            append=options["append"],
            replace=bool(self._round.word),
            only=only,
            connect=resolve(_connection(options), local=False),
            kinds=tuple(kinds),
            limits=self._limits,
            served=served.kinds_of(kinds, self._own()),
            max_cost_micro=None if max_cost is None else micro(max_cost),
            retry_failed=options["retry_failed"],
            cache_days=options["cache_days"],
            **{name: options[name] for name in names},
        )

    def _identity(self, source: Source) -> str:
        """What makes it the same job: its file of results; else its file, else what is asked."""
        who = f"{os.getuid()}@{socket.gethostname()}"
        if not self._printed:
            return f"{who}:{self.out.absolute()}"
        if self._file != "-":
            return f"{who}:{Path(self._file).absolute()}:-"
        return f"{who}:{source.digest}"

    def _patience(self) -> float | None:
        given: float | None = self.ours["give_up"]
        if given is None:
            return None if sys.stderr.isatty() else GIVE_UP
        return None if given == float("inf") else given

    def _served(self) -> frozenset[str] | None:
        """The kinds that workers of this job will run; None where others may run them."""
        from agentflow.config import store_dir
        from agentflow.job import served
        from agentflow.local.store import running

        options = self.options
        folder = store_dir(options["store"], simulate=options["simulate"])
        if resolve(_connection(options), local=False).urls or running(folder) is not None:
            return None
        return served.kinds_of(chosen(options["app"], options["kinds"]), self._own())

    def _own(self) -> list[str]:
        from agentflow.cli import apps

        return apps.load(self.options["app"]).kinds if self.options["app"] else []

    def run(self, source: Source) -> int:
        """The whole job."""
        limit = self.ours["limit"]
        job, ending = self._run(source, None if limit is None else range(limit))
        if job.tally.done == len(source):
            self._round.done()
        self._summary(job)
        return self._told(ending, job)

    def sampled(self, source: Source) -> int:
        """A sample, what it shows, and the rest where that is wanted."""
        from agentflow.cli import preview
        from agentflow.job.spec import Ending

        ours = self.ours
        only = preview.sample_of(len(source), ours["limit"], ours["sample"], ours["seed"])
        job, ending = self._run(source, only)
        if ending is not Ending.DONE:
            self._summary(job)
            return self._told(ending, job)
        self._show(source, only)
        left = min(len(source), ours["limit"] or len(source)) - len(only)
        if not left or not preview.go_on(left, ours["yes"]):
            self._summary(job)
            return self._told(ending, job)
        return self.run(source)

    def estimate(self, source: Source) -> int:
        """Say what the job would cost."""
        from agentflow.cli import output, preview

        figures = self._figures(source, count=not self.options["simulate"])
        if self.ours["as_json"]:
            output.show_json(figures)
        else:
            for sentence in preview.sentences(figures):
                output.show(sentence)
        return 0

    def _show(self, source: Source, only: Collection[int]) -> None:
        from agentflow.cli import output, preview
        from agentflow.job.ledger import Ledger

        ledger = Ledger(self._results(), simulate=self.options["simulate"])
        ledger.open()
        try:
            asked = (item.id for at, item in enumerate(source) if at in only)
            preview.print_answers(line for name in asked if (line := ledger.get(name)) is not None)
        finally:
            ledger.close()
        for sentence in preview.sentences(self._figures(source)):
            output.note(sentence)

    def _figures(self, source: Source, *, count: bool = False) -> Any:
        from agentflow.handlers import price_file
        from agentflow.job import counting, estimate

        options = self.options
        learned = estimate.learn(self._results(), source, simulate=options["simulate"])
        slots = (options["workers"] or 2) * (options["processes"] or 1) * options["concurrency"]
        counted = counting.count(source) if count else None
        return estimate.estimate(
            source.models, price_file.load(), learned, slots=slots, counted=counted
        )

    def _results(self) -> Path:
        from agentflow.job import outputs

        return outputs.journal_of(self.out) if outputs.is_table(self.out) else self.out

    def _run(self, source: Source, only: Collection[int] | None) -> tuple[Job, Ending]:
        from agentflow.cli.report import Display
        from agentflow.job.job import Job

        self._round.begin()
        job = Job(self.spec(only), source)
        from agentflow.telemetry import tracing

        with tracing.command():
            return job, asyncio.run(_run(job, Display(job.tally, quiet=self.ours["as_json"])))

    def _summary(self, job: Job) -> None:
        """The figures: on standard output, where the results do not go there."""
        from agentflow.cli.report import next_steps, print_summary

        if self.ours["as_json"]:
            import msgspec

            document = {"job": self._job, **job.tally.as_json(), "results": str(self.out)}
            click.echo(msgspec.json.encode(document), err=self._printed)
        else:
            where = "standard output" if self._printed else str(self.out)
            print_summary(job.tally, where, to_stderr=self._printed)
            for sentence in next_steps(job.tally, self._command(), where):
                click.echo(sentence, err=True)

    def _command(self) -> str:
        """This command, without what says which tasks to run again."""
        given = sys.argv[1:]
        if given[:1] != ["run"]:  # it was not started from a command line
            return shlex.join(["agentflow", "run", self._file])
        if (again := self.ours["again"]) is not None:
            given = [word for word in given if word not in ("--again", again, f"--again={again}")]
        return shlex.join(["agentflow", *(word for word in given if word != "--retry-failed")])

    def _told(self, ending: Ending, job: Job) -> int:
        """The exit code, after a sentence about what is left. Raises CostLimitReached, GaveUp."""
        from agentflow.cli.report import limit_reached
        from agentflow.job.spec import Ending

        tally = job.tally
        left = tally.total - tally.done
        if ending is Ending.INTERRUPTED:
            click.echo(
                f"Interrupted with {left} of {tally.total} tasks left. "
                "Run the same command again to go on; what has succeeded is not paid twice.",
                err=True,
            )
            return INTERRUPTED
        if ending is Ending.COST_LIMIT:
            raise CostLimitReached(limit_reached(tally, job.budget, self.ours["max_cost"]))
        if ending is Ending.GAVE_UP and job.held is not None:
            raise GaveUp(
                f"Gave up with {left} of {tally.total} tasks left: {job.held.text}. "
                f"To go on: {job.held.remedy}, and run the same command again; what has succeeded "
                "is not paid twice."
            )
        if tally.failed:
            return 1
        return NO_ANSWERS if self.ours["strict"] and tally.flaws else 0


async def _run(job: Job, display: Display) -> Ending:
    """Run it; Ctrl-C becomes an orderly end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, job.stop)
    return await job.run(display)


def _hash(how: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(how.items())).encode()).hexdigest()[:8]


def _connection(options: dict[str, Any]) -> dict[str, str | None]:
    names = ("nats", "context", "creds", "user", "tls_ca", "tls_cert", "tls_key", "inbox_prefix")
    return {name: options[name] for name in names}
