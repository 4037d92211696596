"""Task messages: what is a task, what is none and why, and which id it runs under."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import InvalidTask
from agentflow.protocol import limits, subjects, task
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import TaskBody

TEXT = {subjects.CONTENT_TYPE: "text/plain"}
NS = 1_700_000_000_123_456_789


def body(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def build(payload: bytes, headers: dict[str, str] | None = None) -> task.Task:
    headers = headers or {}
    return task.build(task.parse_body(payload, headers), headers, "q", Priority.NORMAL, "t")


# ---------------------------------------------------------------- text or JSON


@pytest.mark.parametrize(
    ("payload", "headers", "prompt"),
    [
        (b"Write a haiku", {}, "Write a haiku"),
        ("Grüße 😀".encode(), {}, "Grüße 😀"),
        (b"  kept as it is \n", {}, "  kept as it is \n"),
        (b'["a list is text"]', {}, '["a list is text"]'),
        (b'"a string is text"', {}, '"a string is text"'),
        (b'{"prompt":"hi"}', {}, "hi"),
        (b' \t\r\n{"prompt":"hi"}\n', {}, "hi"),
        (b" " * 5000 + b'{"prompt":"hi"}', {}, "hi"),
        (b'{"prompt":"a","prompt":"b"}', {}, "b"),
        (b'{"prompt":"hi"}', TEXT, '{"prompt":"hi"}'),
        (b'{"prompt":"hi"}', {subjects.CONTENT_TYPE: "Text/Plain; charset=x"}, '{"prompt":"hi"}'),
        (b"{ not JSON at all", TEXT, "{ not JSON at all"),
        (b'{"prompt":"hi"}', {subjects.CONTENT_TYPE: "application/json"}, "hi"),
        (b'{"prompt":"\\ud83d\\ude00"}', {}, "😀"),
        (b"a\x00b", {}, "a\x00b"),
    ],
)  # fmt: skip
def test_the_prompt_of_a_payload(payload: bytes, headers: dict[str, str], prompt: str) -> None:
    assert task.parse_body(payload, headers).prompt == prompt


@given(st.text())
def test_any_text_that_is_not_blank_is_a_prompt(text: str) -> None:
    if text.strip():
        assert task.parse_body(text.encode(), TEXT).prompt == text
    else:
        with pytest.raises(InvalidTask, match="empty"):
            task.parse_body(text.encode(), TEXT)


@pytest.mark.parametrize(
    ("payload", "reason", "says"),
    [
        (b"", "empty", "the payload is empty"),
        (b" \n\t", "empty", "the payload is empty"),
        (b"{}", "empty", "prompt"),
        (b'{"prompt":"  "}', "empty", "prompt"),
        (b'{"params":{}}', "empty", "prompt"),
        (b'{"params":{},"kind":"claude"}', "empty", "prompt"),
        (b'{"kind":"nightly"}', "empty", "prompt"),
        (b"caf\xe9", "bad_text", "byte 3"),
        (b'{"prompt":"caf\xe9"}', "bad_json", "0xe9"),
        (b'{"prompt":"hi"', "bad_json", "truncated"),
        (b'{"prompt":"hi"} and more', "bad_json", "trailing"),
        (b'{"prompt":"hi","timeout":NaN}', "bad_json", "byte 25"),
        (b'{"prompt":"\\ud800"}', "bad_json", "cannot be read"),
        (b'{"params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "bad_json", "nested"),
        (b'{"params":' + b'{"a":' * 100_000, "bad_json", "nested"),
        (b'{"params":[1]}', "bad_field", "$.params"),
        (b'{"prompt":"hi","promt":"hi"}', "bad_field", "promt"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_what_is_no_task(payload: bytes, reason: str, says: str) -> None:
    with pytest.raises(InvalidTask) as raised:
        task.parse_body(payload, {})

    assert raised.value.reason == reason
    assert says in str(raised.value)


def test_an_unknown_field_is_named_beside_the_allowed_ones() -> None:
    with pytest.raises(InvalidTask) as raised:
        task.parse_body(body(prompt="hi", max_token=5), {})

    assert "`max_token`" in str(raised.value)
    for field in (
        "prompt", "kind", "id", "model", "system", "max_tokens", "params", "timeout",
        "max_attempts", "labels", "not_before",
    ):  # fmt: skip
        assert field in str(raised.value)


@pytest.mark.parametrize("filled", [b"a", b'{"prompt":"'], ids=["text", "JSON"])
def test_over_4_mib_is_no_task(filled: bytes) -> None:
    end = b'"}' if filled != b"a" else b""
    most = limits.TASK_BYTES - len(filled) - len(end)
    assert task.parse_body(filled + b"a" * most + end, {}).prompt

    with pytest.raises(InvalidTask, match="4,194,304") as raised:
        task.parse_body(filled + b"a" * (most + 1) + end, {})
    assert raised.value.reason == "too_large"


def test_a_line_of_a_million_characters_is_a_task() -> None:
    line = "word " * 200_000
    assert task.parse_body(line.encode(), {}).prompt == line
    assert task.parse_body(body(prompt=line), {}).prompt == line


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"{" + tail))
def test_arbitrary_bytes_are_a_task_or_invalid(payload: bytes) -> None:
    """Nothing but InvalidTask: another error would end the process that reads the message."""
    with suppress(InvalidTask):
        parsed = task.parse_body(payload, {})
        assert parsed.prompt or parsed.params or parsed.kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(task.FIELDS) | st.text(max_size=6), JSON, max_size=5))
def test_arbitrary_fields_are_a_task_or_invalid(fields: dict[str, Any]) -> None:
    with suppress(InvalidTask):
        assert build(msgspec.json.encode(fields)).id == "t"


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""}, {"id": "a b"}, {"id": "a.b"}, {"id": "é"}, {"id": "x" * 65}, {"id": "a\n"},
        {"id": 7}, {"kind": ""}, {"kind": "a b"}, {"kind": "echo\n"}, {"kind": "x" * 65},
        {"model": ""}, {"model": "x" * 201}, {"system": 1}, {"prompt": 1}, {"prompt": ["hi"]},
        {"max_tokens": 0}, {"max_tokens": 1.5}, {"max_tokens": True}, {"max_tokens": "9"},
        {"timeout": 0}, {"timeout": -1}, {"timeout": limits.TIMEOUT_MAX + 1}, {"timeout": "9"},
        {"max_attempts": 0}, {"max_attempts": limits.MAX_ATTEMPTS_LIMIT + 1},
        {"labels": {"a": 1}}, {"labels": ["a"]}, {"labels": {"a": "x" * 65}},
        {"labels": {"x" * 65: "a"}}, {"labels": {str(n): "" for n in range(17)}},
        {"not_before": "tomorrow"}, {"not_before": 1_700_000_000},
        {"not_before": "2026-01-01T00:00:00"}, {"not_before": "2026-01-01"},
    ],
    ids=lambda fields: str(fields)[:32],
)  # fmt: skip
def test_a_field_that_is_not_allowed(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask) as raised:
        task.parse_body(body(**{"prompt": "hi", **fields}), {})

    assert raised.value.reason in ("bad_field", "bad_id")
    assert next(iter(fields)) in str(raised.value)


def test_the_most_that_is_allowed() -> None:
    made = build(
        body(
            prompt="hi",
            id="Az09_-" + "x" * 58,
            kind="my.kind_1-a",
            timeout=limits.TIMEOUT_MAX,
            max_attempts=limits.MAX_ATTEMPTS_LIMIT,
            labels={f"{n:064}": "😀" * 64 for n in range(16)},
        )
    )
    assert (made.timeout, made.max_attempts) == (86_400, 100)
    assert len(made.labels) == 16


def test_not_before_reaches_6_days() -> None:
    now = datetime.now(UTC)
    ahead = timedelta(seconds=limits.HORIZON)
    within = (now + ahead - timedelta(minutes=5)).isoformat()
    assert build(body(prompt="hi", not_before=within)).not_before is not None
    assert build(body(prompt="hi", not_before="0001-01-01T00:00:00+14:00")).not_before is not None

    for beyond in ((now + ahead + timedelta(minutes=5)).isoformat(), "9999-12-31T23:59:59-14:00"):
        with pytest.raises(InvalidTask, match="more than 6 days ahead"):
            build(body(prompt="hi", not_before=beyond))


def test_what_is_left_out_has_a_default() -> None:
    assert build(b"hi") == task.Task(
        id="t", queue="q", priority=Priority.NORMAL, kind="claude", prompt="hi", timeout=600.0,
        max_attempts=5,
    )  # fmt: skip


def test_null_is_left_out() -> None:
    fields = dict.fromkeys(task.FIELDS)
    assert build(body(**{**fields, "prompt": "hi"})) == build(b"hi")


def test_a_kind_of_ones_own_may_take_nothing() -> None:
    assert build(body(kind="nightly", params={})).params == {}


def test_the_limits_of_a_kind_hold_where_the_task_names_none() -> None:
    defaults = {"slow": task.Defaults(timeout=9.0, max_attempts=2)}
    own = {"timeout": 5.0, "max_attempts": 7}

    def limits_of(**fields: Any) -> tuple[float, int]:
        parsed = task.parse_body(body(prompt="hi", **fields), {})
        made = task.build(parsed, {}, "default", Priority.NORMAL, "t", defaults)
        return made.timeout, made.max_attempts

    assert limits_of(kind="slow") == (9.0, 2)
    assert limits_of(kind="slow", **own) == (5.0, 7)
    assert limits_of(kind="other") == (limits.TIMEOUT_DEFAULT, limits.MAX_ATTEMPTS)


def test_params_may_stand_for_a_prompt() -> None:
    made = build(body(kind="sleep", params={"seconds": 2}))
    assert (made.prompt, made.params) == (None, {"seconds": 2})


def test_headers_fill_in_what_the_payload_leaves_out() -> None:
    headers = {
        subjects.KIND: "echo",
        subjects.MODEL: "m",
        subjects.LABELS: task.labels_header({"team": "x"}),
    }
    text = build(b"hi", headers)
    assert (text.kind, text.model, text.labels) == ("echo", "m", {"team": "x"})

    own = build(body(prompt="hi", kind="sleep", model="n", labels={}), headers)
    assert (own.kind, own.model, own.labels) == ("sleep", "n", {})


bodies = st.builds(
    TaskBody,
    prompt=st.text(min_size=1).filter(str.strip),
    kind=st.none() | st.from_regex(limits.KIND_PATTERN, fullmatch=True),
    id=st.none() | st.from_regex(limits.ID_PATTERN, fullmatch=True),
    system=st.none() | st.text(),
    max_tokens=st.none() | st.integers(1, 10**6),
    params=st.none() | st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
    timeout=st.none() | st.floats(0.001, limits.TIMEOUT_MAX),
    labels=st.none() | st.dictionaries(st.text(max_size=64), st.text(max_size=64), max_size=16),
    not_before=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(bodies)
def test_a_task_survives_the_wire(made: TaskBody) -> None:
    assert task.parse_body(task.encode_body(made), {}) == made


# ---------------------------------------------------------------- id


def test_the_id_is_the_first_that_is_given() -> None:
    headers = {subjects.ID: "of-header", subjects.MSG_ID: "of-nats"}
    parsed = TaskBody(prompt="hi", id="of-payload")

    def found(headers: dict[str, str], parsed: TaskBody | None) -> str:
        return task.task_id(headers, parsed, "default", 42, NS)

    assert found(headers, parsed) == "of-header"
    del headers[subjects.ID]
    assert found(headers, parsed) == "of-payload"
    assert found(headers, TaskBody(prompt="hi")) == "of-nats"
    assert found(headers, None) == "of-nats"
    assert found({}, None) == "default-42-loyw3v5n"


def test_a_derived_id_is_queue_sequence_and_milliseconds_in_base_36() -> None:
    text = task.derived_id("default", 42, NS)
    queue, sequence, stamp = text.split("-")
    assert (queue, sequence) == ("default", "42")
    assert int(stamp, 36) == NS // 1_000_000
    assert task.derived_id("default", 42, NS + 999) == text
    assert task.derived_id("q", 1, 0) == "q-1-0"


@given(
    queue=st.from_regex(limits.QUEUE_PATTERN, fullmatch=True),
    sequence=st.integers(1, 2**64 - 1),
    stored_ns=st.integers(0, 2**63 - 1),
)
def test_a_derived_id_is_an_id(queue: str, sequence: int, stored_ns: int) -> None:
    assert subjects.is_id(task.derived_id(queue, sequence, stored_ns))


@pytest.mark.parametrize("bad", ["", "a b", "p.17", "x" * 65, "é"])
def test_a_bad_id_is_an_error_and_the_task_fails_under_the_derived_one(bad: str) -> None:
    headers = {subjects.ID: bad, subjects.MSG_ID: "of-nats"}
    with pytest.raises(InvalidTask) as raised:
        task.given_id(headers, None)

    assert raised.value.reason == "bad_id"
    assert task.task_id(headers, None, "q", 1, NS) == task.derived_id("q", 1, NS)


@pytest.mark.parametrize("unusable", ["", "a b", "p.17", "x" * 65])
def test_an_unusable_message_id_is_no_id(unusable: str) -> None:
    assert task.given_id({subjects.MSG_ID: unusable}, None) is None


# ---------------------------------------------------------------- Follows, Needs, labels


@pytest.mark.parametrize(("text", "sequence"), [("0", 0), ("7", 7), (str(2**63 - 1), 2**63 - 1)])
def test_follows(text: str, sequence: int) -> None:
    assert task.follows({subjects.FOLLOWS: text}) == sequence


def test_an_original_follows_0() -> None:
    assert task.follows({}) == 0


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.0", "1e3", " 1", "0x1", "1_0", "many", "٣", "²", "9" * 20]
)
def test_follows_nonsense(text: str) -> None:
    with pytest.raises(InvalidTask, match=subjects.FOLLOWS):
        task.follows({subjects.FOLLOWS: text})


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        (None, []), ("", []), (" ", []), (",", []), ("waits", ["waits"]),
        ("a,b", ["a", "b"]), (" a , b ,", ["a", "b"]),
    ],
)  # fmt: skip
def test_abilities_this_version_lacks(needs: str | None, missing: list[str]) -> None:
    assert task.missing_abilities({} if needs is None else {subjects.NEEDS: needs}) == missing


def test_abilities_this_version_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "ABILITIES", frozenset({"a"}))
    assert task.missing_abilities({subjects.NEEDS: "a,b"}) == ["b"]


@given(st.dictionaries(st.text(max_size=64), st.text(max_size=64), max_size=16))
def test_labels_travel_in_an_ascii_header(labels: dict[str, str]) -> None:
    header = task.labels_header(labels)
    assert header.isascii()
    assert "\n" not in header
    assert "\r" not in header
    assert task.labels_from(header) == labels


def test_labels_beyond_the_basic_plane_are_surrogate_pairs() -> None:
    assert task.labels_header({"é": "😀"}) == '{"\\u00e9":"\\ud83d\\ude00"}'


@pytest.mark.parametrize(
    "header",
    [
        None, "", "{", "[]", "1", "{}x", '{"a":1}', '{"a":"\\ud800"}', "[" * 100_000, "\ud800",
        task.labels_header({str(n): "" for n in range(17)}), task.labels_header({"a": "x" * 65}),
    ],
    ids=lambda header: str(header)[:12].encode("ascii", "backslashreplace").decode(),
)  # fmt: skip
def test_a_header_without_labels(header: str | None) -> None:
    assert task.labels_from(header) == {}
