"""The client for scripts and notebooks: no `await`.

    import agentflow

    with agentflow.sync.connect() as client:
        task = client.submit("Write a haiku")
        print(task.result(timeout=60).text)

Each method is the one of `agentflow.Client` or `TaskHandle` of the same name, run to its end in the
event loop of a thread of its own, so that it also works where a loop runs already, as in Jupyter.
What yields there is a generator here. Ctrl-C interrupts every call; submitted tasks go on.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from agentflow.client import client as clients
from agentflow.client.client import Client
from agentflow.client.session import closed, forked
from agentflow.client.tasks.handle import TaskHandle
from agentflow.client.tasks.options import MapOptions, spelled_out
from agentflow.client.tasks.several import several
from agentflow.client.tasks.tasks import Item
from agentflow.client.tasks.watching import Event
from agentflow.errors import NotConnected, UsageError
from agentflow.views.result import Result

__all__ = ["SyncClient", "SyncTask", "connect"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_Results = list[Result]  # within the class `list` is a method

AHEAD: Final = 256
"""What may wait for a slow reader of `watch` or `cancel_all`."""


class LoopThread:
    """An event loop in a thread. Used by one thread at a time it needs no lock."""

    def __init__(self, name: str) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        # A daemon: a script that forgets to close must still end.
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def open(self) -> bool:
        """Whether it runs: not closed, and not in a fork, which has no threads but its own."""
        return not self._loop.is_closed() and self._process == os.getpid()

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end. An interrupted wait cancels it."""
        try:
            self.check()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Call a function in the loop, and do not wait for it."""
        self.check()
        self._loop.call_soon_threadsafe(call, *arguments)

    def start(self, work: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run a coroutine in the background; call what is returned to cancel it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return lambda: (future.cancel(), None)[1] if self.open else None

    def close(self) -> None:
        """Cancel what runs, and end the thread."""
        if not self.open:
            return
        atexit.unregister(self.close)
        asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def check(self) -> None:
        """Raise NotConnected or UsageError where a call would never return."""
        if self._process != os.getpid():
            raise forked(self._process)
        if not self.open:
            raise closed()
        if threading.current_thread() is self._thread:
            raise UsageError("a sync client cannot be used in its own event loop")


class _End:
    """The last thing of a stream: how it ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Stream(Generic[T]):
    """An async generator as it fills a queue, at most `ahead` things ahead of the reader."""

    def __init__(
        self,
        thread: LoopThread,
        source: Callable[[], AsyncGenerator[T]],
        ahead: int | None = None,
    ) -> None:
        self._thread = thread
        self._source = source
        self._room = None if ahead is None else asyncio.Semaphore(ahead)
        self._arrived: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        thread.check()
        self._cancel = thread.start(self._pump())

    async def _pump(self) -> None:
        error: BaseException | None = None
        try:
            async with aclosing(self._source()) as source:
                async for item in source:
                    self._arrived.put(item)
                    if self._room is not None:
                        await self._room.acquire()
        except asyncio.CancelledError:
            error = NotConnected("this client was closed meanwhile")
            raise
        except Exception as raised:
            error = raised
        finally:
            self._arrived.put(_End(error))

    @property
    def waiting(self) -> bool:
        """Whether the next thing is here."""
        return not self._arrived.empty()

    def next(self) -> T | _End:
        """The next thing, when it is here. Raises what the generator raised."""
        item = self._arrived.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
        elif self._room is not None:
            self._thread.soon(self._room.release)
        return item

    def close(self) -> None:
        """End the generator."""
        self._cancel()

    def __iter__(self) -> Iterator[T]:
        try:
            while not isinstance(item := self.next(), _End):
                yield item
        finally:
            self.close()


def _run(
    method: Callable[Concatenate[Client, P], Awaitable[R]],
) -> Callable[Concatenate[SyncClient, P], R]:
    """The method, run to its end."""

    @functools.wraps(method)
    def run(self: SyncClient, /, *arguments: P.args, **named: P.kwargs) -> R:
        return self._call(method, *arguments, **named)

    return run


def _task(
    method: Callable[Concatenate[Client, P], Awaitable[TaskHandle]],
) -> Callable[Concatenate[SyncClient, P], SyncTask]:
    """The method, run to its end, with the handle that it returns for this side."""

    @functools.wraps(method)
    def run(self: SyncClient, /, *arguments: P.args, **named: P.kwargs) -> SyncTask:
        return SyncTask(self, self._call(method, *arguments, **named))

    return run


def _stream(
    method: Callable[Concatenate[Client, P], AsyncGenerator[R]],
) -> Callable[Concatenate[SyncClient, P], Iterator[R]]:
    """The method's async generator as a generator."""

    @functools.wraps(method)
    def run(self: SyncClient, /, *arguments: P.args, **named: P.kwargs) -> Iterator[R]:
        return self._iterator(lambda: method(self.client, *arguments, **named))

    return run


