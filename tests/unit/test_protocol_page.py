"""The tables of docs/protocol.md say what the code says, and its worker decides as ours does."""

from __future__ import annotations

import ast
import itertools
import json
import re
from typing import Any

import msgspec

from agentflow.protocol import (
    api,
    batches,
    control,
    jobs,
    limits,
    record,
    streams,
    subjects,
    task,
    tokens,
    webhooks,
)
from agentflow.protocol.record import EMPTY, Last, State
from agentflow.protocol.subjects import Priority
from agentflow.rules import claim, lanes, lifecycle, retry
from agentflow.rules.claim import Act, Delivery
from agentflow.rules.routes import budgets, clock, closures, gates, tickets
from agentflow.rules.routes.route import Route
from agentflow.views.api import TASK_FIELDS
from tests.support import tools
from tests.support.protocol_page import (
    BLOCKS,
    PAGE,
    WORKER,
    first_names,
    prose,
    quoted,
    rows,
    section,
)

RETRIES = "What our workers retry"
SOURCES = tools.ROOT / "agentflow"


def fields(struct: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def test_every_field_of_a_task_is_told() -> None:
    assert first_names("Tasks")[: len(task.FIELDS)] == list(task.FIELDS)


def test_every_header_is_told() -> None:
    known = {
        value
        for value in (*vars(subjects).values(), *vars(api).values())
        if isinstance(value, str) and value.startswith("Agentflow-")
    }
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"Agentflow-[A-Z][a-z]+", text)) == known


def test_every_subject_is_told() -> None:
    told = {re.sub(r"<\w+>", "x", name) for name in first_names("Subjects")}
    assert told == {
        subjects.task("x"),
        "agentflow.tasks.x.x",
        subjects.task("x", "x", "x"),
        subjects.progress("x"),
        subjects.result("x"),
        subjects.schedule("x", 0).replace("0", "x"),
        subjects.due("x", "x"),
        subjects.dead("x", "x"),
        batches.entry("x", "x", "x", 0).replace("0", "x"),
        tickets.counter(Route("x", "x"), "x"),
        subjects.kv("x"),
        subjects.cached("x"),
        f"{subjects.OBJECT_CHUNKS}.x",
        f"{subjects.OBJECT_INFOS}.x",
        subjects.LIVE,
        subjects.tokens("x"),
        subjects.presence("x", "x"),
        subjects.control("x"),
        subjects.control("x", "x"),
        subjects.api("x"),
    }


def test_every_field_of_a_record_is_told() -> None:
    required = [field.name for field in msgspec.structs.fields(record.Record) if field.required]
    optional = [field.name for field in msgspec.structs.fields(record.Record) if not field.required]
    told = first_names("Records")
    assert set(told[: len(required)]) == set(required)
    assert set(told[len(required) :]) == set(optional)
    text = section("Records")
    for struct in (record.Usage, record.Timings, record.Failure):
        assert fields(struct) <= quoted(text)


def test_the_states_and_what_may_follow_are_told() -> None:
    told = {}
    for state, where, _, _, followers in rows("States"):
        told[None if "empty" in state else State(state)] = {
            State(each) for each in followers.split(", ") if each
        }
        if where:
            assert (where == "results") == (state in record.TERMINAL)
    assert told == lifecycle.FOLLOWERS


def test_every_reason_is_told() -> None:
    given = {row.reason for row in (*retry.TABLE, retry.UNKNOWN)}
    for file in SOURCES.rglob("*.py"):
        if file.parent.name in ("protocol", "worker", "handlers", "rules", "master"):
            text = file.read_text(encoding="utf-8")
            given |= set(re.findall(r'\b(?:reason=|REASON: Final = )"([a-z_]+)"', text))
            given |= set(re.findall(r'refuse\([^)]*?"([a-z_]+)"', text))
            if file.parent.name == "worker":  # a handler's are names of errors, not reasons
                given |= set(re.findall(r'Failure\(type="([a-z_]+)"', text))
    given -= {"operator", "unreadable"}  # of pauses, not of records
    told = quoted(prose(PAGE.read_text(encoding="utf-8")))
    assert given - told == set()


