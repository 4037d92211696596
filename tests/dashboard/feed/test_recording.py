"""A recording gives back what was recorded: at its pace, at another, from any time."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agentflow.dashboard.feed import recorder as recorders
from agentflow.dashboard.feed.recorder import Header, Recorder
from agentflow.dashboard.feed.replay import Replay
from agentflow.errors import UsageError
from agentflow.views import feed
from agentflow.views.row import Row
from tests.support.until import until

pytestmark = pytest.mark.timeout(30)

START = 1_790_000_000.0


def row(number: int) -> Row:
    return Row(
        id=f"t{number}",
        sequence=number + 1,
        state="succeeded",
        queue="default",
        updated=number,
        labels=',"team":"grün"',
        error="line\nbreak",
    )


def items(count: int, *, every: float = 1.0) -> list[feed.Item]:
    """A link, then rows, `every` seconds apart."""
    rows = [
        feed.Rows(at=START + (number + 1) * every, rows=[row(number)], live=True)
        for number in range(count)
    ]
    return [feed.Link(at=START, up=True, url="nats://x"), *rows]


def written(path: Path, told: list[feed.Item], *, head: bytes | None = None) -> Path:
    """A recording as a file, without the recorder."""
    start = Header(agentflow_feed=1, version="0", started=START)
    lines = [msgspec.json.encode(start) if head is None else head, *map(feed.encode, told)]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


class Played:
    """What a replay told since it was last told to forget."""

    def __init__(self, path: Path, speed: float = 1.0) -> None:
        self.items: list[feed.Item] = []
        self.forgotten = 0
        self.changed = asyncio.Event()
        self.replay = Replay(path, self._forget, speed=speed)

    def _forget(self) -> None:
        self.forgotten += 1
        self.items.clear()

    def take(self, item: feed.Item) -> None:
        self.items.append(item)
        self.changed.set()

    async def until(self, check: Callable[[], object]) -> None:
        while not check():
            self.changed.clear()
            await self.changed.wait()

    async def __aenter__(self) -> "Played":
        self.replay.__enter__()
        self._task = asyncio.create_task(self.replay.run(self.take))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
        self.replay.__exit__()


async def test_what_was_recorded_comes_back_as_it_was(tmp_path: Path) -> None:
    told = items(300, every=0.001)
    path = tmp_path / "r.jsonl"
    with Recorder(path) as recorder:
        for item in told:
            recorder.take(item)
        assert recorder.told() is None
    assert path.stat().st_mode & 0o777 == 0o600
    head = msgspec.json.decode(path.read_bytes().splitlines()[0], type=Header)
    assert abs(head.started - time.time()) < 60
    async with Played(path, speed=1000) as played:
        await played.until(lambda: len(played.items) == len(told))
        assert played.items == told
        assert played.replay.last == told[-1].at


async def test_a_recording_is_on_disk_after_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "FLUSH_EVERY", 0.01)
    path = tmp_path / "r.jsonl"
    with Recorder(path) as recorder:
        recorder.take(items(1)[0])
        await until(lambda: len(path.read_bytes().splitlines()) == 2)


async def test_a_recording_ends_at_its_greatest_size_and_the_feed_does_not(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with Recorder(path, most=2_000) as recorder:
        for item in items(100):
            recorder.take(item)
        recorder._write()
        problem = recorder.told()
        assert problem is not None
        assert "greatest size" in problem
        assert recorder.told() is None
        recorder.take(items(1)[0])
    assert path.stat().st_size < 2_000


async def test_a_full_disk_ends_the_recording_only() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    recorder = Recorder(full)
    recorder._file = full.open("wb", buffering=0)
    recorder.take(items(1)[0])
    recorder._write()
    problem = recorder.told()
    assert problem is not None
    assert "No space left" in problem


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_text("mine")
    with pytest.raises(UsageError, match="there is a file"):
        Recorder(path).__enter__()
    assert path.read_text() == "mine"
    with pytest.raises(UsageError, match="cannot record"):
        Recorder(tmp_path / "no" / "such").__enter__()


@pytest.mark.parametrize("head", [b"", b"{}", b"hello", b"\xff\xfe", b'{"agentflow_feed":"x"}'])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, head: bytes) -> None:
    path = written(tmp_path / "r", items(1), head=head)
    with pytest.raises(UsageError, match="not a recording"):
        Replay(path, lambda: None).__enter__()


def test_a_recording_of_a_later_format_is_refused(tmp_path: Path) -> None:
    head = msgspec.json.encode(Header(agentflow_feed=2, version="9.0", started=START))
    path = written(tmp_path / "r", items(1), head=head)
    with pytest.raises(UsageError, match=r"AgentFlow 9\.0"):
        Replay(path, lambda: None).__enter__()
    with pytest.raises(UsageError, match="cannot replay"):
        Replay(tmp_path / "absent", lambda: None).__enter__()


async def test_bad_lines_are_left_out_and_told(tmp_path: Path) -> None:
    told = items(3, every=0.001)
    path = written(tmp_path / "r", told)
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(2, b'{"type":"of a later version","at":1}\n')
    lines.insert(4, b"\xff\xfe not json\n")
    path.write_bytes(b"".join(lines) + b'{"type":"rows","at":17')
    async with Played(path, speed=1000) as played:
        await until(lambda: played.replay.ended)
        kept = [item for item in played.items if not isinstance(item, feed.Note)]
        notes = [item.text for item in played.items if isinstance(item, feed.Note)]
        assert kept == told
        assert notes == ["line 3 cannot be read: left out"]


async def test_it_can_be_sought_back_and_forth_while_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path / "r", items(1_000))
    async with Played(path) as played:
        replay = played.replay
        replay.pause()
        for seconds in (500, 900, 20, 0, 1_000):
            replay.seek(START + seconds)
            await played.until(lambda seconds=seconds: len(played.items) == seconds + 1)
            assert replay.now == START + seconds
        assert played.forgotten == 2
        replay.seek(START + 5_000)
        replay.seek(START - 5_000)
        await played.until(lambda: len(played.items) == 1)
        assert replay.now == START


async def test_it_plays_at_its_pace(tmp_path: Path) -> None:
    """What comes is compared with the replay's own clock, never with the machine's."""
    path = written(tmp_path / "r", items(2_000, every=0.01))
    async with Played(path, speed=20) as played:
        replay = played.replay
        early = []

        def take(item: feed.Item) -> None:
            if item.at > replay.now + 1e-6:
                early.append(item)

        await played.until(lambda: len(played.items) > 500)
        for item in played.items:
            take(item)
        assert not early
        replay.pause()
        stands = replay.now
        shown = len(played.items)
        replay.set_speed(1_000)
        assert abs(replay.now - stands) < 1e-6
        replay.pause(False)
        await played.until(lambda: len(played.items) == 2_001)
        assert shown < 2_001
        await asyncio.sleep(0)
        with pytest.raises(UsageError):
            replay.set_speed(0)


async def test_the_end_may_be_left_by_a_seek(tmp_path: Path) -> None:
    path = written(tmp_path / "r", items(10, every=0.001))
    async with Played(path, speed=1_000) as played:
        await played.until(lambda: len(played.items) == 11)
        await until(lambda: played.replay.ended)
        played.replay.pause()
        played.replay.seek(START)
        await played.until(lambda: len(played.items) == 1)
        assert not played.replay.ended
