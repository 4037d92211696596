"""The job's file of tasks; test_job_results.py has what comes out."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import InvalidInput, UsageError
from agentflow.job.defaults import Defaults
from agentflow.job.source import Item, Reading, Source
from agentflow.protocol import limits
from agentflow.protocol.task import TaskBody

BOM = b"\xef\xbb\xbf"


def read(
    data: bytes, *, as_json: bool | None = True, model: str | None = None, simulate: bool = False
) -> list[Item]:
    how = Reading(
        format="jsonl" if as_json else "mixed" if as_json is None else "txt",
        defaults=Defaults(model=model),
        simulate=simulate,
    )
    return list(Source("-", io.BytesIO(data), how))


def jsonl(*tasks: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(task).encode() + b"\n" for task in tasks)


def ids(items: list[Item]) -> list[str]:
    return [item.id for item in items]


class TestSource:
    def test_a_line_is_no_object_in_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "many.jsonl"
        with path.open("w") as file:
            for number in range(20_000):
                file.write(json.dumps({"prompt": f"{number} " + "x" * 1000}) + "\n")
        warm = Source(str(path), io.BytesIO(), Reading())  # what is made once is made
        tracemalloc.start()
        try:
            source = Source(str(path), io.BytesIO(), Reading())
            assert sum(1 for _ in source) == len(warm) == 20_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak / 20_000 < 250, "bytes a line of 1 kB"

    def test_every_bad_line_is_listed_with_its_number(self) -> None:
        lines = [
            b'{"prompt": "good"}',
            b"",
            b'{"prompt": ',
            b'{"promt": "typo"}',
            b"just text",
            b'{"prompt": "x", "max_tokens": "many"}',
            b'{"prompt": "x", "id": "not an id"}',
            b'{"prompt": "  "}',
            b'{"prompt": "caf\xe9"}',
            b'{"prompt": "x", "params": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
            b'["prompt"]',
            b'{"prompt": "good too"}',
        ]
        with pytest.raises(InvalidInput) as caught:
            read(b"\n".join(lines))

        assert [number for number, _ in caught.value.problems] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
        text = str(caught.value)
        assert text.startswith("standard input: 9 bad lines; nothing was submitted.\n  line 3: ")
        assert "line 4: Object contains unknown field `promt`; allowed are prompt, kind" in text
        assert 'line 5: this is not a task object; a line looks like {"prompt": "..."}' in text
        assert caught.value.exit_code == 2

    def test_of_very_many_bad_lines_the_first_are_listed(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            read(b"nonsense\n" * 300)

        assert str(caught.value).count("\n") == 21
        assert str(caught.value).endswith("... and 280 more")

    def test_a_file_without_tasks_is_an_error(self) -> None:
        for data in (b"", b"\n \r\n\t\n", BOM):
            with pytest.raises(UsageError, match="standard input holds no tasks"):
                read(data)

    def test_an_id_is_made_of_the_request_and_its_occurrence(self) -> None:
        first, second, other = {"prompt": "A"}, {"prompt": "A"}, {"prompt": "B"}
        a1, a2, b1 = ids(read(jsonl(first, second, other)))

        assert a1.rpartition("-")[0] == a2.rpartition("-")[0] != b1.rpartition("-")[0]
        assert [name.rpartition("-")[2] for name in (a1, a2, b1)] == ["1", "2", "1"]
        assert ids(read(jsonl(other, first, second))) == [b1, a1, a2], "moved"
        assert ids(read(b"\n\n" + jsonl(first))) == [a1], "blank lines before it"
        named = {"prompt": "A", "id": "named"}
        assert ids(read(jsonl(named, first, second))) == ["named", a1, a2], "one with an id"

    def test_an_id_survives_what_does_not_change_the_answer(self) -> None:
        plain = ids(read(b'{"prompt": "A", "params": {"top_k": 1, "betas": []}}'))

        for same in (
            b'{ "params" : {"betas":[],"top_k":1} , "prompt":"\\u0041" }',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "kind": "claude"}',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "labels": {"a": "b"}}',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "max_attempts": 2}',
        ):
            assert ids(read(same)) == plain
        for other in (
            b'{"prompt": "A", "params": {"top_k": 2, "betas": []}}',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "system": "S"}',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "model": "claude-haiku-5-5"}',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "max_tokens": 9}',
            b'{"prompt": "A", "params": {"top_k": 1, "betas": []}, "kind": "echo"}',
            b'{"prompt": "A "  , "params": {"top_k": 1, "betas": []}}',
        ):
            assert ids(read(other)) != plain

    def test_ids_do_not_change_between_versions(self) -> None:
        # Who upgrades in the middle of a job must not pay for it again.
        [item] = read(b'{"prompt": "Write a haiku about queues."}')
        assert item.id == "cdfe82f1fcc8926a05f6d71f-1"

    def test_a_simulated_task_has_another_id_than_the_real_one(self) -> None:
        data = jsonl({"prompt": "A"})
        assert ids(read(data)) != ids(read(data, simulate=True))

    def test_one_id_in_two_lines_is_an_error(self) -> None:
        with pytest.raises(InvalidInput, match=r"line 3: the id 'x' stands in line 1 already"):
            read(jsonl({"prompt": "A", "id": "x"}, {"prompt": "B"}, {"prompt": "C", "id": "x"}))

    def test_a_made_id_may_not_be_given_to_another(self) -> None:
        [made] = ids(read(jsonl({"prompt": "A"})))
        with pytest.raises(InvalidInput, match=f"line 2: the id '{made}' stands in line 1"):
            read(jsonl({"prompt": "B", "id": made}, {"prompt": "A"}))
        with pytest.raises(InvalidInput, match=f"line 2: the id '{made}' is that of an earlier"):
            read(jsonl({"prompt": "A"}, {"prompt": "B", "id": made}))

    def test_the_mark_of_windows_editors_is_no_part_of_the_first_line(self) -> None:
        text = read(BOM + "Grüße\r\nzwei\r\n".encode(), as_json=False)
        assert [item.body.prompt for item in text] == ["Grüße", "zwei"]
        assert read(BOM + jsonl({"prompt": "A"}))[0].body.prompt == "A"

    def test_text_is_a_prompt_a_line(self) -> None:
        items = read(b'one\n\n  {"two": 2}  \n', as_json=False)
        assert [(item.line, item.body.prompt) for item in items] == [(1, "one"), (3, '{"two": 2}')]
        with pytest.raises(InvalidInput, match=r"line 2: this is not UTF-8 text \(byte 1\)"):
            read(b"fine\na\xff\n", as_json=False)

    def test_standard_input_may_hold_either(self) -> None:
        lines = b'{"prompt": "one", "id": "first"}\ntwo\n'
        items = list(Source("-", io.BytesIO(lines), Reading()))
        assert [item.body.prompt for item in items] == ["one", "two"]
        assert items[0].id == "first"

    def test_the_name_says_what_the_file_holds(self, tmp_path: Path) -> None:
        def load(name: str, data: bytes) -> list[Item]:
            path = tmp_path / name
            path.write_bytes(data)
            return list(Source(str(path), io.BytesIO(), Reading()))

        assert load("a.JSONL", b'{"prompt": "A"}')[0].body.prompt == "A"
        assert load("a.ndjson", b'{"prompt": "A"}')[0].body.prompt == "A"
        assert load("a.txt", b'{"prompt": "A"}')[0].body.prompt == '{"prompt": "A"}'
        with pytest.raises(UsageError, match=r"neither its content nor its name says what it is"):
            load("a.md", b"x")
        with pytest.raises(UsageError, match=r"cannot read .*absent\.txt: No such file"):
            Source(str(tmp_path / "absent.txt"), io.BytesIO(), Reading())

    def test_a_model_is_for_lines_that_name_none(self) -> None:
        data = jsonl(
            {"prompt": "A"},
            {"prompt": "A", "model": "claude-haiku-5-5"},
            {"prompt": "A", "params": {"model": "claude-sonnet-5-5"}},
        )
        items = read(data, model="claude-opus-5-5")
        models = [item.body.model for item in items]
        assert models == ["claude-opus-5-5", "claude-haiku-5-5", None]
        named = read(jsonl({"prompt": "A", "model": "claude-opus-5-5"}))
        assert items[0].id == named[0].id, "the effective request is the same"
        with pytest.raises(UsageError, match=r"an option does not fit: .* - at `\$.model`"):
            read(jsonl({"prompt": "A"}), model="x" * 201)

    def test_what_the_queue_would_refuse_is_refused_before_anything_is_spent(self) -> None:
        quotes = b'"' * (limits.PAYLOAD_BYTES - 10)  # twice as long as JSON
        far = jsonl({"prompt": "A", "not_before": "2999-01-01T00:00:00Z"})
        for data, as_json, reason in (
            (b"x" * (limits.PAYLOAD_BYTES + 1), False, "bytes, at most 33,554,432 are allowed"),
            (quotes, False, "bytes, at most 33,554,432 are allowed"),
            (far, True, "more than 6 days ahead"),
        ):
            with pytest.raises(InvalidInput, match=reason):
                read(data, as_json=as_json)


TOOL = {"name": "a", "input_schema": {"type": "object"}}


class TestCachePrefix:
    def marked(self, **task: Any) -> TaskBody:
        how = Reading(format="jsonl", defaults=Defaults(system="Be brief.", cache_prefix=True))
        (item,) = Source("-", io.BytesIO(jsonl({"prompt": "?", **task})), how)
        return item.body

    def test_the_system_prompt_is_marked(self) -> None:
        body = self.marked()
        assert body.system is None
        assert body.params == {
            "system": [
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
            ]
        }

    def test_of_several_blocks_the_last(self) -> None:
        blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        params = self.marked(params={"system": blocks}).params
        assert params is not None
        assert ["cache_control" in block for block in params["system"]] == [False, True]

    def test_without_a_system_prompt_the_tools(self) -> None:
        how = Reading(format="jsonl", defaults=Defaults(cache_prefix=True))
        lines = jsonl({"prompt": "?", "params": {"tools": [TOOL]}}, {"prompt": "?"})
        tools, nothing = Source("-", io.BytesIO(lines), how)
        assert tools.body.params is not None and nothing.body.params is None
        assert "cache_control" in tools.body.params["tools"][0]

    def test_a_line_that_marks_something_itself_is_left_alone(self) -> None:
        block = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        params = {"messages": [{"role": "user", "content": [block]}]}
        body = self.marked(prompt=None, params=params)
        assert (body.system, body.params) == ("Be brief.", params)

    def test_another_kind_is_left_alone(self) -> None:
        assert self.marked(kind="echo", system="x").system == "x"
