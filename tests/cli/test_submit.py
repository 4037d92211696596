"""`submit`, with a worker and without a master."""

import gzip
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentflow.protocol import limits, subjects
from tests.cli.conftest import Here, environment, run
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.usefixtures("nats", "worker")


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_the_id_is_all_that_is_printed(cli: Here) -> None:
    cli("submit", "warm up", "--kind", "echo", "--wait")
    done = cli("submit", "Write a haiku", "--kind", "echo")
    assert (done.code, done.err) == (0, "")
    assert subjects.is_id(done.out.strip())
    assert cli("get", done.out.strip(), "--wait").code == 0


def test_wait_prints_the_answer(cli: Here) -> None:
    done = cli("submit", "hé 世界\nzwei", "--kind", "echo", "--wait")
    assert (done.code, done.out) == (0, "hé 世界\nzwei\n")
    assert subjects.is_id(done.err.strip())


def test_stream_prints_it_once(cli: Here) -> None:
    done = cli("submit", "streamed or not", "--kind", "echo", "--stream")
    assert (done.code, done.out) == (0, "streamed or not\n")


def test_wait_ends_with_1_when_the_task_fails(cli: Here) -> None:
    done = cli("submit", "x", "--kind", "no-such-kind", "--wait", "--id", "fails-1")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("agentflow: task fails-1 failed (unknown_kind): ")


@pytest.mark.parametrize("option", ["--id", "--at", "--in", "--deadline", "--kind", "--model"])
def test_an_empty_value_is_not_left_out(cli: Here, option: str) -> None:
    done = cli("submit", "--kind", "echo", "x", option, "")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1, done.err


@pytest.mark.parametrize("option", ["--param", "--label"])
def test_what_is_given_twice_is_not_dropped(cli: Here, option: str) -> None:
    done = cli("submit", "--kind", "echo", "x", option, "a=1", option, "a=2")
    assert done.code == 2
    assert "'a' is given twice" in done.err


def test_the_history_of_a_task(cli: Here) -> None:
    cli("submit", "x", "--kind", "no-such-kind", "--wait", "--id", "history-1")
    done = cli("get", "history-1", "--history")
    assert [line.split()[2] for line in done.out.splitlines() if line.startswith("2")][
        -1
    ] == "failed"
    assert "    unknown_kind: no handler for kind" in done.out
    (line,) = cli("get", "history-1", "--history", "--json").lines
    assert line["history"][-1]["state"] == line["state"] == "failed"
    assert cli("get", "history-1", "--history", "--wait").code == 2


def test_json(cli: Here) -> None:
    (line,) = cli("submit", "x", "--kind", "echo", "--queue", "second", "--json").lines
    assert set(line) == {"id", "queue", "priority", "sequence"}
    assert line["queue"] == "second"
    assert line["sequence"] > 0
    (line,) = cli("submit", "x", "--kind", "echo", "--wait", "--json").lines
    assert (line["state"], line["text"], line["attempts"]) == ("succeeded", "x", 1)
    done = cli("submit", "x", "--kind", "no-such-kind", "--wait", "--json")
    assert done.code == 1
    assert done.lines[-1]["error"]["type"] == "unknown_kind"
    lines = cli("submit", "x", "--kind", "echo", "--stream", "--json").lines
    assert lines[-1]["state"] == "succeeded"


