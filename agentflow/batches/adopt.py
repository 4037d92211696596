"""What became of a create whose answer nobody heard: the list of batches tells, in the end.

A batch that has ended names the create of each of its requests. So a row that is sent is adopted by
the batch that names it, and called not done only when the list, read after the API had its time to
show it, has nobody else to be it. What was read of a batch is remembered for as long as this
process lives: a batch is whose it is.
"""

from __future__ import annotations

import logging
from contextlib import aclosing

from agentflow.batches import money
from agentflow.batches.place import Place
from agentflow.batches.settle import give_up_all
from agentflow.errors import AgentFlowError
from agentflow.handlers.batching import Gone, Unreached
from agentflow.protocol import batches
from agentflow.protocol.batches import Row, Table, Tried
from agentflow.rules import batches as rules
from agentflow.rules.batches import Listed, Says

_log = logging.getLogger(__name__)


async def _read(place: Place, batch: Listed) -> None:
    """Read whose a batch is that has ended, where that can be read now."""
    if batch.id in place.whose or not batch.ended:
        return
    try:
        async with aclosing(place.api.results(batch.id)) as results:
            answer = await anext(results, None)
    except (Gone, Unreached) as error:
        _log.info("batch %s cannot be read yet: %s", batch.id, error)
        return
    if answer is not None:
        ours = batches.parse_custom_id(answer.custom_id)
        place.whose[batch.id] = ours[0] if ours else ""


async def _found(place: Place, table: Table, tried: Tried) -> tuple[str, list[Listed]]:
    """The workspace, and the batches that may be a create's, read where they have ended."""
    listing = await place.api.listed(tried.since)
    listed = [Listed(batch.id, batch.count, batch.ended) for batch in listing.batches]
    found = rules.candidates(table, tried.count, listed)
    for batch in found:
        await _read(place, batch)
    return listing.workspace, found


async def resolve(place: Place, row: Row) -> None:
    """Find out about a row that is sent. Raises BusError, Unreached."""
    assert row.since is not None
    # Before the list is asked for: what it lacks must have had its time by then.
    waited = place.seen_sent(row.nonce) >= place.pace.settle
    table = place.table
    workspace, found = await _found(place, table, Tried(row.nonce, row.count, row.since))
    if workspace != row.workspace:
        _log.warning("%s was sent in another workspace than this credential's", row.nonce)
        return
    word, now, new = rules.judge(row, found, place.whose, waited=waited), place.now(), place.nonce()
    match word.says:
        case Says.MADE:
            batch = word.batches[0]
            await place.change(lambda table: rules.made(table, row.nonce, batch, now))
            _log.info("batch %s: its answer was lost, and it is %s", row.nonce, batch)
        case Says.REMEMBER:
            await place.change(lambda table: rules.saw(table, row.nonce, word.batches))
        case Says.NOT_MADE:
            seen = row.seen
            await place.change(
                lambda table: rules.reopen(table, row.nonce, new, now, late=True, seen=seen)
            )
            _log.warning("batch %s was not created, and is created again", row.nonce)
        case Says.VANISHED:
            await _vanished(place, row, word.batches)
        case Says.WAIT:
            return


async def _vanished(place: Place, row: Row, gone: tuple[str, ...]) -> None:
    """What may have been this create is gone: after a day its tasks fail, and a person decides."""
    if place.missing_for(f"{row.nonce} {gone[0]}") < place.pace.gone:
        return
    text = (
        f"its batch may have been {', '.join(gone)}, which is deleted; it may be paid, so it is not"
        " asked again: retry it if that is what you want"
    )
    await give_up_all(place, row, "batch_unknown", text)


async def recognize(place: Place, row: Row) -> bool:
    """Look once more for creates that a row was given up for; whether one is done after all."""
    for tried in row.tried:
        _, found = await _found(place, place.table, tried)
        for batch in found:
            if place.whose.get(batch.id) != tried.nonce:
                continue
            name, now = batch.id, place.now()
            after = await place.change(
                lambda table, old=tried.nonce, name=name, now=now: rules.recognized(  # type: ignore[misc]
                    table, row.nonce, old, name, now
                )
            )
            if after is not None:
                _log.warning("batch %s was created late: it is %s", tried.nonce, name)
                return True
    return False


async def audit(place: Place) -> None:
    """Find creates that were given up and are done all the same: they are paid twice."""
    found: dict[str, str] = {}
    table = place.table
    for tried in table.late:
        try:
            _, batch_list = await _found(place, table, tried)
        except AgentFlowError as error:
            _log.info("batches cannot be audited: %s", error)
            return
        for batch in batch_list:
            if place.whose.get(batch.id) == tried.nonce:
                found[tried.nonce] = batch.id
    now = place.now()
    if found:
        _log.error("batches were created late and are paid twice: %s", ", ".join(found.values()))
        await money.release(place, found, spent=True)
    await place.change(lambda table: rules.audited(table, found, now))
