"""`agentflow run FILE`: a whole job, from a file of prompts to a file of results."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentflow.cli.options import connection_options, resolve
from agentflow.config import Connect, store_dir
from agentflow.errors import CostLimitReached, UsageError

if TYPE_CHECKING:
    from agentflow.batch.job import Job
    from agentflow.batch.report import Display
    from agentflow.client import Flow
    from agentflow.local.stack import LocalStack

WORKERS = 2
FINISH_WITHIN = 10.0
"""Seconds that running tasks may finish in after Ctrl-C."""
WINDOW_ELSEWHERE = 500
"""Tasks under way at once where others run the workers."""


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
    from agentflow.batch import source
    from agentflow.batch.ledger import Ledger
    from agentflow.batch.report import Display, Tally, print_summary
    from agentflow.protocol import subjects
    from agentflow.protocol.record import State
    from agentflow.rules.records import micro

    options = resolve(connection, local=False)
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
            stack, url_options = _place(options, workers, concurrency, queue, simulate, store)
            window = _window(stack, workers, concurrency, limited=max_cost is not None)

            def build(flow: Flow) -> Job:
                from agentflow.batch.job import Job

                return Job(
                    flow,
                    todo,
                    ledger,
                    tally,
                    display,
                    window=window,
                    queue=queue,
                    max_cost_micro=None if max_cost is None else micro(max_cost),
                    retry_failed=retry_failed,
                )

            runner = _Runner(stack, url_options, display)
            interrupted = asyncio.run(runner.run(build))
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


def _place(
    options: Connect,
    workers: int | None,
    concurrency: int,
    queue: str,
    simulate: bool,
    store: str | None,
) -> tuple[LocalStack | None, Connect]:
    """The stack to start, if any, and how to connect. Raises UsageError."""
    from agentflow.local.stack import LocalStack
    from agentflow.local.store import running

    place = store_dir(store, simulate=simulate)
    simulator = ["--latency", "1.2", "--script", str(_script())] if simulate else []
    if options.urls:
        if simulate and not workers:
            raise UsageError(
                "with --nats (or AGENTFLOW_NATS) workers answer that run elsewhere, and they may "
                "be real ones: give --workers 1 or more with --simulate, or leave it out"
            )
        if not workers:
            return None, options
        stack = LocalStack(
            place,
            workers=workers,
            concurrency=concurrency,
            queues=[queue],
            master=False,
            simulate=simulate,
            simulator_args=simulator,
            nats=",".join(options.urls),
            worker_grace=FINISH_WITHIN,
        )
        return stack, options
    found = running(place)
    if found is not None:
        if found.simulate != simulate:
            kind = "a simulated" if found.simulate else "a real"
            raise UsageError(
                f"{kind} stack runs on {place}; "
                + ("give --simulate, or stop it" if found.simulate else "use another --store")
            )
        return None, Connect(urls=(found.url,))
    if workers == 0:
        raise UsageError(
            "without --nats and without a running stack nobody would run the tasks: "
            "give --workers 1 or more"
        )
    stack = LocalStack(
        place,
        workers=workers or WORKERS,
        concurrency=concurrency,
        queues=[queue],
        simulate=simulate,
        simulator_args=simulator,
        worker_grace=FINISH_WITHIN,
        # These workers are all there will be: a kind they do not know fails at once.
        env={"AGENTFLOW_UNKNOWN_KIND_FOR": "0.001"},
    )
    return stack, Connect()


def _script() -> Path:
    """What the simulator does to prompts that ask for it; see the file."""
    return Path(__file__).parent.parent / "simulator" / "demo.json"


def _window(
    stack: LocalStack | None, workers: int | None, concurrency: int, *, limited: bool
) -> int:
    """How many tasks may be under way: enough to keep the slots filled, no more under a limit."""
    slots = (workers or WORKERS) * concurrency
    if stack is None and not workers:
        return concurrency if limited else WINDOW_ELSEWHERE
    return slots if limited else 2 * slots


class _Runner:
    """Starts what is needed, runs the job, and turns Ctrl-C into an orderly end."""

    def __init__(self, stack: LocalStack | None, options: Connect, display: Display) -> None:
        self._stack = stack
        self._options = options
        self._display = display
        self._asked = asyncio.Event()
        self._job: Job | None = None
        self.limit_reached = False

    async def run(self, build: Callable[[Flow], Job]) -> bool:
        """Whether the job was interrupted."""
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._work(build), name="job")

        def asked() -> None:
            if self._asked.is_set() and self._stack is not None:
                self._stack.hurry()
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

    async def _work(self, build: Callable[[Flow], Job]) -> None:
        from agentflow.client import Flow

        async with self._place() as options, Flow(options) as flow:
            with self._display:
                job = self._job = build(flow)
                working = asyncio.ensure_future(job.run())
                asked = asyncio.ensure_future(self._asked.wait())
                watched = {working, asked}
                if self._stack is not None:
                    watched.add(asyncio.ensure_future(self._stack.wait()))
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                try:
                    for ended in watched:
                        if ended.done():
                            ended.result()
                    if not working.done():
                        await self._finish(job)
                finally:
                    job.abandon()
                    for waiting in watched:
                        waiting.cancel()
                    await asyncio.gather(*watched, return_exceptions=True)
                    self.limit_reached = job.limit_reached

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[Connect]:
        if self._stack is None:
            yield self._options
            return
        async with self._stack as stack:
            yield self._options if self._options.urls else Connect(urls=(stack.url,))

    async def _finish(self, job: Job) -> None:
        """Let the workers end in order while results still come in."""
        job.stop_submitting()
        if self._stack is None:
            self._display.say("stopping; what was submitted goes on in the stack it runs on")
            return
        self._display.say(
            f"stopping; running tasks have {FINISH_WITHIN:g} s (Ctrl-C again to hurry)"
        )
        await self._stack.stop_workers()
