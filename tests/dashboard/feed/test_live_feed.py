"""The dashboard's feed: it waits for a server, keeps a recording, and imports no NATS itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentflow.config import Connect
from agentflow.dashboard.feed.live import LiveFeed
from agentflow.dashboard.feed.recorder import Recorder
from agentflow.dashboard.feed.replay import Replay
from agentflow.views import feed
from tests.support import masters
from tests.support.fold import Fold, stored_rows
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def running(source: LiveFeed, fold: Fold) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run(fold))
    try:
        yield
    finally:
        assert not task.done(), task.result()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_server_that_is_not_there_yet_is_waited_for(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentflow.dashboard.feed.live.RETRY", 0.05)
    fold = Fold()
    source = LiveFeed(Connect(urls=(nats_server.url,)))
    nats_server.kill()
    async with running(source, fold):
        await fold.until(lambda: fold.all(feed.Link))
        (link,) = fold.all(feed.Link)
        assert not link.up
        assert "cannot reach NATS" in link.detail
        assert link.url == nats_server.url
        assert source.client is None
        await asyncio.to_thread(nats_server.start)
        await fold.until(lambda: fold.all(feed.Link)[-1].up)
        assert source.client is not None
        await source.client.submit("x", id="t1")  # acts have the client
    assert source.client is None


async def test_tokens_asked_for_before_the_connection_are_heard_after_it(
    nats_server: NatsServer,
) -> None:
    fold = Fold()
    source = LiveFeed(Connect(urls=(nats_server.url,)))
    source.follow_tokens(["t1"])
    observer = await Observer.open(nats_server.url)
    async with running(source, fold):
        await fold.until(lambda: source.client)
        assert source.client is not None
        await source.client.connection.flush()
        observer.connection.publish("agentflow.tokens.t1", b"hello")
        await fold.until(lambda: fold.all(feed.Tokens))
    await observer.close()


async def test_a_recording_folds_to_what_was_shown(nats_server: NatsServer, tmp_path: Path) -> None:
    observer = await Observer.open(nats_server.url)
    await masters.fill(observer.js, 300)
    fold = Fold()
    with Recorder(tmp_path / "r") as recorder:
        source = LiveFeed(Connect(urls=(nats_server.url,)), recorder=recorder)
        async with running(source, fold):
            await fold.states(succeeded=300)
            await masters.fill(observer.js, 300, "more")
            await fold.states(succeeded=600)
    assert fold.rows == await stored_rows(observer.js)
    await observer.close()
    again = Fold()
    with Replay(tmp_path / "r", again.rows.clear, speed=1_000) as replay:
        task = asyncio.create_task(replay.run(again))
        await again.until(lambda: len(again.items) == len(fold.items))
        task.cancel()
    assert again.items == fold.items
    assert again.rows == fold.rows
