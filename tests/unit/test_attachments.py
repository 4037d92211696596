"""Local files in a conversation are read where it is submitted, and nowhere else."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentflow.attachments import Folder, media_type
from agentflow.errors import InvalidInput, InvalidTask, UsageError
from agentflow.job.source import Reading, Source
from agentflow.protocol import limits

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
PDF = b"%PDF-1.7\n\0\1\2"


def params(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}], "top_k": 1}


def image(path: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image", "path": path, **more}


def document(path: Any, **more: Any) -> dict[str, Any]:
    return {"type": "document", "path": path, **more}


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0x", "image/jpeg"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (PDF, "application/pdf"),
        (b"\n\n%PDF-1.4", "application/pdf"),
        ("grüß".encode(), "text/plain"),
        ("grüß".encode("latin-1"), None),
        (b"BM\0\0", None),
    ],
)
def test_a_file_is_what_it_holds_and_not_what_it_is_called(data: bytes, media: str | None) -> None:
    assert media_type(data) == media


def test_files_are_put_in_the_place_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(PNG)
    (tmp_path / "b").write_bytes(PDF)
    (tmp_path / "c.pdf").write_text("\ufeffplain")
    text = {"type": "text", "text": "what is this?"}
    cached = {"type": "ephemeral"}
    before = params(
        image("a.txt", cache_control=cached), document("b", title="B"), document("c.pdf"), text
    )
    given = json.dumps(before)
    after = Folder(tmp_path).attached(None, before)
    assert json.dumps(before) == given, "what was given is not changed"
    assert after is not None
    assert after["top_k"] == 1
    assert after["messages"][0]["content"] == [
        {
            "type": "image",
            "cache_control": cached,
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": base64.b64encode(PNG).decode(),
            },
        },
        {
            "type": "document",
            "title": "B",
            "source": {
                "type": "base64",
                "media_type": "application/pdf",
                "data": base64.b64encode(PDF).decode(),
            },
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "plain"},
        },
        text,
    ]


def test_a_tools_result_may_hold_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image("a.png")]}
    after = Folder(tmp_path).attached("claude", params(result))
    assert after is not None
    assert after["messages"][0]["content"][0]["content"][0]["source"]["media_type"] == "image/png"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("mine", params(image("a.png"))),
        (None, None),
        (None, {}),
        (None, {"messages": "text"}),
        (None, {"messages": [{"role": "user", "content": "path"}, 5]}),
        (None, params({"type": "text", "path": "a.png"}, {"path": "a.png"}, 5)),
    ],
)
def test_what_names_no_file_stays_as_it_is(tmp_path: Path, kind: str | None, given: Any) -> None:
    assert Folder(tmp_path).attached(kind, given) is given


def test_what_cannot_be_attached_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.pdf").write_bytes(PDF)
    (tmp_path / "empty.png").touch()
    (tmp_path / "noise").write_bytes(b"\0\1")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(limits.PAYLOAD_BYTES)
    folder = Folder(tmp_path)
    for block, said in (
        (image("absent.png"), "cannot read .*absent.png: No such file"),
        (image("."), "is no ordinary file"),
        (image("pipe"), "is no ordinary file"),
        (image("empty.png"), "is empty"),
        (image("huge.png"), "has 33,554,432 bytes, and a request with it more than"),
        (image("b.pdf"), "is application/pdf, and image takes a JPEG"),
        (document("a.png"), "is image/png, and document takes a PDF"),
        (document("noise"), "is none of these"),
        (image(""), "path is '', not the name of a file"),
        (image(5), "path is 5, not the name of a file"),
        (image("a\0b"), "not the name of a file"),
        (image("a.png", source={"type": "url"}), "both a path and a source"),
    ):
        with pytest.raises(InvalidTask, match=rf"params.messages\[0\].content\[1\].*{said}"):
            folder.attached(None, params({"type": "text", "text": "x"}, block))


def jsonl(path: Path, *tasks: dict[str, Any]) -> Source:
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return Source(str(path), io.BytesIO(), Reading())


def test_in_a_file_of_tasks_they_stand_beside_it_and_faults_have_their_lines(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    source = jsonl(tmp_path / "q.jsonl", params(image("a.png")), {"params": params(image("a.png"))})
    first, second = source
    assert first.body.params is not None
    assert second.body.params is not None
    assert first.body.params["messages"] == second.body.params["messages"]
    with pytest.raises(InvalidInput) as caught:
        jsonl(
            tmp_path / "bad.jsonl",
            {"prompt": "fine"},
            params(image("absent.png")),
            params(image("a.png")),
            params(document("a.png")),
        )
    assert [line for line, _ in caught.value.problems] == [2, 4]


def test_another_image_is_another_request(tmp_path: Path) -> None:
    ids = []
    for data in (PNG, PNG + b"x"):
        (tmp_path / "a.png").write_bytes(data)
        (item,) = jsonl(tmp_path / "q.jsonl", params(image("a.png")))
        ids.append(item.id)
    assert ids[0] != ids[1]


def test_a_file_that_changes_after_it_was_checked_ends_the_job(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    source = jsonl(tmp_path / "q.jsonl", params(image("a.png")))
    (tmp_path / "a.png").write_bytes(PNG + b"x")
    with pytest.raises(UsageError, match="has changed since it was checked"):
        list(source)
