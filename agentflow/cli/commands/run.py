"""`agentflow run FILE`: a whole job, from a file of prompts to a file of results."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.cli.place import FINISH_WITHIN, Place, Places
from agentflow.cli.workforce import chosen, workforce_options
from agentflow.config import Connect
from agentflow.errors import BusError, CostLimitReached, StoreBusy

if TYPE_CHECKING:
    from agentflow.client import Client
    from agentflow.job.job import Job
    from agentflow.job.report import Display
    from agentflow.job.source import Item

    Build = Callable[[Client, Sequence[Item], Place], Job]


@click.command("run")
@click.argument("file")
@click.option(
    "--out",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("results.jsonl"),
    show_default=True,
    help="File of the results; one that is there is continued.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 200),
    help="Worker processes to start. [default: 2, with --nats 0]",
)
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Tasks at once in each worker.",
)
@workforce_options
@click.option("--queue", default="default", show_default=True, help="Queue to use.")
@click.option(
    "--simulate", is_flag=True, help="Answer from a local simulator: costs nothing, needs no key."
)
@click.option("--store", help="Directory of the local stack's data. [default: the user's own]")
@click.option("--model", help="Model for lines that name none.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="Stop submitting when the job has cost this much, earlier runs included.",
)
@click.option("--retry-failed", is_flag=True, help="Run failed tasks again.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and no progress.")
@connection_options(store=False)
def command(
    file: str,
    out: Path,
    workers: int | None,
    concurrency: int,
    processes: int | None,
    app: str | None,
    kinds: str | None,
    queue: str,
    simulate: bool,
    store: str | None,
    model: str | None,
    max_cost: float | None,
    retry_failed: bool,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Run all tasks of FILE and write their results.

    FILE is .jsonl (a task object a line), .txt (a prompt a line) or - for standard input. It is
    checked whole before anything is spent. Interrupted and started again, the job goes on where it
    was: what has succeeded is neither run nor paid again.

    Exit codes: 0 all succeeded, 1 some failed, 2 wrong usage or input, 3 the stack could not start,
    4 stopped by the cost limit, 130 interrupted.
    """
    from agentflow.job import source
    from agentflow.job.ledger import Ledger
    from agentflow.job.report import Display, Tally, print_summary
    from agentflow.protocol import subjects
    from agentflow.protocol.record import State
    from agentflow.rules.records import micro

    options = resolve(connection, local=False)
    handlers = chosen(app, kinds)
    subjects.check_queue(queue)
    items = source.load(file, sys.stdin.buffer, model=model, simulate=simulate)
    ledger = Ledger(out, simulate=simulate)
    ledger.open()
    tally = Tally(len(items), simulated=simulate)
    display = Display(tally, quiet=as_json)
    todo = []
    for item in items:
        line = ledger.lines.get(item.id)
        if line is not None and (line.state == State.SUCCEEDED or not retry_failed):
            if line.request and line.request != item.request:
                display.say(
                    f"line {item.line}: task {item.id} has a result of another request; "
                    "it is kept. Give the line another id to run it."
                )
            tally.add(line, before=True)
        else:
            todo.append(item)
    if ledger.ignored:
        other = "real" if simulate else "simulated"
        display.say(f"{out} holds {ledger.ignored} {other} results; they do not count here")
    interrupted = False
    try:
        if todo:
            places = Places(
                options,
                workers=workers,
                concurrency=concurrency,
                processes=processes,
                app=app,
                kinds=handlers,
                queue=queue,
                simulate=simulate,
                store=store,
                say=display.say,
            )

            def build(client: Client, left: Sequence[Item], place: Place) -> Job:
                from agentflow.job.job import Job

                return Job(
                    client,
                    left,
                    ledger,
                    tally,
                    display,
                    window=places.window(place, limited=max_cost is not None),
                    queue=queue,
                    max_cost_micro=None if max_cost is None else micro(max_cost),
                    retry_failed=retry_failed,
                    own_workers=place.stack is not None,
                )

            runner = _Runner(places, display)
            interrupted = asyncio.run(runner.run(todo, build))
            limit_reached = runner.limit_reached
        else:
            limit_reached = False
    finally:
        tally.finish()
        ledger.close()
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({**tally.as_json(), "results": str(out)}))
    else:
        print_summary(tally, str(out))
    if interrupted:
        click.echo(
            f"Interrupted with {tally.total - tally.done} of {tally.total} tasks left. "
            "Run the same command again to go on; what has succeeded is not paid twice.",
            err=True,
        )
        raise SystemExit(130)
    if limit_reached:
        why = (
            f"no price is known for {', '.join(sorted(tally.unpriced))}, so no limit can hold"
            if tally.unpriced
            else f"the job has cost {tally.cost_text}, the limit is ${max_cost:g}"
        )
        left = tally.total - tally.done
        raise CostLimitReached(f"Stopped with {left} tasks not submitted: {why}.")
    raise SystemExit(1 if tally.failed else 0)


