"""Exhaustive model of the batch lane: two tasks, one place, any number of batchers, the API.

What may follow what in the table, and what a list of batches says, are the real rules
(agentflow/rules/batches.py)
the rest is the world around them. A process that never steps again
was killed, so a kill at any point is in every search. A step is one compare-and-set on the facts it
names. The API accepts a create some time after its last byte, shows it in the list later still,
runs it (paid) or lets it expire (not paid).

In every state: no task is paid twice
nothing follows a final record
an answer is written at most
once
and a recovery without faults (deliveries, schedules, fresh batchers) ends both tasks, each
paid once unless it was cancelled or given up.
"""

from __future__ import annotations

import collections
import gc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from agentflow.protocol.batches import Row, RowState, Table
from agentflow.protocol.record import State as RecordState
from agentflow.rules import batches as rules
from agentflow.rules.lifecycle import may_follow

State = tuple[Any, ...]
AT = datetime(2026, 1, 1, tzinfo=UTC)
W, R, OK, CAN, FAIL = (
    str(state)
    for state in (
        RecordState.WAITING,
        RecordState.RETRYING,
        RecordState.SUCCEEDED,
        RecordState.CANCELLED,
        RecordState.FAILED,
    )
)
FINAL = (OK, CAN, FAIL)


class Violation(Exception):
    """A property does not hold."""


# task: (seq, state, message, follows, messages{(m, follows)}, next message, schedules{s}, paid)
def fresh() -> Any:
    return (0, None, 0, 0, frozenset({(1, 0)}), 2, frozenset(), 0)


