"""The store: whatever comes in whatever order, however often, the picture is the same."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.dashboard.store.store import Store
from agentflow.dashboard.store.totals import Totals
from agentflow.protocol.record import Usage
from agentflow.views import feed
from agentflow.views.row import Row, encode_labels
from tests.dashboard.support.scenery import NOW, Scenery

STATES = ("queued", "running", "scheduled", "retrying", "succeeded", "failed", "cancelled")
BASE = 1_790_000_000_000


@st.composite
def rows(draw: st.DrawFn) -> Row:
    sequence = draw(st.integers(0, 60))
    state = draw(st.sampled_from(STATES)) if sequence else "queued"
    updated = BASE + 1_000 * sequence + 7
    number = draw(st.integers(0, 5))
    # A sequence belongs to one record, so all else follows from it.
    number, state = (number, state) if not sequence else (sequence % 6, STATES[sequence % 7])
    started = None if state in ("queued", "scheduled") else updated - 40 * sequence
    return Row(
        id=f"t-{number}",
        sequence=sequence,
        state=state,
        queue=("default", "review")[sequence % 2],
        updated=updated if sequence else BASE,
        kind="claude",
        model=(None, "claude-opus-4-5")[sequence % 2],
        labels=encode_labels({"team": "core"}) if sequence % 3 else "",
        attempt=sequence % 4,
        actor=f"w-{sequence % 3}",
        submitted=BASE - 5_000 if sequence % 5 else None,
        started=started,
        ended=updated if state in ("succeeded", "failed") else None,
        usage=Usage(sequence, 2 * sequence, 0, sequence),
        cost=None if sequence % 11 == 3 else 100 * sequence,
        message="" if sequence else f"{number + 1}-17",
        error="E: x" if state in ("failed", "retrying") else None,
        fingerprint=f"f{sequence % 2}" if state in ("failed", "retrying") else "",
    )


def plain(value: Any) -> Any:
    """A sum as data that can be compared: what is empty is not there."""
    if isinstance(value, dict):
        found = {key: plain(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each not in ({}, 0)}
    if isinstance(value, Totals) or type(value).__name__ == "Durations":
        return {
            name: plain(each)
            for name, each in vars(value).items()
            if name not in ("_hours", "_stale")
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return value


def fold(batches: list[list[Row]]) -> Store:
    store = Store()
    for batch in batches:
        store.apply(feed.Rows(at=NOW, rows=batch))
    return store


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_order_and_repetition_of_rows_makes_the_same_picture(data: st.DataObject) -> None:
    found = data.draw(st.lists(rows(), max_size=30))
    again = data.draw(
        st.permutations(found + data.draw(st.lists(st.sampled_from(found))) if found else [])
    )
    cut = data.draw(st.integers(0, len(again)))
    first, second = fold([found]), fold([again[:cut], again[cut:]])
    assert first.rows == second.rows
    assert plain(first.totals) == plain(second.totals)


@given(st.lists(rows(), max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_sums_are_those_of_the_rows_that_are_there(found: list[Row]) -> None:
    store = fold([found])
    anew = Totals()
    for row in store.rows.values():
        anew.add(row, store.wasted(row.id))
    assert plain(store.totals) == plain(anew)
    store.totals.spent()  # fills the sums of hours
    whole = store.totals.spent()
    assert whole.cost == sum(row.cost or 0 for row in store.rows.values())
    assert whole.cost == sum(store.totals.costs.values())
    for row in store.rows.values():
        store.totals.remove(row, store.wasted(row.id))
    assert plain(store.totals) == plain(Totals())


@given(st.permutations(range(12)))
@settings(max_examples=60, deadline=None)
def test_those_that_ended_first_are_forgotten_first_in_whatever_order_they_came(
    order: list[int],
) -> None:
    ended = [
        Row(id=f"t-{at}", sequence=at + 1, state="succeeded", queue="q", updated=BASE + at)
        for at in range(12)
    ]
    store = Store(limit=5)
    for at in order:
        store.apply(feed.Rows(at=NOW, rows=[ended[at]]))
    assert set(store.rows) == {f"t-{at}" for at in range(7, 12)}
    # They stay counted: a sum that shrinks when a row leaves would be false.
    assert store.totals.state("succeeded") == 12
    assert store.known.evicted == 7
    store.apply(feed.Anew(at=NOW, stream="AGENTFLOW_RECORDS"))
    assert plain(store.totals) == plain(Totals())


def test_a_task_that_was_let_go_while_reading_is_not_brought_back_by_an_older_record() -> None:
    store = Store(limit=1)
    store.apply(feed.Loading(at=NOW, done=1, total=9))
    ended = [
        Row(id=f"t-{at}", sequence=at + 9, state="succeeded", queue="q", updated=BASE + at, cost=5)
        for at in range(3)
    ]
    store.apply(feed.Rows(at=NOW, rows=ended))
    older = Row(id="t-0", sequence=1, state="running", queue="q", updated=BASE - 9)
    store.apply(feed.Rows(at=NOW, rows=[older]))
    assert set(store.rows) == {"t-2"}
    assert store.totals.state("running") == 0
    assert store.totals.spent().cost == 15


def test_a_sum_is_whole_only_where_all_was_read_that_belongs_to_it() -> None:
    store = Store()
    store.apply(feed.Loading(at=NOW, done=1, total=9))
    assert not store.whole()
    row = Row(id="t", sequence=9, state="succeeded", queue="q", updated=BASE, cost=5)
    store.apply(feed.Rows(at=NOW, rows=[row]))
    store.apply(feed.Loading(at=NOW, done=9, total=9, older=4))
    assert not store.whole()
    assert not store.whole(BASE - 1)
    assert store.whole(BASE)
    store.apply(feed.Loading(at=NOW, done=9, total=9))
    assert store.whole()


def test_a_failed_attempt_is_wasted_though_its_task_succeeds() -> None:
    retrying = Row(
        id="t", sequence=4, state="retrying", queue="q", updated=BASE, cost=300, failures=1
    )
    done = Row(id="t", sequence=9, state="succeeded", queue="q", updated=BASE + 900, cost=500)
    for order in ([retrying, done], [done, retrying]):
        store = fold([[row] for row in order])
        assert store.totals.spent().cost == 500
        assert store.totals.spent().wasted == 300


def test_a_task_message_makes_no_row_where_there_is_a_record_and_goes_when_it_is_done_with() -> (
    None
):
    unseen = Row(id="a", sequence=0, state="queued", queue="q", updated=BASE, message="7-17")
    seen = Row(id="b", sequence=0, state="queued", queue="q", updated=BASE, message="8-17")
    record = Row(id="b", sequence=3, state="running", queue="q", updated=BASE)
    store = fold([[record], [unseen, seen]])
    assert store.rows["b"].state == "running"
    store.apply(feed.Depths(at=NOW, queues=[], first=8))
    assert set(store.rows) == {"b"}


def test_a_stream_made_anew_takes_its_rows_with_it() -> None:
    unseen = Row(id="a", sequence=0, state="queued", queue="q", updated=BASE, message="7-17")
    record = Row(id="b", sequence=3, state="failed", queue="q", updated=BASE, cost=5)
    store = fold([[unseen, record]])
    store.apply(feed.Anew(at=NOW, stream="AGENTFLOW_RECORDS"))
    assert set(store.rows) == {"a"}
    assert store.totals.spent().cost == 0
    store.apply(feed.Anew(at=NOW, stream="AGENTFLOW_TASKS"))
    assert not store.rows
    assert plain(store.totals) == plain(Totals())


def test_what_changed_is_told_to_whoever_watches_and_to_nobody_else() -> None:
    store = Store()
    changed = store.watch()
    store.apply(
        feed.Rows(at=NOW, rows=[Row(id="a", sequence=1, state="running", queue="q", updated=1)])
    )
    assert changed == {"a"}
    changed.clear()
    store.unwatch(changed)
    store.apply(
        feed.Rows(at=NOW, rows=[Row(id="b", sequence=2, state="running", queue="q", updated=1)])
    )
    assert changed == set()


def test_a_copy_no_longer_changes() -> None:
    scenery = Scenery(finished=50)
    store = Store()
    for item in scenery.items():
        store.apply(item)
    copy = store.copy()
    before = (len(copy.rows), plain(copy.totals), {name: a.at for name, a in copy.actors.items()})
    store.apply(feed.Anew(at=NOW, stream="AGENTFLOW_RECORDS"))
    store.apply(feed.Beat(at=NOW + 60, beat=scenery.beat(0, NOW + 60)))
    after = (len(copy.rows), plain(copy.totals), {name: a.at for name, a in copy.actors.items()})
    assert before == after


def test_a_worker_is_lost_when_it_is_silent_and_back_when_it_speaks() -> None:
    scenery = Scenery(finished=1)
    store = Store()
    store.apply(feed.Beat(at=NOW, beat=scenery.beat(0, NOW)))
    actor = store.workers()[0]
    assert not actor.lost(NOW + 4)
    assert actor.lost(NOW + 6)
    for at in range(0, 20, 2):
        store.apply(feed.Depths(at=NOW + at, queues=[]))
    store.apply(feed.Beat(at=NOW + 20, beat=scenery.beat(0, NOW + 20)))
    assert not actor.lost(NOW + 21)
    assert [event.text for event in store.events][-1] == "worker is back"


def test_an_older_heartbeat_does_not_undo_a_newer_one() -> None:
    scenery = Scenery(finished=1)
    store = Store()
    newer, older = scenery.beat(0, NOW), scenery.beat(0, NOW - 60)
    store.apply(feed.Beat(at=NOW, beat=newer))
    store.apply(feed.Beat(at=NOW - 60, beat=older))
    assert store.workers()[0].beat is newer


def test_after_a_reconnection_nobody_is_lost_for_what_could_not_be_heard() -> None:
    scenery = Scenery(finished=1)
    store = Store()
    store.apply(feed.Link(at=NOW, up=True))
    store.apply(feed.Beat(at=NOW, beat=scenery.beat(0, NOW)))
    store.apply(feed.Link(at=NOW + 5, up=False, detail="gone"))
    store.apply(feed.Link(at=NOW + 60, up=True))
    assert not store.workers()[0].lost(NOW + 61)


def test_only_what_the_server_sent_is_news() -> None:
    store = Store()
    store.apply(feed.Link(at=NOW, up=True, url="nats://x"))
    store.apply(feed.Depths(at=NOW + 2, queues=[]))
    assert store.heard == NOW + 2
    store.apply(feed.Note(at=NOW + 9, part="tasks", text="no answer within 5 s"))
    store.apply(feed.Loading(at=NOW + 10, done=3, total=4))
    store.apply(feed.Gates(at=NOW + 11, gates=[]))  # one that ended by our own clock
    store.apply(feed.Link(at=NOW + 12, up=False, detail="stale"))
    assert store.heard == NOW + 2
    store.apply(feed.Link(at=NOW + 30, up=True, url="nats://x"))
    assert store.heard == NOW + 30


def test_nobody_is_lost_while_the_server_is_silent_and_all_may_speak_when_it_is_back() -> None:
    store = Store()
    store.apply(feed.Link(at=NOW - 60, up=True, url="nats://x"))
    store.apply(feed.Beat(at=NOW, beat=Scenery(finished=1).beat(0, NOW)))
    store.apply(feed.Depths(at=NOW + 1, queues=[]))
    (worker,) = store.workers()
    store.apply(feed.Note(at=NOW + 20, part="tasks", text="no answer within 5 s"))
    assert worker.lost(NOW + 26)
    assert not worker.lost(store.heard_by(NOW + 26))
    store.apply(feed.Depths(at=NOW + 27, queues=[]))
    assert not worker.lost(store.heard_by(NOW + 27))
    for at in range(28, 36):
        store.apply(feed.Depths(at=NOW + at, queues=[]))
    assert worker.lost(store.heard_by(NOW + 35)), "this silence is its own"


def test_the_rate_of_a_task_is_what_two_heartbeats_differ_by() -> None:
    scenery = Scenery(finished=1)
    store = Store()
    for at in (NOW - 10, NOW):
        store.apply(feed.Beat(at=at, beat=scenery.beat(2, at)))
    actor = store.workers()[0]
    rates = [flow.rate for flow in actor.flows.values()]
    assert rates
    assert all(19 <= rate <= 111 for rate in rates)


def test_a_worker_that_fell_silent_has_no_load_meanwhile() -> None:
    scenery = Scenery(finished=1)
    store = Store()
    store.apply(feed.Beat(at=NOW - 60, beat=scenery.beat(2, NOW)))
    store.apply(feed.Beat(at=NOW, beat=scenery.beat(2, NOW)))
    assert list(store.workers()[0].loads) == [75, 0, 0, 0, 75]
