"""Which feed the person asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from agentflow.dashboard.feed.source import Source
from agentflow_tui.settings import Settings


@contextmanager
def opened(settings: Settings, forget: Callable[[], None]) -> Iterator[Source]:
    """The recording or the live bus; `forget` empties what was folded. Raises UsageError.

    Either is imported only where it is wanted.
    """
    with ExitStack() as stack:
        if settings.replay is not None:
            from agentflow.dashboard.feed.replay import Replay

            yield stack.enter_context(Replay(settings.replay, forget, speed=settings.speed))
            return
        from agentflow.dashboard.feed.live import LiveFeed
        from agentflow.dashboard.feed.recorder import Recorder

        recorder = None
        if settings.record is not None:
            recorder = stack.enter_context(Recorder(settings.record))
        yield LiveFeed(settings.connect, newest=settings.newest, recorder=recorder)