class _Runner:
    """Finds a place, runs the job there, and turns Ctrl-C into an orderly end."""

    def __init__(self, places: Places, display: Display) -> None:
        self._places = places
        self._display = display
        self._asked = asyncio.Event()
        self._place: Place | None = None
        self._job: Job | None = None
        self._left: Sequence[Item] = ()
        self.limit_reached = False

    async def run(self, items: Sequence[Item], build: Build) -> bool:
        """Whether the job was interrupted."""
        self._left = items
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._work(build), name="job")

        def asked() -> None:
            if self._asked.is_set() and self._place is not None and self._place.stack is not None:
                self._place.stack.hurry()
            self._asked.set()
            if self._job is None:
                work.cancel()  # the stack is still starting

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, asked)
        try:
            await work
        except asyncio.CancelledError:
            if not self._asked.is_set():
                raise
        return self._asked.is_set()

    async def _work(self, build: Build) -> None:
        while True:
            place = self._place = await self._places.find()
            try:
                moved = await self._run_at(place, build)
            except StoreBusy:
                if not place.taken():
                    raise
                continue  # another job was quicker: its stack will do
            except BusError:
                if not place.ended():
                    raise
                moved = True
            if not moved or self._asked.is_set():
                return
            self._display.say("the stack that this job used has ended; looking for another")

    async def _run_at(self, place: Place, build: Build) -> bool:
        """Whether the place ended before the job did."""
        from agentflow.client import Client

        async with _open(place) as options, Client(options) as client:
            with self._display:
                job = self._job = build(client, self._left, place)
                working = asyncio.ensure_future(job.run())
                asked = asyncio.ensure_future(self._asked.wait())
                ended = asyncio.ensure_future(_ended(place))
                watched = {working, asked, ended}
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                try:
                    for future in watched:
                        if future.done():
                            future.result()
                    if self._asked.is_set() and not working.done():
                        await self._finish(job, place)
                    return ended.done() and not working.done()
                finally:
                    job.abandon()
                    for future in watched:
                        future.cancel()
                    await asyncio.gather(*watched, return_exceptions=True)
                    self.limit_reached = job.limit_reached
                    self._left = job.left
                    self._job = None

    async def _finish(self, job: Job, place: Place) -> None:
        """Let the workers end in order while results still come in."""
        job.stop_submitting()
        if place.stack is None:
            self._display.say("stopping; what was submitted goes on in the stack it runs on")
            return
        self._display.say(
            f"stopping; running tasks have {FINISH_WITHIN:g} s (Ctrl-C again to hurry)"
        )
        await place.stack.stop_workers()


async def _ended(place: Place) -> None:
    """Return when somebody else's stack has ended. Raises StackError when our own has."""
    if place.stack is not None:
        await place.stack.wait()
    await place.wait_ended()


@contextlib.asynccontextmanager
async def _open(place: Place) -> AsyncIterator[Connect]:
    """Start the place's own stack, if it has one; gives how to connect."""
    if place.stack is None:
        yield place.options
        return
    async with place.stack as stack:
        yield place.options if place.options.urls else Connect(urls=(stack.url,))