def test_from_a_file_and_from_standard_input(
    cli: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt.txt").write_text("from a file\nof two lines")
    done = cli("submit", "--file", str(tmp_path / "prompt.txt"), "--kind", "echo", "--wait")
    assert done.out == "from a file\nof two lines\n"
    stdin(monkeypatch, b"from a pipe")
    assert cli("submit", "-", "--kind", "echo", "--wait").out == "from a pipe\n"
    stdin(monkeypatch, b"again")
    assert cli("submit", "--file", "-", "--kind", "echo", "--wait").out == "again\n"


def test_a_task_as_json_and_options_before_it(cli: Here) -> None:
    task = {"prompt": "of json", "kind": "sleep", "id": "js-1", "labels": {"a": "1", "b": "2"}}
    done = cli(
        "submit",
        json.dumps(task),
        *("--kind", "echo", "--label", "b=3", "--label", "c=4", "--wait", "--json"),
    )
    (line,) = done.lines
    assert (line["id"], line["text"]) == ("js-1", "of json")
    assert line["labels"] == {"a": "1", "b": "3", "c": "4"}


def test_text_takes_a_brace_as_it_is(cli: Here) -> None:
    done = cli("submit", "--text", "{not json", "--kind", "echo", "--wait")
    assert done.out == "{not json\n"
    done = cli("submit", "{not json", "--kind", "echo")
    assert done.code == 2
    assert "(--text takes it as a prompt)" in done.err


def test_parameters_without_a_prompt(cli: Here) -> None:
    done = cli("submit", "--kind", "sleep", "--param", "seconds=0.01", "--wait", "--json")
    assert done.code == 0
    assert done.lines[0]["state"] == "succeeded"


def test_not_before(cli: Here) -> None:
    (line,) = cli(
        "submit", "later", "--kind", "echo", "--not-before", "0.5s", "--wait", "--json"
    ).lines
    submitted = datetime.fromisoformat(line["timings"]["submitted"])
    started = datetime.fromisoformat(line["timings"]["started"])
    assert started - submitted > timedelta(seconds=0.3)
    moment = (datetime.now(UTC) + timedelta(seconds=0.2)).isoformat()
    assert cli("submit", "x", "--kind", "echo", "--not-before", moment, "--wait").code == 0


def test_a_queue_that_nobody_serves_is_named(cli: Here) -> None:
    done = cli("submit", "x", "--queue", "nobody")
    assert done.code == 0
    assert subjects.is_id(done.out.strip())
    assert done.err == (
        "agentflow: no worker serves the queue nobody; the task waits until one does "
        "(agentflow worker --queues nobody)\n"
    )
    done = cli("submit", "x", "--queue", "nobody", "--json")
    assert "no worker serves" in done.err
    assert len(done.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "there is no task"),
        (["a", "--file", "b"], "not both"),
        (["--file", "no such file"], "cannot read no such file: No such file or directory"),
        (["x", "--id", "a.b"], "id 'a.b' is not allowed"),
        (["x", "--id", "a\x1b[2Jb"], "is not allowed"),
        (["x", "--queue", "Up"], "queue 'Up' is not allowed"),
        (["x", "--label", "novalue"], "not of the form name=value"),
        (["x", "--param", "=v"], "not of the form name=value"),
        (["x", "--timeout", "soon"], "not a duration"),
        (["x", "--timeout", "3d"], "$.timeout"),
        (["x", "--not-before", "soon"], "neither a duration"),
        (["x", "--not-before", "2099-01-01"], "6 days ahead"),
        (["x", "--kind", "no kind"], "$.kind"),
        (['{"prompt": "x", "max_token": 5}'], "unknown field `max_token`; allowed are prompt"),
        (['{"prompt": 7}'], "$.prompt"),
        (["   "], "needs a prompt"),
        (["x", "--context", "nowhere"], "no context 'nowhere'"),
        (["x", "--creds", "/no/file"], "there is no file /no/file"),
        (["x", "--nats", "nats://[bad"], "cannot reach NATS at nats://[bad"),
    ],
)
def test_what_is_wrong_is_said(cli: Here, arguments: list[str], text: str) -> None:
    done = cli("submit", *arguments)
    assert done.code == (3 if "cannot reach" in text else 2)
    assert done.out == ""
    assert text in done.err
    assert "\x1b" not in done.err


def test_a_file_that_is_no_text(cli: Here, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"abc\xff")
    done = cli("submit", "--file", str(tmp_path / "image"))
    assert (done.code, done.err) == (
        2,
        f"agentflow: {tmp_path / 'image'} is not UTF-8 text (byte 3)\n",
    )


