"""docs/protocol.md is true: its examples run, and its tables say what the code says."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from agentflow.protocol import api, control, limits, record, streams, subjects, task
from agentflow.protocol.record import EMPTY, Last, State
from agentflow.protocol.subjects import Priority
from agentflow.rules import claim, gates, lifecycle, retry
from agentflow.rules import records as entries
from agentflow.rules.claim import Act, Delivery
from tests.support import checker, tools
from tests.support.fleet import Fleet
from tests.support.nats_server import NatsServer
from tests.support.observer import Observer

PAGE = tools.ROOT / "docs" / "protocol.md"
WORKER = tools.ROOT / "examples" / "worker_without_agentflow.py"
RETRIES = "What our workers retry"
SOURCES = tools.ROOT / "agentflow"

# ------------------------------------------------------------------- the page, taken apart


class Block(NamedTuple):
    """A fenced block: its language, what follows that, the line it begins at, its text."""

    language: str
    note: str
    line: int
    text: str
    section: str


def blocks() -> list[Block]:
    found: list[Block] = []
    section, open_at, info, lines = "", 0, "", list[str]()
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if open_at:
                language, _, note = info.partition(" ")
                found.append(Block(language, note, open_at, "\n".join(lines) + "\n", section))
                open_at = 0
            else:
                open_at, info, lines = number, line[3:], []
        elif open_at:
            lines.append(line)
        elif line.startswith("#"):
            section = line.lstrip("# ")
    assert not open_at, f"the block of line {open_at} does not end"
    return found


BLOCKS = blocks()


class Example(NamedTuple):
    """A command, what it prints, and whether it listens while the next one runs."""

    block: Block
    expected: Block | None
    listens: bool


def examples() -> dict[str, list[Example]]:
    """By section; what a command prints stands right behind it."""
    ends = {block.line + block.text.count("\n") + 2: block for block in BLOCKS}
    found: dict[str, list[Example]] = {}
    for index, block in enumerate(BLOCKS):
        if block.language == "sh":
            after = BLOCKS[index + 1] if index + 1 < len(BLOCKS) else None
            said = after is not None and after.language != "sh" and ends.get(after.line) is block
            example = Example(block, after if said else None, block.note == "listen")
            found.setdefault(block.section, []).append(example)
    return found


EXAMPLES = examples()


def needs_cli(section: str) -> bool:
    return any(re.search(r"\bnats [a-z]", example.block.text) for example in EXAMPLES[section])


def section(title: str) -> str:
    """The text below a heading, up to the next one of its rank."""
    text = PAGE.read_text(encoding="utf-8")
    begins = re.search(rf"^(#+) {re.escape(title)}\n", text, re.M)
    assert begins is not None, title
    ends = re.compile(rf"^#{{1,{len(begins[1])}}} ", re.M).search(text, begins.end())
    return prose(text[begins.end() : ends.start() if ends else None])


def prose(text: str) -> str:
    """A text without its blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def rows(title: str) -> list[list[str]]:
    """The rows of all tables below a heading, without their heads."""
    found: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", section(title), re.M):
        for line in table.splitlines()[2:]:
            found.append([cell.strip() for cell in line[1:-1].split("|")])
    return found


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def first_names(title: str) -> list[str]:
    return [name for row in rows(title) for name in re.findall(r"`([^`]+)`", row[0])]


def fields(struct: Any) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


# ------------------------------------------------------------------- the examples run


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    (fleet.folder / "examples").symlink_to(tools.ROOT / "examples")
    for block in BLOCKS:
        if block.language == "python":
            (fleet.folder / block.note).write_text(block.text, encoding="utf-8")
    try:
        yield fleet.start()
    finally:
        fleet.stop()


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.tools("nats") if needs_cli(title) else ())
        for title in EXAMPLES
    ],
)
def test_the_examples_run(title: str, fleet: Fleet) -> None:
    listening: tuple[Example, subprocess.Popen[str]] | None = None
    for example in EXAMPLES[title]:
        if example.listens:
            words = shlex.split(example.block.text)
            listening = (example, fleet.listen(words, words[2]))
            continue
        show(example, fleet)
        if listening is not None:
            check(listening[0], fleet.heard(listening[1]))
            listening = None
    assert listening is None, "nothing runs while the last example listens"


