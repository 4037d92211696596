"""Bytes in, answer out: every shape of a stream that gateways, older and newer APIs send."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from agentflow.handlers.claude.message import Message, Refused, well_formed
from agentflow.handlers.claude.reader import Reader, Unreadable
from agentflow.handlers.contract import Outcome
from agentflow.protocol.record import Usage
from agentflow.rules.routes.usage import billed, counts, kept

Object = dict[str, Any]


def start(**more: Any) -> Object:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 100, "output_tokens": 1},
    }
    return {"type": "message_start", "message": message | more}


def block(index: int = 0, **body: Any) -> Object:
    body = body or {"type": "text", "text": ""}
    return {"type": "content_block_start", "index": index, "content_block": body}


def delta(kind: str, index: Any = 0, **more: Any) -> Object:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def text(piece: Any, index: Any = 0) -> Object:
    return delta("text_delta", index, text=piece)


def stop(index: int = 0) -> Object:
    return {"type": "content_block_stop", "index": index}


def end(reason: str | None = "end_turn", **usage: Any) -> Object:
    usage = usage or {"output_tokens": 50}
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


USAGE: Object = {"input_tokens": 100, "output_tokens": 50}
DONE: Object = {"type": "message_stop"}
PING: Object = {"type": "ping"}
WHOLE = [start(), PING, block(), text("Hello, "), text("Wörld"), stop(), end(), DONE]


def frame(event: Object | bytes, name: bool = True) -> bytes:
    if isinstance(event, bytes):
        return event
    head = f"event: {event['type']}\n" if name else ""
    return f"{head}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode(
        "utf-8", "surrogatepass"
    )


def stream(*events: Object | bytes, name: bool = True) -> bytes:
    return b"".join(frame(event, name) for event in events)


def read(body: bytes, size: int | None = None) -> tuple[Message, list[str]]:
    """The message in a body that comes in pieces of so many bytes, and the texts shown of it."""
    reader, message = Reader(), Message()
    shown: list[str] = []
    size = size or len(body) or 1
    try:
        for at in range(0, len(body), size):
            for event in reader.feed(body[at : at + size]):
                shown.append(message.take(*event) or "")
        for event in reader.end():
            shown.append(message.take(*event) or "")
    except (Refused, Unreadable):
        if not message.ended:  # as the handler does
            raise
    return message, [piece for piece in shown if piece]


def with_lines(ends: bytes) -> bytes:
    return stream(*WHOLE).replace(b"\n", ends)


HELLO = Outcome(text="Hello, Wörld", stop_reason="end_turn")
PRETTY = json.dumps(text("Hello, "), indent=1).encode()

SAME: dict[str, bytes] = {
    "as the API sends it": stream(*WHOLE),
    "no names of events": stream(*WHOLE, name=False),
    "CRLF": with_lines(b"\r\n"),
    "CR": with_lines(b"\r"),
    "a byte order mark": b"\xef\xbb\xbf" + stream(*WHOLE),
    "blank lines before and between": b"\n\n" + stream(*WHOLE).replace(b"\n\n", b"\n\n\n\n"),
    "no blank line at the end": stream(*WHOLE)[:-1],
    "no line end at the end": stream(*WHOLE)[:-2],
    "no blank lines at all": stream(*WHOLE).replace(b"\n\n", b"\n"),
    "no blank after the colon": stream(*WHOLE).replace(b": ", b":", 0).replace(b"data: ", b"data:"),
    "blanks before the fields": stream(*WHOLE).replace(b"data: ", b"  data: "),
    "comments": b": hello\n\n" + stream(*WHOLE).replace(b"data: ", b": keep-alive\ndata: "),
    "ids and retries": stream(*WHOLE).replace(b"event: ", b"id: 7\nretry: 10\nevent: "),
    "data over several lines": stream(
        *WHOLE[:3], b"data: " + PRETTY.replace(b"\n", b"\ndata: ") + b"\n\n", *WHOLE[4:]
    ),
    "data after its name only": stream(
        *(frame(event).replace(f'"type": "{event["type"]}", '.encode(), b"") for event in WHOLE)
    ),
    "an event without data": stream(*WHOLE[:4], b"event: message_delta\n\n", *WHOLE[4:]),
    "another name than its type": stream(*WHOLE).replace(b"event: content", b"event: message"),
    "[DONE] at the end": stream(*WHOLE, b"data: [DONE]\n\n"),
    "[DONE] instead of message_stop": stream(*WHOLE[:-1], b"data: [DONE]\n\n"),
    "garbage after the end": stream(*WHOLE, b"data: {garbage\n\n<html>"),
    "an error after the end": stream(*WHOLE, {"type": "error", "error": {"type": "api_error"}}),
    "a second answer after the end": stream(*WHOLE, *WHOLE),
    "the end twice": stream(*WHOLE, DONE),
    "its reason to stop, and the end": stream(*WHOLE[:-1]),
    "its reason to stop, and an error": stream(
        *WHOLE[:-1], b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    ),
    "pings everywhere": stream(*(one for event in WHOLE for one in (event, PING))),
    "keep-alives that are no JSON": stream(*WHOLE[:4], b"data: keep-alive\n\n", *WHOLE[4:]),
    "null where nothing belongs": stream(*WHOLE[:4], b"event: ping\ndata: null\n\n", *WHOLE[4:]),
    "the start twice": stream(WHOLE[0], *WHOLE),
    "the start twice, within": stream(*WHOLE[:4], WHOLE[0], *WHOLE[4:]),
    "no start": stream(*WHOLE[1:]),
    "a start without a message": stream({"type": "message_start"}, *WHOLE[1:]),
    "a start with null for everything": stream(
        start(id=None, model=None, content=None, usage=None), *WHOLE[1:]
    ),
    "no start of the block": stream(*WHOLE[:2], *WHOLE[3:]),
    "the block's start twice": stream(*WHOLE[:4], block(), *WHOLE[4:]),
    "a block that is null": stream(
        start(), {"type": "content_block_start", "index": 0, "content_block": None}, *WHOLE[3:]
    ),
    "a block whose text is null": stream(start(), block(type="text", text=None), *WHOLE[3:]),
    "no end of the block": stream(*WHOLE[:5], *WHOLE[6:]),
    "text null": stream(*WHOLE[:4], text(None), *WHOLE[4:]),
    "text that is a number": stream(*WHOLE[:4], text(7), *WHOLE[4:]),
    "a delta without a type": stream(
        *WHOLE[:3],
        {"type": "content_block_delta", "index": 0, "delta": {"text": "Hello, "}},
        *WHOLE[4:],
    ),
    "a delta by another name": stream(*WHOLE[:3], delta("text", text="Hello, "), *WHOLE[4:]),
    "a delta whose type is no text": stream(
        *WHOLE[:3], delta("x", text="Hello, ") | {"delta": {"type": [], "text": "Hello, "}},
        *WHOLE[4:],
    ),
    "a delta that is null": stream(
        *WHOLE[:4], {"type": "content_block_delta", "index": 0, "delta": None}, *WHOLE[4:]
    ),
    "an index that is null": stream(*WHOLE[:3], text("Hello, ", None), *WHOLE[4:]),
    "an index that is text": stream(*WHOLE[:3], text("Hello, ", "0"), *WHOLE[4:]),
    "unknown events": stream(
        {"type": "weather"}, *WHOLE[:4], {"type": "sun", "error": None}, *WHOLE[4:]
    ),
    "a delta of the message without any": stream(
        *WHOLE[:4], {"type": "message_delta", "delta": None, "usage": None}, *WHOLE[4:]
    ),
    "unknown fields": stream(*(event | {"new": [1, {"a": None}]} for event in WHOLE)),
    "the whole as one object": json.dumps(
        start(content=[{"type": "text", "text": "Hello, Wörld"}], stop_reason="end_turn")["message"]
    ).encode(),
    "the whole, indented, with a mark": b"\xef\xbb\xbf \n"
    + json.dumps(
        start(content="Hello, Wörld", stop_reason="end_turn")["message"],
        indent=2,
    ).encode()
    + b"\n",
    "the whole, with its content as text": json.dumps(
        start(content="Hello, Wörld", stop_reason="end_turn")["message"]
    ).encode(),
    "the whole, and garbage": json.dumps(
        start(content="Hello, Wörld", stop_reason="end_turn")["message"]
    ).encode()
    + b"\n\n--boundary--",
    "the whole within a stream": stream(
        start(content="Hello, Wörld", stop_reason="end_turn")["message"], DONE
    ),
    "a line of JSON an event": b"".join(
        json.dumps(event).encode() + b"\n" for event in WHOLE
    ),
    "a list of events": json.dumps(WHOLE).encode(),
}  # fmt: skip


@pytest.mark.parametrize("size", [None, 1, 7], ids=["at once", "byte by byte", "by sevens"])
@pytest.mark.parametrize("name", SAME)
def test_one_answer_in_many_shapes(name: str, size: int | None) -> None:
    message, shown = read(SAME[name], size)
    assert message.ended
    assert message.begun
    assert message.outcome() == HELLO
    assert "".join(shown) == HELLO.text


def tool(*pieces: str, **more: Any) -> list[Object]:
    began = block(type="tool_use", id="toolu_1", name="weather", input={}, **more)
    return [began, *(delta("input_json_delta", partial_json=piece) for piece in pieces), stop()]


def tool_use(given: Any) -> Object:
    return {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": given}


CONTENT: dict[str, tuple[list[Object], list[Object]]] = {
    "a tool": (tool("", '{"city": "Z', 'ürich"}'), [tool_use({"city": "Zürich"})]),
    "a tool without input": (tool(""), [tool_use({})]),
    "a tool whose input was cut": (tool('{"a": "b'), [tool_use('{"a": "b')]),
    "a tool whose input is no object": (tool("[1]"), [tool_use([1])]),
    "a tool with a number of 40 digits": (
        tool('{"n": 1' + "0" * 39 + "}"),
        [tool_use({"n": 10**39})],
    ),
    "a tool whose input is no text": (
        [*tool()[:1], delta("input_json_delta", partial_json={"a": "ü"})],
        [tool_use({"a": "ü"})],
    ),
    "a tool with NaN": (tool('{"n": NaN}'), [tool_use({"n": None})]),
    "a tool without its start": (
        tool('{"a": 1}')[1:],
        [{"type": "tool_use", "input": {"a": 1}}],
    ),
    "thinking, then text": (
        [
            block(type="thinking", thinking="", signature=""),
            delta("thinking_delta", thinking="Hm"),
            delta("thinking_delta", thinking="m."),
            delta("signature_delta", signature="s1"),
            stop(),
            block(1),
            text("Yes", 1),
        ],
        [
            {"type": "thinking", "thinking": "Hmm.", "signature": "s1"},
            {"type": "text", "text": "Yes"},
        ],
    ),
    "thinking, then text, both at index 0": (
        [
            block(type="thinking", thinking=""),
            delta("thinking_delta", thinking="Hmm."),
            stop(),
            block(),
            text("Yes"),
        ],
        [{"type": "thinking", "thinking": "Hmm."}, {"type": "text", "text": "Yes"}],
    ),
    "text into a block of thinking": (
        [block(type="thinking", thinking=""), delta("thinking_delta", thinking="Hm"), text("Yes")],
        [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Yes"}],
    ),
    "thinking without a start": (
        [delta("thinking_delta", thinking="Hm"), delta("signature_delta", signature="s")],
        [{"type": "thinking", "thinking": "Hm", "signature": "s"}],
    ),
    "citations": (
        [block(type="text", text="A"), delta("citations_delta", citation={"cited_text": "b"})],
        [{"type": "text", "text": "A", "citations": [{"cited_text": "b"}]}],
    ),
    "a compaction": (
        [
            block(type="compaction", content=None),
            delta("compaction_delta", content="In short"),
            stop(),
            block(1),
            text("Yes", 1),
        ],
        [{"type": "compaction", "content": "In short"}, {"type": "text", "text": "Yes"}],
    ),
    "what a later API may send": (
        [block(type="hologram", size=3), delta("hologram_delta", points=[1]), text("x")],
        [
            {
                "type": "hologram",
                "size": 3,
                "deltas": [{"type": "hologram_delta", "points": [1]}],
                "text": "x",
            }
        ],
    ),
    "two texts": (
        [block(), text("A"), stop(), block(1), text("B", 1)],
        [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}],
    ),
    "blocks whose deltas are mixed": (
        [block(), block(1), text("A"), text("B", 1), text("a"), text("b", 1)],
        [{"type": "text", "text": "Aa"}, {"type": "text", "text": "Bb"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENT)
def test_content(name: str) -> None:
    events, content = CONTENT[name]
    message, _ = read(stream(start(), *events, end(), DONE), 5)
    outcome = message.outcome()
    assert json.loads(msgspec.json.encode(outcome.content)) == content
    texts = [one["text"] for one in content if one["type"] == "text"]
    assert outcome.text == ("".join(texts) if texts else None)


HALVES = "\\ud83d", "\\ude00"


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["a\\ud83d\\ude00b"], "a😀b"),
        (["a\\ud83d", "\\ude00b"], "a😀b"),
        (["a\\ud83d", "b"], "a�b"),
        (["\\ude00b"], "�b"),
        (["a\\ud83d"], "a�"),
        (["a\\ud83d", "\\ud83d", "\\ude00"], "a�😀"),
        (["a\\ud83d", "", "\\ude00"], "a😀"),
        (["a\xffb"], "a�b"),
        (["a\x01b"], "a\x01b"),
        (["a\x00b"], "a\x00b"),
    ],
)
def test_text_that_is_no_utf_8(pieces: list[str], whole: str) -> None:
    frames = [
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
        + piece.encode("latin-1")
        + b'"}}\n\n'
        for piece in pieces
    ]
    for size in (None, 1):
        message, shown = read(stream(start(), block(), *frames, end(), DONE), size)
        assert message.outcome().text == whole
        assert "".join(shown).rstrip("�") == whole.rstrip("�")
        assert all(piece.encode() for piece in shown)


@pytest.mark.parametrize("character", ["ü", "世", "😀"])
def test_a_character_may_lie_in_two_pieces_of_the_body(character: str) -> None:
    body = stream(start(), block(), text(character * 3), end(), DONE)
    for size in range(1, 9):
        assert read(body, size)[0].outcome().text == character * 3


REFUSED: dict[str, tuple[bytes, str | None]] = {
    "an error in the stream": (
        stream(start(), block(), {"type": "error", "error": {"type": "overloaded_error"}}),
        "overloaded_error",
    ),
    "named by the event alone": (
        stream(start()) + b'event: error\ndata: {"error": {"type": "api_error"}}\n\n',
        "api_error",
    ),
    "named by the event, its type beside the text": (
        b'event: error\ndata: {"type": "overloaded_error", "message": "no"}\n\n',
        "overloaded_error",
    ),
    "as an object": (b'{"type":"error","error":{"type":"api_error","message":"no"}}', "api_error"),
    "as another API words it": (b'{"error": {"message": "no", "code": 7}}', None),
    "as another API words it, in the stream": (
        stream(start(), b'data: {"error": {"message": "no"}}\n\n'),
        None,
    ),
    "as text": (stream(start(), b"event: error\ndata: upstream timed out\n\n"), None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_instead_of_the_rest(name: str) -> None:
    body, kind = REFUSED[name]
    with pytest.raises(Refused) as caught:
        read(body)
    error = caught.value.error.get("error", caught.value.error)
    assert error.get("type") == kind


@pytest.mark.parametrize(
    "broken",
    [
        b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n',
        b'data: {"type":"content_block_delta","ind\n\n',
        b"event: content_block_delta\ndata: null\n\n",
        b"event: message_delta\ndata: []\n\n",
        b"data: " + b'{"a":' * 100_000 + b"\n\n",
    ],
)
def test_a_hole_in_the_answer_is_no_answer(broken: bytes) -> None:
    with pytest.raises(Unreadable):
        read(stream(*WHOLE[:4], broken, *WHOLE[4:]))


@pytest.mark.parametrize(
    ("body", "begun"),
    [
        (b"", False),
        (b"\n\n", False),
        (stream(PING, PING), False),
        (stream(DONE), False),
        (b"<html><body>Log in</body></html>", False),
        (b"Bad gateway\n\n", False),
        (b'{"choices": []}', False),
        (b"[1, 2]", False),
        (b"null", False),
        (stream(*WHOLE[:4]), True),
        (stream(*WHOLE[:4], end(None)), True),
        (stream(*WHOLE[:4])[:-9], True),
    ],
)
def test_what_is_no_whole_answer(body: bytes, begun: bool) -> None:
    for size in (None, 1):
        message, _ = read(body, size)
        assert (message.ended and message.begun, message.begun) == (False, begun)


def test_a_gateway_that_begins_anew_with_another_answer() -> None:
    message, _ = read(stream(*WHOLE[:4], start(id="msg_2"), *WHOLE[2:]))
    assert message.outcome() == HELLO
    assert "restarted" in message.missing(counts(message.told))


@pytest.mark.parametrize(
    ("events", "missing"),
    [
        (WHOLE, []),
        (WHOLE[1:], ["message_start", "model", "input_tokens"]),
        (WHOLE[:-1], ["message_stop"]),
        ([*WHOLE[:2], *WHOLE[3:]], ["content_block_start"]),
        ([start(usage=None), *WHOLE[1:]], ["input_tokens"]),
        ([*WHOLE[:6], end() | {"usage": None}, DONE], ["output_tokens"]),
        ([*WHOLE[:6], end(output_tokens=0), DONE], []),
        ([start(usage={}), *WHOLE[1:6], end(output_tokens=0), DONE],
         ["input_tokens", "output_tokens"]),
        ([*WHOLE[:6], DONE], ["stop_reason", "output_tokens"]),
    ],
)  # fmt: skip
def test_what_was_left_out_is_named(events: list[Object], missing: list[str]) -> None:
    message, _ = read(stream(*events))
    assert message.missing(counts(message.told)) == missing


@pytest.mark.parametrize(
    "events",
    [
        [*WHOLE[:6], end() | {"usage": None, "delta": {"stop_reason": "a", "usage": USAGE}}, DONE],
        [*WHOLE[:6], end() | {"usage": None}, DONE | {"usage": USAGE}],
        [{"type": "message_start", "model": "m", "usage": USAGE}, *WHOLE[1:6], end(), DONE],
        [start(usage=None), *WHOLE[1:6], end(**USAGE), DONE],
    ],
)
def test_usage_wherever_it_stands(events: list[Object]) -> None:
    message, _ = read(stream(*events))
    assert counts(message.told) == Usage(100, 50)
    assert message.missing(counts(message.told)) == []


def test_huge_events_do_not_cost_the_square_of_their_size() -> None:
    import time

    body = stream(start(), block(), text("x" * 8_000_000), end(), DONE)
    began = time.process_time()
    message, _ = read(body, 4_096)
    assert time.process_time() - began < 2.0
    assert len(message.outcome().text or "") == 8_000_000


def test_what_is_fit_for_a_record() -> None:
    given = {"\ud83d": ["\ud83d\ude00", 2**70, True, None, 1.5]}
    fit = {"�": ["😀", 2**70, True, None, 1.5]}
    assert well_formed(given) == fit
    msgspec.json.encode(fit)


ODD: list[Any] = [None, 0, -1, 1e300, "x", [], {}, [1], {"a": 1}, True, 10**30, "\ud83d", [{}]]


def damaged(thing: Any, chance: random.Random) -> Any:
    """The object with some of its fields missing or replaced."""
    if isinstance(thing, dict):
        return {
            name: chance.choice(ODD) if chance.random() < 0.08 else damaged(value, chance)
            for name, value in thing.items()
            if chance.random() > 0.04
        }
    return [damaged(one, chance) for one in thing] if isinstance(thing, list) else thing


def damaged_bytes(body: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged))
        cut = chance.choice([0, 1, chance.randint(1, 30)])
        damaged[at : at + cut] = chance.choice([b"", b"\n", b"\r", b"\n\n", b"{", b"\xff", b"null"])
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(20))
def test_no_damage_is_an_accident_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    streams = [WHOLE, *([start(), *events, end(), DONE] for events, _ in CONTENT.values())]
    for _ in range(100):
        events = [json.dumps(damaged(event, chance)) for event in chance.choice(streams)]
        bodies = [
            b"".join(b"data: " + event.encode() + b"\n\n" for event in events),
            damaged_bytes(chance.choice(list(SAME.values())), chance),
        ]
        for body in bodies:
            try:
                message, shown = read(body, chance.choice([None, 1, 13]))
            except (Refused, Unreadable):
                continue
            bought = billed(message.model or "", message.told)
            "".join(shown).encode()
            msgspec.json.encode([message.outcome(), bought.usage, kept(message.told)])
            message.missing(bought.usage)