def test_a_file_of_many_tasks(cli: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,n\none,1\ntwo,2\n")
    done = cli("submit", "--file", str(rows), "--prompt", "Say {text}", "--kind", "echo")
    assert done.code == 0, done.err
    assert "rows.csv: 2 tasks, read as CSV" in done.err
    first, second = done.out.splitlines()
    assert first != second
    # Without a master a task is found as soon as a worker has seen it.
    while not (shown := cli("get", second, "--json")).out:
        assert "or still queued" in shown.err
    while shown.lines[0]["state"] != "succeeded":
        assert shown.code == 0
        shown = cli("get", second, "--json")
    assert shown.lines[0]["text"] == "Say two"

    lines = b'{"prompt": "a", "id": "many-1"}\n{"prompt": "b"}\n'
    stdin(monkeypatch, lines)
    done = cli("submit", "-", "--kind", "echo", "--json")
    assert [line["line"] for line in done.lines] == [1, 2]
    assert done.lines[0]["id"] == "many-1"

    assert cli("submit", "--file", str(rows), "--prompt", "{text}", "--wait").code == 2
    assert "no column is called prompt" in cli("submit", "--file", str(rows)).err
    (tmp_path / "a.txt").write_bytes("eins\nzwei\n".encode("utf-16-le"))
    assert "UTF-16 without" in cli("submit", "--file", str(tmp_path / "a.txt")).err
    done = cli("submit", "--file", str(tmp_path / "a.txt"), "--text")
    assert done.code == 2


def test_a_schema_for_one_task_or_for_all_of_a_file(cli: Here, tmp_path: Path) -> None:
    schema, rows = tmp_path / "s.json", tmp_path / "rows.jsonl"
    schema.write_text('{"type": "object"}')
    rows.write_text('{"prompt": "a", "kind": "echo"}\n{"prompt": "b"}\n')
    given = ("--schema", str(schema), "--repair", "1")
    done = cli("submit", "--file", str(rows), *given)
    assert (done.code, done.out) == (2, ""), "nothing was submitted"
    assert "line 1: a schema is for kind claude" in done.err
    done = cli("submit", "--file", str(rows), "--kind", "claude", *given)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert "a schema is for kind claude" in cli("submit", "x", "--kind", "echo", *given).err
    assert cli("submit", "x", *given).code == 0
    assert "give a schema" in cli("submit", "x", "--repair", "1").err
    assert (
        "--schema: cannot read nothing.json" in cli("submit", "x", "--schema", "nothing.json").err
    )


def test_options_are_checked_with_each_line_of_a_file(cli: Here, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    done = cli("submit", "--file", str(rows), "--param", "stream=true")
    assert (done.code, done.out) == (2, "")
    assert "line 2: params.stream cannot be set" in done.err


def test_tasks_too_long_for_a_message(
    cli: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "x" * (limits.TASK_BYTES + 1)
    lines = b"".join(
        json.dumps({"prompt": f"{long}{mark}", "kind": "echo"}).encode() + b"\n" for mark in "ab"
    )
    (tmp_path / "q.jsonl").write_bytes(lines)
    done = cli("submit", "--file", str(tmp_path / "q.jsonl"))
    assert (done.code, len(done.out.split())) == (0, 2), done.err
    for task_id, mark in zip(done.out.split(), "ab", strict=True):
        end = time.monotonic() + 30
        while (got := cli("get", task_id, "--wait")).code and time.monotonic() < end:
            time.sleep(0.05)  # without a master a task is unknown until it is claimed
        assert got.out.rstrip().endswith("x" + mark), got.err
    stdin(monkeypatch, lines)
    assert len(cli("submit", "-").out.split()) == 2
    stdin(monkeypatch, f"{long}c".encode())
    assert cli("submit", "-", "--kind", "echo", "--wait").out.endswith("xc\n")
    stdin(monkeypatch, b"x" * (limits.PAYLOAD_BYTES + 1))
    done = cli("submit", "-", "--kind", "echo")
    assert done.code == 2
    assert "at most 33,554,432 are allowed" in done.err


def test_a_first_line_longer_than_what_says_the_format(cli: Here, tmp_path: Path) -> None:
    padding = "x, " * 30_000  # a line that is looked at only in part may seem to go on
    for cut in range(3):
        lines = [{"prompt": "y" * cut + padding, "kind": "echo"}, {"prompt": "b", "kind": "echo"}]
        (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = cli("submit", "--file", str(tmp_path / "q.jsonl"))
        assert (done.code, len(done.out.split())) == (0, 2), done.err


def test_standard_input_holds_what_a_file_may(cli: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    say = [{"role": "user", "content": "hi"}]
    openai = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    for data, count in (
        (b"prompt,kind\none,echo\ntwo,echo\n", 2),
        (b"prompt\tkind\none\techo\n", 1),
        (json.dumps({"messages": say}).encode(), 1),
        (json.dumps(openai | {"body": {"model": "claude-x", "messages": say}}).encode(), 1),
        (json.dumps([{"prompt": "a", "kind": "echo"}] * 3).encode(), 3),
        (gzip.compress(b'{"prompt": "a", "kind": "echo"}\n{"prompt": "b", "kind": "echo"}\n'), 2),
        (b"one prompt,\nover two lines", 1),
    ):
        stdin(monkeypatch, data)
        done = cli("submit", "-", "--queue", "nobody")
        assert (done.code, len(done.out.split())) == (0, count), (data, done.err)


def test_an_image_beside_the_file(cli: Here, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    block = {"type": "image", "path": "a.png"}
    task = {"params": {"messages": [{"role": "user", "content": [block]}]}}
    (tmp_path / "q.json").write_text(json.dumps(task))
    done = cli("submit", "--file", str(tmp_path / "q.json"), "--queue", "nobody")
    assert done.code == 0, done.err
    block["path"] = "b.png"
    (tmp_path / "q.json").write_text(json.dumps(task))
    done = cli("submit", "--file", str(tmp_path / "q.json"), "--queue", "nobody")
    assert done.code == 2
    assert "cannot read" in done.err


def test_a_task_over_many_lines_is_one(cli: Here, tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text('{\n  "prompt": "of many lines",\n  "kind": "echo"\n}\n')
    assert cli("submit", "--file", str(file), "--wait").out == "of many lines\n"
    file.write_text('{"messages": [{"role": "user", "content": "b"}]}')
    (line,) = cli("submit", "--file", str(file), "--json").lines
    assert subjects.is_id(line["id"])
    (tmp_path / "letter.txt").write_text("prompt, and more\nof it")
    done = cli("submit", "--file", str(tmp_path / "letter.txt"), "--kind", "echo", "--wait")
    assert done.out == "prompt, and more\nof it\n"


def test_a_hostile_answer_is_stripped(cli: Here) -> None:
    text = "before\x1b]0;title\x07\x1b[2J\u202eafter\x9b1m"
    done = cli("submit", text, "--kind", "echo", "--wait")
    assert done.out == "beforeafter\n"
    done = cli("submit", text, "--kind", "echo", "--wait", "--json")
    assert done.lines[0]["text"] == text
    assert not set("\x1b\x07\u202e\x9b") & set(done.out)
    shown = cli("get", done.lines[0]["id"])
    assert not set("\x1b\x07\u202e\x9b") & set(shown.out)


def test_the_server_of_a_context(
    cli: Here, nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".config" / "nats" / "context"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(json.dumps({"url": nats.url, "description": ""}))
    monkeypatch.delenv("AGENTFLOW_NATS")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert cli("submit", "x", "--kind", "echo", "--wait", "--context", "mine").out == "x\n"


def test_a_reader_that_leaves_a_long_output(nats: NatsServer, tmp_path: Path) -> None:
    script = f"{sys.executable} -m agentflow submit - --kind echo --wait | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"],
        env=environment(tmp_path, AGENTFLOW_NATS=nats.url),
        input=b"y" * 1_000_000,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"y" * 10
    # Python does not always hear of it when all was one write.
    assert done.returncode in (0, 141)
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr


def test_as_a_process(nats: NatsServer, tmp_path: Path) -> None:
    done = run(
        "submit",
        "x",
        "--kind",
        "echo",
        "--wait",
        env=environment(tmp_path, AGENTFLOW_NATS=nats.url),
    )
    assert (done.code, done.out) == (0, "x\n")