class SyncClient:
    """`agentflow.Client` without `await`. `client` is the one in the thread."""

    def __init__(self, client: Client) -> None:
        self._thread = LoopThread("agentflow")
        try:
            self.client = self._thread.call(client.open())
        except BaseException:
            self._thread.close()
            raise

    def close(self) -> None:
        """See Client.close; ends the thread too."""
        if self._thread.open:
            try:
                self._thread.call(self.client.close())
            finally:
                self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(
        self,
        method: Callable[Concatenate[Any, P], Awaitable[R]],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> R:
        async def work() -> R:
            return await method(self.client, *arguments, **named)

        return self._thread.call(work())

    def _iterator(self, source: Callable[[], AsyncGenerator[R]]) -> Iterator[R]:
        self._thread.check()  # now, not when the first item is asked for
        return self._iterate(source)

    def _iterate(self, source: Callable[[], AsyncGenerator[R]]) -> Iterator[R]:
        yield from _Stream(self._thread, source, ahead=AHEAD)

    submit = _task(Client.submit)
    submit_body = _task(Client.submit_body)
    retry = _task(Client.retry)
    get = _run(Client.get)
    read = _run(Client.read)
    cancel = _run(Client.cancel)
    list = _run(Client.list)
    stats = _run(Client.stats)
    workers = _run(Client.workers)
    unserved = _run(Client.unserved)
    pause = _run(Client.pause)
    resume = _run(Client.resume)
    pauses = _run(Client.pauses)
    drain = _run(Client.drain)
    drain_tasks = _run(Client.drain_tasks)
    limits = _run(Client.limits)
    why = _run(Client.why)
    batches = _run(Client.batches)
    cancel_batch = _run(Client.cancel_batch)
    prompt = _run(Client.prompt)
    snapshot = _run(Client.snapshot)
    watch = _stream(Client.watch)
    cancel_all = _stream(Client.cancel_all)

    def task(self, task_id: str, *, newer_than: int = 0) -> SyncTask:
        """See Client.task."""

        async def handle(client: Client) -> TaskHandle:
            return client.task(task_id, newer_than=newer_than)

        return SyncTask(self, self._call(handle))

    @overload
    def map(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        **options: Unpack[MapOptions],
    ) -> Iterator[Result]: ...
    @overload
    def map(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        type: type[T],
        **options: Unpack[MapOptions],
    ) -> Iterator[T]: ...
    @spelled_out(MapOptions)
    def map(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = 200,
        ordered: bool = False,
        type: type[T] | None = None,
        **options: Unpack[MapOptions],
    ) -> Iterator[Result] | Iterator[T]:
        """See Client.map. `items` is taken in the caller's thread, as results are taken."""
        self._thread.check()
        several(items, "tasks")
        if concurrency < 1:
            raise UsageError(f"concurrency is {concurrency}, should be 1 or more")
        results = self._map(
            items,
            concurrency,
            lambda taken: self.client.map(
                taken, concurrency=concurrency, ordered=ordered, **options
            ),
        )
        return results if type is None else _typed(results, type)

    def _map(
        self,
        items: Iterable[Item],
        concurrency: int,
        mapped: Callable[[AsyncGenerator[Item]], AsyncGenerator[Result]],
    ) -> Iterator[Result]:
        handed_over: asyncio.Queue[Item | _End] = asyncio.Queue()

        async def taken() -> AsyncGenerator[Item]:
            while not isinstance(item := await handed_over.get(), _End):
                yield item
            if item.error is not None:
                raise item.error

        stream = _Stream(self._thread, lambda: mapped(taken()))
        source = iter(items)
        under_way, more = 0, True
        try:
            while True:
                # One item, then one result: neither a slow source keeps results back, nor do many
                # results keep the tasks from being replaced.
                if more and under_way < concurrency:
                    try:
                        item: Item | _End = next(source)
                    except StopIteration:
                        item, more = _End(None), False
                    except Exception as error:
                        item, more = _End(error), False
                    under_way += more
                    self._thread.soon(handed_over.put_nowait, item)
                    if more and not stream.waiting:
                        continue
                result = stream.next()
                if isinstance(result, _End):
                    return
                under_way -= 1
                yield result
        finally:
            stream.close()

    @spelled_out(MapOptions)
    def gather(
        self,
        items: Iterable[Item],
        *,
        concurrency: int = 200,
        raise_on_failure: bool = False,
        **options: Unpack[MapOptions],
    ) -> _Results:
        """See Client.gather."""
        results = []
        for result in self.map(items, concurrency=concurrency, ordered=True, **options):
            if raise_on_failure and (failure := result.failure()) is not None:
                raise failure
            results.append(result)
        return results

    def as_completed(
        self, tasks: Iterable[SyncTask], *, timeout: float | None = None
    ) -> Iterator[Result]:
        """See Client.as_completed."""
        several(tasks, "tasks")
        handles = [task.handle for task in tasks]
        return self._iterator(lambda: self.client.as_completed(handles, timeout=timeout))


def _typed(results: Iterator[Result], kind: type[T]) -> Iterator[T]:
    for result in results:
        if (failure := result.failure()) is not None:
            raise failure
        yield result.value_as(kind)


class SyncTask:
    """`TaskHandle` without `await`. `handle` is the one in the thread."""

    __slots__ = ("_client", "handle")

    def __init__(self, client: SyncClient, handle: TaskHandle) -> None:
        self._client = client
        self.handle = handle

    def __repr__(self) -> str:
        return f"SyncTask({self.id!r})"

    @property
    def id(self) -> str:
        """The task's id."""
        return self.handle.id

    @overload
    def result(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> Result: ...

    @overload
    def result(self, timeout: float | None = None, *, type: type[T]) -> T: ...

    def result(self, timeout: float | None = None, **options: Any) -> Any:
        """See TaskHandle.result."""
        return self._client._thread.call(self.handle.result(timeout, **options))

    def cancel(self) -> Result:
        """See TaskHandle.cancel."""
        return self._client._thread.call(self.handle.cancel())

    def retry(self) -> SyncTask:
        """See TaskHandle.retry."""
        return self._client.retry(self.id)

    def watch(self) -> Iterator[Event]:
        """See TaskHandle.watch."""
        return self._client.watch(self.id, newer_than=self.handle.newer_than)


@functools.wraps(clients.connect)
def _connect(*arguments: Any, **named: Any) -> SyncClient:
    return SyncClient(clients.connect(*arguments, **named))


def _as_sync(_: Callable[P, Client]) -> Callable[P, SyncClient]:
    """The same arguments, the other client."""
    return _connect


connect = _as_sync(clients.connect)