class Model:
    def __init__(
        self,
        flags: Any = (),
        tasks: int = 2,
        parked: Any = (),
        stranger: int = 0,
        **b: int,
    ) -> None:
        self.F = frozenset(flags)
        self.n = tasks
        self.parked, self.stranger = parked, stranger
        names = (
            "deliver",
            "reserve",
            "build",
            "resolve",
            "collect",
            "cancel",
            "expire",
            "refuse",
            "lose",
            "sched",
            "split",
            "stale",
            "cut",
            "delete",
            "poor",
        )
        self.names = names
        self.b0 = tuple(b.get(x, 0) for x in names)

    # state: tasks, spool{(q,t,s)}, nq, table, api, inflight, nonce counter, procs, budget
    # api: (bid, nonce, ((q,t,s)..), visible, results|None)
    def initial(self) -> Any:
        ts = [fresh() for _ in range(self.n)]
        spool, nq = set(), 1
        for t in self.parked:
            ts[t] = (1, W, 1, 0, frozenset(), 2, frozenset(), 0)
            spool.add((nq, t, 1))
            nq += 1
        api: tuple[Any, ...] = ()
        if self.stranger:  # somebody else's batch, as large as ours will be, in the same workspace
            api = (("99", "x", ((0, -1, 0),) * self.stranger, True, ("ok",) * self.stranger),)
        return (tuple(ts), frozenset(spool), nq, Table(), api, frozenset(), 1, (), self.b0)

    # ---- facts
    def waited(self, st: State, nonce: str) -> bool:
        """Whether the API has shown by now what it will ever show of a create: the wait `X`."""
        _, _, _, _, api, fl, _, procs, _ = st
        F = self.F
        if "no_wait" in F:
            return True
        late = any(x[1] == nonce and x[3] is False for x in api)
        flying = any(x[0] == nonce for x in fl)
        paused = any(p[0] == "send" and p[1] == nonce for p in procs)
        return not (
            (late and "X_ignores_lag" not in F)
            or (flying and "X_ignores_inflight" not in F)
            or (paused and "X_ignores_paused_sender" not in F)
        )

    def _resolve(self, st: State, p: Any, S: Any, to: Any) -> Iterator[tuple[str, State]]:
        _, spool, _, tab, api, _, _, _procs, _ = st
        _, nonce, row = p
        rest = to()[:-1]
        listed = [rules.Listed(x[0], len(x[2]), bool(x[4])) for x in api if x[3]]
        whose = {x[0]: x[1] if x[1] != "x" else "" for x in api if x[3] and x[4]}
        found = rules.candidates(tab, row.count, listed)
        if "adopt_by_count" in self.F and found:
            yield (
                f"resolve {nonce}: adopts {found[0].id}",
                S(procs=to("made", nonce, found[0].id, ())),
            )
            return
        if "forgets_seen" in self.F:
            row = replace(row, seen=())
        word = rules.judge(row, found, whose, waited=self.waited(st, nonce))
        match word.says:
            case rules.Says.MADE:
                name = word.batches[0]
                yield f"resolve {nonce}: it is {name}", S(procs=to("made", nonce, name, ()))
            case rules.Says.REMEMBER:
                after = rules.saw(tab, nonce, word.batches) or tab
                yield f"resolve {nonce}: sees what may be it", S(tab=after, procs=rest)
            case rules.Says.NOT_MADE:
                seen = (
                    tab.row(nonce).seen if "forgets_seen" in self.F and tab.row(nonce) else row.seen
                )
                yield f"resolve {nonce}: not created", S(procs=to("giveup", nonce, seen))
            case rules.Says.VANISHED:
                there = tuple(sorted(e for e in spool if row.first <= e[0] <= row.last))
                begun = to("gone", nonce, RowState.SENT, there)
                yield f"resolve {nonce}: what it saw is gone", S(procs=begun)
            case rules.Says.WAIT:
                yield f"resolve {nonce}: waits", S(procs=rest)

    def write(
        self, ts: Any, t: Any, exp: Any, state: Any, m: Any = None, fenced: Any = True
    ) -> Any:
        """A fenced record of task t; None where the server refuses it."""
        seq, s0, m0, _f0, msgs, nm, sched, paid = ts[t]
        if seq != exp and fenced:
            return None
        if s0 in (OK, CAN):
            raise Violation(f"task {t}: {state} after {s0}")
        if not may_follow(s0, state) or s0 == FAIL:
            raise Violation(f"task {t}: {state} may not follow {s0}")
        return (
            *ts[:t],
            (seq + 1, state, m0 if m is None else m, exp, msgs, nm, sched, paid),
            *ts[t + 1 :],
        )

    def put(self, ts: Any, t: Any, **kw: Any) -> Any:
        names = ("seq", "st", "m", "f", "msgs", "nm", "sched", "paid")
        x = list(ts[t])
        for k, v in kw.items():
            x[names.index(k)] = v
        return (*ts[:t], tuple(x), *ts[t + 1 :])

    def add_spool(self, spool: Any, nq: Any, t: Any, s: Any) -> Any:
        if "spool_twice" not in self.F and any(e[1] == t and e[2] == s for e in spool):
            return spool, nq  # expected-last-subject-sequence 0: it is there
        return spool | {(nq, t, s)}, nq + 1

    # ---- steps
    def steps(self, st: Any) -> Iterator[tuple[str, Any]]:
        ts, spool, nq, tab, api, fl, nn, procs, b = st
        F = self.F
        B = {n: i for i, n in enumerate(self.names)}

        def use(n: str) -> tuple[int, ...]:
            return tuple(v - (i == B[n]) for i, v in enumerate(b))

        def S(**k: Any) -> State:
            d = {
                "ts": ts, "spool": spool, "nq": nq, "tab": tab, "api": api, "fl": fl, "nn": nn,
                "procs": procs, "b": b, **k,
            }  # fmt: skip
            d["procs"] = tuple(sorted(d["procs"], key=repr))
            return tuple(d.values())

        def row_only(first: int, last: int) -> Table:
            row = Row(nonce=str(nn), first=first, last=last, at=AT)
            table: Table = replace(tab, rows=(*tab.rows, row))
            return table

        # environment
        if b[B["deliver"]]:
            for t in range(self.n):
                for m, f in ts[t][4]:
                    yield (
                        f"deliver m{m} of {t}",
                        S(procs=(*procs, ("read", t, m, f, 0)), b=use("deliver")),
                    )
        if b[B["sched"]]:
            for t in range(self.n):
                for s in ts[t][6]:
                    yield (
                        f"schedule {s} of {t} fires",
                        S(
                            ts=self.put(
                                ts,
                                t,
                                msgs=ts[t][4] | {(ts[t][5], s)},
                                nm=ts[t][5] + 1,
                                sched=ts[t][6] - {s},
                            ),
                            b=use("sched"),
                        ),
                    )
        if b[B["cancel"]]:
            for t in range(self.n):
                if ts[t][1] not in FINAL:
                    yield f"cancel {t}", S(ts=self.write(ts, t, ts[t][0], CAN), b=use("cancel"))
        for x in fl:
            nonce, mem = x
            yield (
                f"API accepts {nonce}",
                S(fl=fl - {x}, api=(*api, (nonce, nonce, mem, False, None))),
            )
            if b[B["lose"]]:
                yield f"create {nonce} never arrives", S(fl=fl - {x}, b=use("lose"))
            if b[B["refuse"]]:  # 429, 413, 400
                yield (
                    f"API refuses {nonce}",
                    S(
                        fl=fl - {x},
                        procs=tuple(
                            ("refused", *p[1:]) if p[0] == "answer" and p[1] == nonce else p
                            for p in procs
                        ),
                        b=use("refuse"),
                    ),
                )
            if b[B["split"]]:  # 413
                yield (
                    f"API refuses {nonce}: too large",
                    S(
                        fl=fl - {x},
                        procs=tuple(
                            ("halve", *p[1:]) if p[0] == "answer" and p[1] == nonce else p
                            for p in procs
                        ),
                        b=use("split"),
                    ),
                )
        for i, x in enumerate(api):
            if (
                b[B["delete"]]
                and x[3]
                and x[4]
                and (
                    "deletes_unseen" in F
                    or any(r.id == x[0] or (r.nonce == x[1] and x[0] in r.seen) for r in tab.rows)
                )
            ):
                yield (
                    f"batch {x[0]} is deleted by somebody",
                    S(api=(*api[:i], (*x[:3], None, *x[4:]), *api[i + 1 :]), b=use("delete")),
                )
            if x[3] is False:
                yield (
                    f"batch {x[0]} is listed",
                    S(api=(*api[:i], (*x[:3], True, *x[4:]), *api[i + 1 :])),
                )
            if x[4] is None:
                res = [("ok",) * len(x[2])]
                if b[B["expire"]]:
                    res.append(("exp",) + ("ok",) * (len(x[2]) - 1))
                for k, r in enumerate(res):
                    t2 = ts
                    for (_, t, _), y in zip(x[2], r, strict=True):
                        if y == "ok":
                            t2 = self.put(t2, t, paid=t2[t][7] + 1)
                    yield (
                        f"batch {x[0]} ends {r}",
                        S(
                            ts=t2,
                            api=(*api[:i], (*x[:4], r), *api[i + 1 :]),
                            b=use("expire") if k else b,
                        ),
                    )

        def entries(r: Row) -> tuple[Any, ...]:
            return tuple(sorted(e for e in spool if r.first <= e[0] <= r.last))

        # batcher activities begin
        nxt, rows = tab.next, tab.rows
        if b[B["reserve"]] and any(q >= nxt for q, _, _ in spool):
            yield (
                "reserve begins",
                S(procs=(*procs, ("reserve", nxt, max(q for q, _, _ in spool))), b=use("reserve")),
            )
        for r in rows:
            if r.state is RowState.OPEN and b[B["build"]]:
                if b[B["stale"]]:
                    lacks = f"build {r.nonce} begins on a replica that lacks the last entry"
                    scan = ("scan", r.nonce, (), entries(r)[:-1], True, ())
                    yield lacks, S(procs=(*procs, scan), b=use("stale"))
                scan = ("scan", r.nonce, (), entries(r), False, ())
                yield f"build {r.nonce} begins", S(procs=(*procs, scan), b=use("build"))
            if r.state is RowState.SENT and b[B["resolve"]]:
                begun = (*procs, ("resolve", r.nonce, r))
                yield f"resolve {r.nonce} begins", S(procs=begun, b=use("resolve"))
            made = [x for x in api if r.state is RowState.MADE and x[0] == r.id]
            if b[B["collect"]] and any(x[3] is None for x in made):
                begun = (*procs, ("gone", r.nonce, RowState.MADE, entries(r)))
                yield f"{r.nonce} is gone, begins", S(procs=begun, b=use("collect"))
            if b[B["collect"]] and any(x[4] and x[3] is not None for x in made):
                for cut in (False, True) if b[B["cut"]] else (False,):
                    bb = use("collect")
                    if cut:
                        bb = tuple(v - (i == B["cut"]) for i, v in enumerate(bb))
                    label = f"collect {r.nonce} begins" + (", cut" if cut else "")
                    begun = (*procs, ("collect", r.nonce, r.id, 0, cut, entries(r)))
                    yield label, S(procs=begun, b=bb)
        # processes
        for i, p in enumerate(procs):
            rest = procs[:i] + procs[i + 1 :]

            def to(*q: Any, rest: Any = rest) -> Any:
                return (*rest, q)

            pc = p[0]
            if pc == "read":
                _, t, m, f, _ = p
                seq, s0, m0, f0, _msgs, _nm, _sched, _paid = ts[t]
                if f >= seq and s0 in (None, R):
                    yield f"parker m{m} may park", S(procs=to("park", t, m, f, seq))
                elif m0 == m and s0 == W and f < seq:
                    yield f"parker m{m}: row waiting", S(procs=to("spool", t, m, f, seq))
                elif m0 == m and s0 == R:
                    yield f"parker m{m}: row retrying", S(procs=to("resched", t, m, f, seq))
                else:
                    yield f"parker m{m}: acks", S(procs=to("ack", t, m, f, 0))
            elif pc == "park":
                _, t, m, f, s = p
                t2 = self.write(ts, t, s, W, m)
                if t2 is None:
                    yield f"parker m{m} refused", S(procs=to("read", t, m, f, 0))
                elif "ack_first" in F:
                    yield (
                        f"parker m{m} writes waiting {s + 1}",
                        S(ts=t2, procs=to("ack", t, m, f, s + 1)),
                    )
                else:
                    yield (
                        f"parker m{m} writes waiting {s + 1}",
                        S(ts=t2, procs=to("spool", t, m, f, s + 1)),
                    )
            elif pc == "spool":
                _, t, m, f, s = p
                sp, q = self.add_spool(spool, nq, t, s)
                yield (
                    f"parker m{m} spools {t}.{s}",
                    S(
                        spool=sp,
                        nq=q,
                        procs=to("ack", t, m, f, 0) if "ack_first" not in F else rest,
                    ),
                )
            elif pc == "resched":
                _, t, m, f, s = p
                yield (
                    f"parker m{m} schedules {s}",
                    S(ts=self.put(ts, t, sched=ts[t][6] | {s}), procs=to("ack", t, m, f, 0)),
                )
            elif pc == "ack":
                _, t, m, f, s = p
                t2 = self.put(ts, t, msgs=frozenset(x for x in ts[t][4] if x[0] != m))
                yield (
                    f"parker acks m{m} of {t}",
                    S(ts=t2, procs=to("spool", t, m, f, s) if "ack_first" in F and s else rest),
                )
            elif pc == "reserve":
                _, frm, upto = p
                if "two_keys" in F:  # the row is one key, `next` another: the row is written first
                    yield (
                        "reserve: row stored",
                        S(tab=row_only(frm, upto), nn=nn + 1, procs=to("next", upto + 1)),
                    )
                elif "next_first" in F:  # ... or `next` first
                    if tab.next == frm:
                        yield (
                            "reserve: next stored",
                            S(tab=replace(tab, next=upto + 1), procs=to("row", frm, upto)),
                        )
                    else:
                        yield "reserve: too late", S(procs=rest)
                elif (after := rules.reserve(tab, frm, upto, str(nn), AT)) is not None:
                    yield f"reserve {frm}-{upto}", S(tab=after, nn=nn + 1, procs=rest)
                else:
                    yield "reserve: too late", S(procs=rest)
            elif pc == "next":
                yield (
                    "reserve: next stored",
                    S(tab=replace(tab, next=max(tab.next, p[1])), procs=rest),
                )
            elif pc == "row":
                yield "reserve: row stored", S(tab=row_only(p[1], p[2]), nn=nn + 1, procs=rest)
            elif pc == "scan":  # the leader's word on each task, one at a time
                _, nonce, mem, left, blind, poor = p
                if left:
                    e = left[0]
                    seq, s0, _, f0 = ts[e[1]][:4]
                    good = "no_log_check" in F or (seq == e[2] and s0 == W)
                    sp, q = spool, nq
                    if f0 == e[2] and s0 == W and not good:  # whoever wrote so may have died
                        sp, q = self.add_spool(spool, nq, e[1], seq)
                    with_it = mem + ((e,) if good else ())
                    yield (
                        f"build {nonce}: looks at {e[1]}.{e[2]}",
                        S(
                            spool=sp,
                            nq=q,
                            procs=to("scan", nonce, with_it, left[1:], blind, poor),
                        ),
                    )
                    if good and b[B["poor"]]:
                        left_out = to("scan", nonce, mem, left[1:], blind, (*poor, e))
                        t2, sp, q = ts, spool, nq
                        if "anew_early" in F:  # another builder's body may have it
                            t2 = self.write(ts, e[1], e[2], W)
                            sp, q = self.add_spool(spool, nq, e[1], e[2] + 1)
                        yield (
                            f"build {nonce}: no money for {e[1]}.{e[2]}",
                            S(ts=t2, spool=sp, nq=q, procs=left_out, b=use("poor")),
                        )
                elif not mem:
                    if poor:
                        yield f"build {nonce}: nobody has money, goes", S(procs=rest)
                    elif blind and "drop_blind" not in F:
                        yield f"build {nonce}: has not seen all, goes", S(procs=rest)
                    elif (after := rules.remove(tab, nonce, RowState.OPEN)) is not None:
                        yield f"build {nonce}: empty, dropped", S(tab=after, procs=rest)
                    else:
                        yield f"build {nonce}: gone", S(procs=rest)
                elif "no_intent" in F:  # create first, record then
                    yield (
                        f"build {nonce}: sends all",
                        S(fl=fl | {(nonce, mem)}, procs=to("answer", nonce, poor)),
                    )
                else:
                    yield (
                        f"build {nonce}: all but the last byte is sent",
                        S(procs=to("commit", nonce, mem, poor)),
                    )
            elif pc == "commit":
                _, nonce, mem, poor = p
                if "commit_unchecked" in F and (r := tab.row(nonce)) is not None:
                    tab = replace(
                        tab,
                        rows=tuple(replace(x, state=RowState.OPEN) if x is r else x for x in rows),
                    )
                if (after := rules.commit(tab, nonce, len(mem), AT, "", AT)) is not None:
                    yield f"commit {nonce}", S(tab=after, procs=to("send", nonce, mem, poor))
                else:
                    yield f"commit {nonce} refused, hangs up", S(procs=rest)
            elif pc == "send":
                _, nonce, mem, poor = p
                sent = to("answer", nonce, poor)
                yield f"last byte of {nonce}", S(fl=fl | {(nonce, mem)}, procs=sent)
            elif pc == "answer":
                hit = [x for x in api if x[1] == p[1]]
                if hit:
                    yield f"answer of {p[1]}", S(procs=to("made", p[1], hit[0][0], p[2]))
            elif pc == "made":
                _, nonce, bid, poor = p
                if "no_intent" in F:
                    tab = rules.commit(tab, nonce, 0, AT, "", AT) or tab
                if (after := rules.made(tab, nonce, bid, AT)) is not None:
                    then = to("anew", nonce, poor) if poor else rest
                    yield f"{nonce} is batch {bid}", S(tab=after, procs=then)
                else:
                    yield f"{nonce}: recorded by another", S(procs=rest)
            elif pc == "anew":  # who had no money waits for the next one
                _, nonce, poor = p
                if not poor:
                    yield f"build {nonce}: all wait anew", S(procs=rest)
                    continue
                _, t, s = poor[0]
                if ts[t][:2] == (s, W):
                    then = to("aspool", nonce, poor, s + 1)
                    yield (
                        f"build {nonce}: {t}.{s} waits anew",
                        S(ts=self.write(ts, t, s, W), procs=then),
                    )
                else:
                    yield f"build {nonce}: {t} went on", S(procs=to("anew", nonce, poor[1:]))
            elif pc == "aspool":
                _, nonce, poor, s = p
                sp, q = self.add_spool(spool, nq, poor[0][1], s)
                then = to("anew", nonce, poor[1:])
                yield f"build {nonce}: spools {poor[0][1]}.{s}", S(spool=sp, nq=q, procs=then)
            elif pc == "refused" or pc == "giveup":
                nonce = p[1]
                seen = None if pc == "refused" or "seen_not_compared" in F else p[2]
                after = rules.reopen(tab, nonce, str(nn), AT, seen=seen)
                if after is not None:
                    # What is only remembered would make worlds of one another.
                    after = replace(after, rows=tuple(replace(x, tried=()) for x in after.rows))
                    yield f"{nonce} back to open as {nn}", S(tab=after, nn=nn + 1, procs=rest)
                else:
                    yield f"{nonce}: no longer sent", S(procs=rest)
            elif pc == "halve":
                r = tab.row(p[1])
                mid = (r.first + r.last) // 2 if r is not None else 0
                new = str(nn), str(nn + 1)
                if (after := rules.split(tab, p[1], mid, new, AT)) is not None:
                    if "split_in_two_writes" in F:  # the first half shrinks, the second comes later
                        left = tuple(x for x in after.rows if x.nonce != new[1])
                        yield (
                            f"{p[1]} shrinks",
                            S(
                                tab=replace(after, rows=left),
                                nn=nn + 1,
                                procs=to("row", mid + 1, r.last),
                            ),
                        )
                    else:
                        yield f"{p[1]} becomes two", S(tab=after, nn=nn + 2, procs=rest)
                else:
                    yield f"{p[1]}: no longer sent", S(procs=rest)
            elif pc == "resolve":
                yield from self._resolve(st, p, S, to)
            elif pc == "gone":  # it may be paid: its tasks fail, and only a person asks again
                _, nonce, state, left = p
                if left:
                    q, tt, s = left[0]
                    t2 = self.write(ts, tt, s, FAIL) if ts[tt][:2] == (s, W) else None
                    yield (
                        f"{nonce} is gone: {tt}",
                        S(ts=t2 or ts, procs=to("gone", nonce, state, left[1:])),
                    )
                else:
                    yield (
                        f"{nonce} is gone: removed",
                        S(tab=rules.remove(tab, nonce, state) or tab, procs=rest),
                    )
            elif pc == "collect":
                _, nonce, bid, k, cut, ent = p
                x = next(x for x in api if x[0] == bid)
                lines = len(x[2]) - cut
                if "done_first" in F and k == 0 and tab.row(nonce) is not None:
                    gone = rules.remove(tab, nonce, RowState.MADE) or tab
                    yield f"collect {nonce}: done first", S(tab=gone, procs=procs)
                if k < lines:
                    (q, _, _), y = x[2][k], x[4][k]
                    e = [e for e in spool if e[0] == q]
                    if not e:
                        yield (
                            f"collect {nonce}: {q} is unknown",
                            S(procs=to("collect", nonce, bid, k + 1, cut, ent)),
                        )
                        continue
                    _, t, s = e[0]
                    seq, s0, m0, f0 = ts[t][:4]
                    if (seq == s and s0 == W) or ("no_fence" in F and s0 not in FINAL):
                        yield (
                            f"collect {nonce}: reads {t}",
                            S(procs=to("cwrite", nonce, bid, k, t, s, y, cut, ent)),
                        )
                    elif f0 == s and s0 == R and "no_republish" not in F:
                        yield (
                            f"collect {nonce}: schedule of {t} again",
                            S(procs=to("csched", nonce, bid, k, t, seq, cut, ent)),
                        )
                    else:
                        yield (
                            f"collect {nonce}: {t} went on",
                            S(procs=to("collect", nonce, bid, k + 1, cut, ent)),
                        )
                elif cut and "cut_is_all" not in F:
                    yield f"collect {nonce}: lines are missing, again later", S(procs=rest)
                else:  # complete: who has no line was not in the body
                    miss = tuple(e for e in ent if e[0] not in {y[0] for y in x[2][:lines]})
                    yield (
                        f"collect {nonce}: all written",
                        S(
                            procs=to("heal", nonce, miss)
                            if miss and "no_heal" not in F
                            else to("done", nonce)
                        ),
                    )
            elif pc == "heal":
                _, nonce, miss = p
                if not miss:
                    yield f"collect {nonce}: healed", S(procs=to("done", nonce))
                    continue
                q, t, s = miss[0]
                seq, s0, m0, f0 = ts[t][:4]
                if seq == s and s0 == W:
                    yield (
                        f"collect {nonce}: {t}.{s} waits anew",
                        S(ts=self.write(ts, t, s, W), procs=to("hspool", nonce, miss, s + 1)),
                    )
                elif f0 == s and s0 == W:
                    yield (
                        f"collect {nonce}: {t} is spooled again",
                        S(procs=to("hspool", nonce, miss, seq)),
                    )
                else:
                    yield f"collect {nonce}: {t} went on", S(procs=to("heal", nonce, miss[1:]))
            elif pc == "hspool":
                _, nonce, miss, s = p
                sp, q = self.add_spool(spool, nq, miss[0][1], s)
                yield (
                    f"collect {nonce}: spools {miss[0][1]}.{s}",
                    S(spool=sp, nq=q, procs=to("heal", nonce, miss[1:])),
                )
            elif pc == "cwrite":
                _, nonce, bid, k, t, s, y, cut, ent = p
                t2 = self.write(
                    ts,
                    t,
                    s if "no_fence" not in F else ts[t][0],
                    OK if y == "ok" else R,
                    fenced="no_fence" not in F,
                )
                if t2 is None:
                    yield (
                        f"collect {nonce}: refused",
                        S(procs=to("collect", nonce, bid, k, cut, ent)),
                    )
                elif y == "ok":
                    yield (
                        f"collect {nonce}: {t} succeeded",
                        S(ts=t2, procs=to("collect", nonce, bid, k + 1, cut, ent)),
                    )
                else:
                    yield (
                        f"collect {nonce}: {t} retrying",
                        S(ts=t2, procs=to("csched", nonce, bid, k, t, s + 1, cut, ent)),
                    )
            elif pc == "csched":
                _, nonce, bid, k, t, s, cut, ent = p
                yield (
                    f"collect {nonce}: schedules {t}.{s}",
                    S(
                        ts=self.put(ts, t, sched=ts[t][6] | {s}),
                        procs=to("collect", nonce, bid, k + 1, cut, ent),
                    ),
                )
            elif pc == "done":
                tab2 = rules.remove(tab, p[1], RowState.MADE) or tab
                yield f"row {p[1]} removed", S(tab=tab2, procs=to("purge", tab2.low))
            elif pc == "purge":
                yield (
                    f"spool purged below {p[1]}",
                    S(spool=frozenset(e for e in spool if e[0] >= p[1]), procs=rest),
                )

    # ---- checks
    def check(self, st: Any) -> None:
        for t, x in enumerate(st[0]):
            if x[7] > 1:
                raise Violation(f"task {t} PAID {x[7]} TIMES")

    def recover(self, st: Any) -> None:
        """No more faults: what is in flight settles, one parker and one batcher do what is left."""
        st = (
            *st[:7],
            (),
            (99, 99, 99, 99, 99, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0),
        )
        for _ in range(400):
            self.check(st)
            ts, _spool, _nq, _tab, _api, _fl, _nn, procs, _b = st
            nxt_states = list(self.steps(st))

            # what is in flight first, then running processes, then new work; one lane of execution
            def rank(x: Any, procs: Any = procs) -> int:
                label = x[0]
                if label.startswith("API accepts"):
                    return 0
                if "is listed" in label or " ends " in label:
                    return 1
                if (
                    procs
                    and "begins" not in label
                    and not label.startswith(("deliver", "schedule "))
                ):
                    return 2
                if label.startswith("deliver"):
                    return 3
                if label.startswith("schedule "):
                    return 4
                return 5

            if not nxt_states:
                break
            label, n = min(nxt_states, key=rank)
            if label.endswith("begins") and procs:
                break
            st = n
        else:
            raise Violation("recovery does not end")
        ts = st[0]
        for t, x in enumerate(ts):
            if x[1] not in FINAL:
                raise Violation(f"task {t} LOST: its log ends with {x[1]} at {x[0]}")
            if x[1] == OK and x[7] != 1:
                raise Violation(f"task {t} succeeded, paid {x[7]}")

    def search(self, limit: Any = 6_000_000) -> Any:
        gc.disable()
        s0 = self.initial()
        seen: dict[State, Any] = {s0: None}
        q = collections.deque([s0])
        rec: set[State] = set()
        n = 0
        while q:
            st = q.popleft()
            n += 1
            try:
                self.check(st)
                key = st[:7]
                if key not in rec:
                    rec.add(key)
                    self.recover(st)
                for label, nx in self.steps(st):
                    if nx not in seen:
                        seen[nx] = (st, label)
                        q.append(nx)
            except Violation as e:
                way: list[str] = []
                cur = st
                while seen[cur]:
                    cur, label = seen[cur]
                    way.append(label)
                return f"VIOLATION: {e}", len(seen), way[::-1]
            if len(seen) > limit:
                return "holds (limit reached)", len(seen), None
        return "holds", len(seen), None