def test_the_abilities_are_told() -> None:
    assert quoted(section("Versions")) >= task.ABILITIES


def test_the_limits_of_retries_are_told() -> None:
    told = {
        reason: int(found[1]) if (found := re.search(r"at most (\d+)", row[2])) else None
        for row in rows(RETRIES)
        for reason in re.findall(r"`(\w+)`", row[0])
    }
    allowed: dict[str, int | None] = {}
    for row in (*retry.TABLE, retry.UNKNOWN):
        allowed[row.reason] = row.limit
    assert {reason: told[reason] for reason in allowed} == allowed


def test_heartbeats_and_control_messages_are_told() -> None:
    assert set(first_names("Heartbeats")) == fields(control.Heartbeat)
    assert fields(control.RunningTask) <= quoted(section("Heartbeats"))
    told = [control.decode(text.encode()) for text in first_names("Control")]
    assert {type(each) for each in told} == {
        control.Holds,
        control.Held,
        control.Cancel,
        control.Drain,
        control.Waits,
        control.Waiting,
        control.Said,
        control.Text,
    }


def test_requests_and_answers_are_told() -> None:
    text = section("The API")
    verbs = {api.RUN, api.SUBMIT, api.GET, api.LIST, api.STATS, api.WORKERS}
    assert set(first_names("The API")) == verbs
    known = quoted(text)
    for struct in (api.ListRequest, api.Submitted, api.StatsView, api.QueueView, api.Tasks):
        assert fields(struct) <= known, struct
    of_records = fields(record.Record) | fields(record.Timings)
    assert set(TASK_FIELDS) - of_records <= known
    assert fields(api.WorkerView) - fields(control.Heartbeat) <= known
    left_out = fields(control.Heartbeat) - fields(api.WorkerView)
    assert left_out <= known | {"pools", "batches"}  # "from actor to notes"


def test_the_definitions_of_streams_and_consumers_are_told() -> None:
    (told,) = [json.loads(block.text) for block in BLOCKS if block.note == "streams"]
    assert told == streams.streams()
    (consumer,) = [json.loads(block.text) for block in BLOCKS if block.note == "consumer"]
    assert consumer == streams.consumer("default", Priority.NORMAL)


def test_the_keys_of_the_bucket_are_told() -> None:
    told = {quoted(row[0]).pop(): quoted(row[1]) for row in rows("The bucket")}
    assert told.keys() == {
        "lease.master",
        gates.queue_key("<queue>"),
        gates.kind_key("<kind>"),
        gates.closed_key(Route("<pool>", "<family>")),
        batches.key("<pool>", "<queue>"),
        batches.lease_key("<pool>", "<queue>"),
        budgets.key("<scope>"),
        jobs.key("<id>"),
        clock.clock_key(Route("<pool>", "<family>")),
        lanes.key("<queue>", "<lane>"),
        f"{clock.SLOTS}<actor>",
        f"{clock.POOL}<pool>",
        tokens.key("<id>"),
        f"{webhooks.PREFIX}<id>",
        f"{webhooks.OF_JOB}<job>",
        webhooks.CURSOR,
    }
    assert fields(tokens.Token) == told["token.<id>"]
    assert fields(webhooks.Webhook) == told["webhook.<id>"] == told["webhook.job.<job>"]
    assert fields(webhooks.Cursor) == told["webhooks.cursor"]
    assert set(fields(budgets.Budget)) == told["budgets.<scope>"]
    assert set(fields(jobs.Job)) == told["job.<id>"]
    assert set(fields(budgets.Holder)) <= quoted(section("Budgets"))
    assert fields(batches.Table) == told["batches.<pool>.<queue>"]
    assert set(fields(closures.Closed)) <= told["closed.<pool>.<family>"]
    assert fields(gates.Paused) == told["pause.<queue>"]
    assert fields(clock.Limits) == told["pool.<pool>"]
    assert fields(lanes.Lane) == told["lane.<queue>.<lane>"]
    known = quoted(section("Tickets and the clock"))
    assert (fields(clock.Clock) - {"v"}) | fields(clock.Axis) <= known
    (value,) = re.findall(r"nats kv put agentflow pause\.\w+ '(.*)'", PAGE.read_text("utf-8"))
    paused = gates.read_paused(value.encode())
    assert paused is not None
    assert (paused.reason, paused.actor) == ("operator", "me")


