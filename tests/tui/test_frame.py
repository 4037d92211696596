"""The clock: how often a frame is drawn, and that none is where nothing changed."""

import asyncio

from agentflow_tui.frame import FAST, SLOW, Clock, FrameRate, fastest


def test_ssh_gets_fewer_frames():
    assert fastest({}) == FAST
    assert fastest({"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}) == SLOW


def test_a_terminal_that_nobody_looks_at_gets_fewer_frames():
    rate = FrameRate(FAST)
    assert rate.wait() == 1 / FAST
    rate.watched = False
    assert rate.wait() == 1 / SLOW


def test_a_frame_that_costs_much_is_drawn_less_often():
    rate = FrameRate(FAST)
    for _ in range(50):
        rate.drawn(0.2)
    assert abs(rate.wait() - 0.4) < 0.01
    for _ in range(50):
        rate.drawn(0.001)
    assert rate.wait() == 1 / FAST


def test_one_slow_frame_among_quick_ones_changes_nothing():
    rate = FrameRate(FAST)
    for _ in range(10):
        rate.drawn(0.005)
    rate.drawn(0.1)
    assert rate.wait() == 1 / FAST


async def test_nothing_is_drawn_where_nothing_changed():
    asked, drawn = asyncio.Event(), []
    dirty = [True, False, False, True, False]

    def is_dirty() -> bool:
        if not dirty:
            asked.set()
            return False
        return dirty.pop(0)

    clock = Clock(FrameRate(1000), dirty=is_dirty, draw=lambda: drawn.append(1))
    task = asyncio.create_task(clock.run())
    async with asyncio.timeout(10):
        await asked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(drawn) == 2
    assert clock.rate.frames == 2


async def test_the_feed_ends_a_calm_but_does_not_set_the_pace():
    drawn, dirty = [], [True]
    looked = asyncio.Event()

    def is_dirty() -> bool:
        looked.set()
        return dirty.pop() if dirty else False

    # A frame an hour.
    clock = Clock(FrameRate(1 / 3600), dirty=is_dirty, draw=lambda: drawn.append(1))
    task = asyncio.create_task(clock.run())
    async with asyncio.timeout(10):
        await looked.wait()
        looked.clear()
        dirty.append(True)
        for _ in range(1000):
            clock.stir()
            await asyncio.sleep(0)
        assert not looked.is_set()
        assert len(drawn) == 1
        clock.hurry()
        await looked.wait()
        looked.clear()
        assert len(drawn) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_key_does_not_wait_for_the_tick():
    drawn = asyncio.Event()
    dirty = [False]
    # A tick an hour: what is drawn before is drawn for the key.
    clock = Clock(
        FrameRate(1 / 3600), dirty=lambda: dirty.pop() if dirty else False, draw=drawn.set
    )
    task = asyncio.create_task(clock.run())
    await asyncio.sleep(0)
    dirty.append(True)
    while dirty:
        clock.hurry()
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await drawn.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