def test_no_command_stands_outside_the_examples() -> None:
    """A block in another language's name would not be run."""
    allowed = {"sh", "json", "text", "python"}
    assert {block.language for block in BLOCKS} == allowed
    assert {block.note for block in BLOCKS if block.language == "sh"} == {"", "listen"}
    shown = {example.expected for found in EXAMPLES.values() for example in found}
    for block in BLOCKS:
        if block.language in ("json", "text") and not block.note and block not in shown:
            assert block.text.startswith(("Nats-Expected-", "$JS.ACK.")), f"line {block.line}"


def show(example: Example, fleet: Fleet) -> None:
    """Run an example; a question to the master's index is asked until the index has caught up."""
    asks = re.fullmatch(
        r"nats req agentflow\.api\.(get|list|stats|workers) .*\n", example.block.text
    )
    end = time.monotonic() + 10
    while True:
        said = fleet.run("bash", "-euo", "pipefail", "-c", example.block.text)
        try:
            check(example, said)
        except AssertionError:
            if not asks or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def check(example: Example, said: str) -> None:
    expected = example.expected
    if expected is None:
        return
    where = f"docs/protocol.md, line {example.block.line}:\n{said}"
    if expected.language == "json":
        found = [line for line in said.splitlines() if line.startswith("{")]
        assert found, where
        assert_like(json.loads(expected.text), json.loads(found[-1]), where)
    else:
        assert re.fullmatch(pattern(expected.text), plain(said)), where