def test_the_limits_are_told() -> None:
    told = {row[0].replace("`", ""): row[1] for row in rows("Limits")}
    days = {
        "timeout": limits.TIMEOUT_MAX,
        "not_before, delay of a retry": limits.HORIZON,
        "a message without a record": limits.HORIZON,
        "records, deduplication, cancel": limits.RETENTION,
        "dead letters": limits.DEAD_RETENTION,
    }
    for what, seconds in days.items():
        count = seconds // limits.DAY
        assert told[what] == f"{count} day" + ("s" if count > 1 else ""), what
    assert told["payload of a task"] == f"{limits.TASK_BYTES // limits.MIB} MiB"
    assert told["object that a task refers to"] == f"{limits.PAYLOAD_BYTES // limits.MIB} MiB"
    parts = f"{limits.CHUNKS:,}, ours of {limits.CHUNK_BYTES // limits.KIB} KiB"
    assert told["parts of objects"] == parts
    assert told["max_payload of our servers"] == f"{limits.SERVER_MAX_PAYLOAD // limits.MIB} MiB"
    assert told["carry"] == f"{limits.CARRY_BYTES // limits.KIB} KiB"
    assert told["error message in a record"] == f"{limits.ERROR_TEXT} characters"
    assert told["labels"] == f"{limits.LABELS}, of {limits.LABEL_CHARS} characters"
    most = f"{limits.MAX_ATTEMPTS_LIMIT}, default {limits.MAX_ATTEMPTS}"
    assert told["max_attempts"] == most
    assert told["deliveries of a message"] == str(limits.MAX_DELIVERIES)
    assert told["records of a task"] == f"{limits.RECORDS_PER_LOG} on each subject"
    assert told["tasks waiting"] == f"{limits.TASKS_MAX_MSGS:,}"
    assert told["tasks in workers' hands, a queue and priority"] == f"{limits.MAX_ACK_PENDING:,}"
    assert told["token messages"] == f"{limits.TOKENS_PER_SECOND} a second a task"


def test_the_links_within_the_page_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_worker_of_the_page_decides_as_ours_does() -> None:
    """Its table against ours, for every state a log can be in."""
    tree = ast.parse(WORKER.read_text(encoding="utf-8"))
    wanted = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name == "decide")
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in _CONSTANTS)
    ]
    namespace: dict[str, Any] = {}
    exec(compile(ast.Module(wanted, []), str(WORKER), "exec"), namespace)
    acts = {
        Act.UPGRADE: "later",
        Act.AGAIN: "later",
        Act.EXPIRE: "expire",
        Act.CLAIM: "claim",
        Act.ACK: "ack",
        Act.REPUBLISH_DEAD: "bury",
        Act.REPUBLISH_SCHEDULE: "park",
        Act.ASK: "ask",
    }
    seen = set()
    states = [None, *(state for state in State if state != State.WAITING), "sleeping"]
    for state, version, follows, mine, age, sourced in itertools.product(
        states, (1, 2), (0, 7, 8), (True, False), (0.0, limits.HORIZON + 1.0), (True, False)
    ):
        last = (
            EMPTY if state is None else Last(7, _record(state, version, "5-9" if mine else "4-8"))
        )
        theirs = namespace["decide"](
            {"message": "5-9", "follows": follows, "age": age, "sourced": sourced, "delivered": 2},
            (last.sequence, msgspec.to_builtins(last.record)),
        )
        delivery = Delivery("5-9", follows=follows, delivered=2, age=age, sourced=sourced)
        ours = claim.decide(delivery, last)
        assert acts[ours] == theirs, (state, version, follows, mine, age, sourced)
        seen.add(ours)
    assert seen == acts.keys()


_CONSTANTS = ("HORIZON", "FINAL", "STATES")


def _record(state: str, version: int, message: str) -> record.Record:
    unread = record.unreadable(b"", "agentflow.progress.x")
    return msgspec.structs.replace(unread, v=version, state=state, message=message)