def assert_like(expected: Any, found: Any, where: str) -> None:
    """Equal, where … is anything, and as a key: any further keys."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        wanted = expected.keys() - {"…"}
        assert wanted <= found.keys() if "…" in expected else wanted == found.keys(), where
        for key in wanted:
            assert_like(expected[key], found[key], where)
    elif isinstance(expected, list):
        assert isinstance(found, list), where
        assert len(expected) == len(found), where
        for each, other in zip(expected, found, strict=True):
            assert_like(each, other, where)
    elif isinstance(expected, str) and "…" in expected:
        assert re.fullmatch(pattern(expected), str(found), re.S), where
    else:
        assert expected == found, where


def pattern(text: str) -> str:
    """What fits a text in which … stands for anything; alone on a line, for any lines."""
    lines = []
    for line in text.splitlines(keepends=True):
        some = r"(?:.*\n)*?" if line == "…\n" else ".*".join(map(re.escape, line.split("…")))
        lines.append(some)
    return "".join(lines)


def plain(said: str) -> str:
    """Output without times of day, indentation, empty lines, and with headers in one order."""
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line).strip() for line in said.splitlines()]
    shown: list[str] = []
    for is_header, some in itertools.groupby(filter(None, lines), key=_is_header):
        shown += sorted(some, key=lambda line: line.split(":")[0] if is_header else "")
    return "".join(f"{line}\n" for line in shown)


def _is_header(line: str) -> bool:
    return re.match(r"[A-Z][a-z]+(-[A-Z][A-Za-z]+)+: ", line) is not None


def test_the_client_in_the_page_is_short() -> None:
    (client,) = [block for block in BLOCKS if block.language == "python"]
    assert client.text.count("\n") <= 45
    assert "agentflow import" not in client.text


# ------------------------------------------------------------------- the tables are true


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
        subjects.progress("x"),
        subjects.result("x"),
        subjects.schedule("x", 0).replace("0", "x"),
        subjects.due("x", "x"),
        subjects.dead("x", "x"),
        subjects.kv("x"),
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
            given |= set(re.findall(r'_fail\([^)]*?"([a-z_]+)"', text))
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
    }


def test_requests_and_answers_are_told() -> None:
    text = section("The API")
    verbs = {api.RUN, api.SUBMIT, api.GET, api.LIST, api.STATS, api.WORKERS}
    assert set(first_names("The API")) == verbs
    known = quoted(text)
    for struct in (api.ListRequest, api.Submitted, api.StatsView, api.QueueView, api.Tasks):
        assert fields(struct) <= known, struct
    of_records = fields(record.Record) | fields(record.Timings)
    assert fields(api.TaskView) - of_records <= known
    assert fields(api.WorkerView) - fields(control.Heartbeat) <= known
    left_out = fields(control.Heartbeat) - fields(api.WorkerView)
    assert left_out <= known | {"pools"}  # "from actor to notes"


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
        gates.closed_key(("<pool>", "<family>")),
    }
    assert fields(gates.Closed) <= told["closed.<pool>.<family>"]
    assert fields(gates.Paused) == told["pause.<queue>"]
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


# ------------------------------------------------------------------- the worker of the page


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
        Act.EXPIRE: "expire",
        Act.CLAIM: "claim",
        Act.ACK: "ack",
        Act.REPUBLISH_DEAD: "bury",
        Act.REPUBLISH_SCHEDULE: "park",
        Act.ASK: "ask",
    }
    seen = set()
    states = [None, *State, "waiting"]
    for state, version, follows, mine, age in itertools.product(
        states, (1, 2), (0, 7, 8), (True, False), (0.0, limits.HORIZON + 1.0)
    ):
        last = (
            EMPTY if state is None else Last(7, _record(state, version, "5-9" if mine else "4-8"))
        )
        theirs = namespace["decide"](
            {"message": "5-9", "follows": follows, "age": age},
            (last.sequence, msgspec.to_builtins(last.record)),
        )
        ours = claim.decide(Delivery("5-9", follows=follows, delivered=2, age=age), last)
        assert acts[ours] == theirs, (state, version, follows, mine, age)
        seen.add(ours)
    assert seen == acts.keys()


_CONSTANTS = ("HORIZON", "FINAL", "STATES")


def _record(state: str, version: int, message: str) -> record.Record:
    unread = record.unreadable(b"", "agentflow.progress.x")
    return msgspec.structs.replace(unread, v=version, state=state, message=message)


async def test_the_worker_of_the_page_keeps_the_rules(
    nats_server: NatsServer, observer: Observer
) -> None:
    """All it meets ends well, what others wrote is respected, and nothing is left behind."""

    def shout(task_id: str, **more: Any) -> dict[str, Any]:
        return {"kind": "shout", "id": task_id, "prompt": "so be it", **more}

    async def no_schedule() -> bool:
        return await observer.messages(subjects.SCHEDULE) == 0

    to = {"subject": "agentflow.tasks.plain"}
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    await observer.submit(shout("plain"), **to)
    await observer.submit(shout("plain"), **to)  # a duplicate
    await observer.submit(shout("parked", not_before=soon), **to)
    await observer.submit(b"{not a task", {"Agentflow-Id": "bad"}, **to)
    await observer.submit({"kind": "unheard-of", "prompt": "x", "id": "unknown"}, **to)
    await observer.submit(shout("cancelled"), **to)
    await observer.log_as("somebody").cancel("cancelled")
    ack = await observer.submit(shout("taken-over"), **to)
    origin = msgspec.structs.replace(
        await observer.origin("taken-over", ack, kind="shout"), queue="plain"
    )
    dead = observer.log_as("dead-worker")
    await dead.append(entries.claimed(origin, EMPTY, actor="dead-worker", now=dead.now()))
    # Its owner answers that it holds nothing, so nobody waits five seconds for a silence.
    await observer.connection.subscribe(
        subjects.control("worker", "dead-worker"),
        lambda question: observer.connection.publish(
            question.reply, control.encode(control.Held(holds=False))
        ),
    )
    await observer.connection.flush()
    deliveries = 7 + 1  # the parked one comes twice
    process = subprocess.Popen(
        [sys.executable, str(WORKER), "plain", str(deliveries)],
        env={"NATS_URL": nats_server.url},
    )
    try:
        ids = ["plain", "parked", "bad", "unknown", "cancelled", "taken-over"]
        await observer.all_ended(ids)
        await observer.at_rest()
        await observer.becomes(no_schedule)  # the server forgets it a moment after it was due
        assert process.wait(20) == 0
    finally:
        process.kill()
    assert await observer.states("plain") == ["running", "succeeded"]
    assert await observer.states("parked") == ["scheduled", "running", "succeeded"]
    assert await observer.states("taken-over") == ["running", "running", "succeeded"]
    taken = (await observer.last("taken-over")).record
    assert taken is not None
    assert (taken.attempt, taken.failures, taken.text) == (2, 1, "SO BE IT")
    assert await checker.check(observer.js, ids) == []
