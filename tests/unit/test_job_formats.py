"""What a job's file may be: every format, told by content and name, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import InvalidInput, UsageError
from agentflow.job.defaults import Defaults
from agentflow.job.formats.template import Template
from agentflow.job.source import Item, Reading, Source

TEMPLATE = "Translate {text} into {language}"


def load(
    folder: Path, name: str, data: bytes | str, *, prompt: str | None = None, **how: Any
) -> Source:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    template = None if prompt is None else Template(prompt)
    return Source(str(path), io.BytesIO(), Reading(template=template, **how))


def prompts(source: Source) -> list[str | None]:
    return [item.body.prompt for item in source]


def first(source: Source) -> Item:
    return next(iter(source))


def line(**value: Any) -> str:
    return json.dumps(value) + "\n"


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answers(json_schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


class TestTold:
    @pytest.mark.parametrize(
        ("name", "data", "format_name"),
        [
            ("a.jsonl", '{"prompt": "one"}\n', "jsonl"),
            ("a.JSON", '{"prompt": "one"}\n', "jsonl"),
            ("a.jsonl", '[{"prompt": "one"}]', "json"),
            ("a", ' \n[{"prompt": "one"}]', "json"),
            ("a.data", '{"prompt": "one"}\n', "jsonl"),
            ("a.txt", "one\n", "txt"),
            ("a.csv", "prompt\none\n", "csv"),
            ("a.csv", "id;prompt\nx;one\n", "csv"),
            ("a.csv", "sep=;\nid;prompt\nx;one\n", "csv"),
            ("a.tsv", "id\tprompt\nx\tone\n", "tsv"),
            ("a", "id,prompt\nx,one\n", "csv"),
            ("a", "id\tprompt\nx\tone\n", "tsv"),
        ],
    )
    def test_by_content_and_name(
        self, tmp_path: Path, name: str, data: str, format_name: str
    ) -> None:
        plain = load(tmp_path, name, data)
        assert (plain.format.name, prompts(plain)) == (format_name, ["one"])
        packed = load(tmp_path, name + ".gz", gzip.compress(data.encode()))
        assert (packed.format.name, prompts(packed)) == (format_name, ["one"])
        assert [item.id for item in packed] == [item.id for item in plain]
        assert packed.taken_for.endswith(f"1 task, read as {plain.format.title}, gzip")

    def test_an_option_overrides_it(self, tmp_path: Path) -> None:
        assert prompts(load(tmp_path, "a.csv", "one,two\n", format="txt")) == ["one,two"]
        assert prompts(load(tmp_path, "a.md", "one\n", format="txt")) == ["one"]

    def test_a_text_that_looks_like_json_is_said(self, tmp_path: Path) -> None:
        taken = load(tmp_path, "a.txt", '{"prompt": "A"}\n').taken_for
        assert taken.endswith("text, a prompt a line (they look like JSON: --format jsonl)")

    def test_what_nothing_tells_is_not_asked(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"say it: --format jsonl\|json\|txt\|csv"):
            load(tmp_path, "README.md", "# Title\n\nsome words\n")

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"one\ntwo\n", ["one", "two"]),
            (b'[{"prompt": "one"}, {"prompt": "two"}]', ["one", "two"]),
            (b"prompt,id\none,a\ntwo,b\n", ["one", "two"]),
            (gzip.compress(b"one\ntwo", mtime=0), ["one", "two"]),
        ],
    )
    def test_standard_input_is_told_in_the_same_way(self, data: bytes, expected: list[str]) -> None:
        source = Source("-", io.BytesIO(data), Reading())
        assert prompts(source) == expected
        assert prompts(source) == expected, "and read again"


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv"])
    def test_a_mark_says_which(self, tmp_path: Path, name: str, encoding: str) -> None:
        text = {
            "a.txt": "Grüße\u2028alle\nzwei\n",
            "a.jsonl": '{"prompt": "Grüße\u2028alle"}\n{"prompt": "zwei"}\n',
            "a.json": '[{"prompt": "Grüße\u2028alle"},\n{"prompt": "zwei"}]',
            "a.csv": "prompt\nGrüße\u2028alle\nzwei\n",
        }[name]
        assert prompts(load(tmp_path, name, text.encode(encoding))) == ["Grüße\u2028alle", "zwei"]

    @pytest.mark.parametrize(
        ("name", "data", "said"),
        [
            ("a.txt", "eins\nzwei\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
            ("a.csv", "prompt\nzwei\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
            ("a.jsonl", '{"prompt": "x"}\n'.encode("utf-16-le"), "UTF-16 without a byte order"),
            ("a.txt", b"one\ntw\0o\n", "line 2 holds NUL bytes"),
            ("a.csv", b"prompt\nt\0wo words of some length\n", "line 2 holds NUL bytes"),
            ("a.jsonl", b'{"prompt": "one"}\n\0\0\0\n', "line 2 holds NUL bytes"),
            ("a.json", b'[{"prompt": "one\0"}]', "holds NUL bytes"),
            ("a.txt", b"one\rtwo\rthree", "lines end in a carriage return alone"),
            ("a.csv", b"prompt\rtwo\r", "lines end in a carriage return alone"),
            ("a.jsonl", b'{"prompt": "A"}\r{"prompt": "B"}\r', "lines end in a carriage return"),
            ("a.txt", b"fine\none\rtwo\n", "line 2: there is a carriage return within the line"),
            ("a.txt", b"caf\xe9\n", r"line 1: this is not UTF-8 text \(byte 3\)"),
            ("a.csv", b"prompt\nfine\ncaf\xe9\n", "line 3: this is not UTF-8 text"),
            ("a.jsonl", b'{"prompt": "caf\xe9"}\n', "line 1: this is not UTF-8 text"),
            ("a.txt", b"%PDF-1.7\n", "is a PDF, no file of tasks"),
            ("a.txt", b"\x89PNG\r\n\x1a\n", "is a PNG image"),
            ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an old Excel workbook"),
            ("a.jsonl", b"BZh91AY", "compressed with bzip2"),
            ("a.gz", gzip.compress(gzip.compress(b"one", mtime=0), mtime=0), "compressed twice"),
            ("a.txt.gz", gzip.compress(b"one\n" * 99, mtime=0)[:-9], "is damaged"),
            ("a.parquet", b"prompt\n", "is called Parquet and is none"),
        ],
    )
    def test_what_is_refused_is_called_what_it_is(
        self, tmp_path: Path, name: str, data: bytes, said: str
    ) -> None:
        with pytest.raises(UsageError, match=said):
            load(tmp_path, name, data)

    def test_a_workbook(self, tmp_path: Path) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("[Content_Types].xml", "<x/>")
            archive.writestr("xl/workbook.xml", "<x/>")
        for name in ("a.csv", "a.xlsx", "a.txt"):
            with pytest.raises(UsageError, match=r"an Excel workbook.*save its sheet as CSV"):
                load(tmp_path, name, data.getvalue())

    @pytest.mark.parametrize(
        "text",
        [
            '{"prompt": "A", "prompt": "B"}',
            '{"prompt": "A", "params": {"top_k": 1, "top_k": 2}}',
            '{"messages": [{"role": "user", "role": "user", "content": "x"}]}',
        ],
    )
    def test_a_key_that_stands_twice(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(InvalidInput, match=r"line 2: the key '\w+' stands twice"):
            load(tmp_path, "a.jsonl", '{"prompt": "fine"}\n' + text + "\n")
        with pytest.raises(InvalidInput, match=r"element 1: the key '\w+' stands twice"):
            load(tmp_path, "a.json", f"[{text}]")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (r'{"t": "\ud800"}', "cannot be kept as JSON"),
            (r'{"t": "x", "other": "\ud800"}', "cannot be kept as JSON"),
            ('{"t": 1e999}', "a number without an end"),
            ('{"t": NaN}', "NaN is no JSON"),
            ('{"t": ' + "[" * 9000 + "]" * 9000 + "}", "nested too deeply"),
        ],
    )
    def test_what_could_not_be_sent_or_kept(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(InvalidInput, match=f"line 2: .*{said}"):
            load(tmp_path, "a.jsonl", '{"t": "fine"}\n' + text, prompt="{t}")

    def test_an_object_over_many_lines(self, tmp_path: Path) -> None:
        for text in ('{\n "prompt": "x"\n}\n', '{"prompt": "x",\n"kind": "echo"}'):
            with pytest.raises(UsageError, match="goes on in the next; write one object a line"):
                load(tmp_path, "a.json", text)

    def test_a_file_that_changes_while_it_is_read(self, tmp_path: Path) -> None:
        source = load(tmp_path, "a.txt", "one\n")
        (tmp_path / "a.txt").write_text("two words\n")
        with pytest.raises(UsageError, match="has changed since it was checked"):
            list(source)


class TestArray:
    def test_every_element_is_numbered(self, tmp_path: Path) -> None:
        data = ' [\n{"prompt": "one"} ,\t{"prompt": "two, [three]"}\n]\n'
        source = load(tmp_path, "a.json", data)
        assert [(item.line, item.body.prompt) for item in source] == [
            (1, "one"),
            (2, "two, [three]"),
        ]

    def test_an_element_may_be_longer_than_what_is_read_at_once(self, tmp_path: Path) -> None:
        long = "é" * 700_000
        data = json.dumps([{"prompt": long}, {"prompt": "short"}], ensure_ascii=False)
        assert prompts(load(tmp_path, "a.json", data)) == [long, "short"]

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ("[]", "holds no tasks"),
            ('[{"prompt": "A"}', "after element 1 there is no comma"),
            ('[{"prompt": "A"} {"prompt": "B"}]', "after element 1 there is no comma"),
            ('[{"prompt": "A"},]', "element 2: the JSON cannot be read"),
            ('[{"prompt": "A"}] x', "more after the end of the array"),
            ('[{"prompt": "A"}, "text", 7]', "element 2: this is not a task object"),
            ('[{"prompt": "A', "element 1: the JSON cannot be read"),
            ('[{"prompt": "A"}, {"promt": "B"}]', "element 2: .*unknown field `promt`"),
        ],
    )
    def test_what_is_broken_is_said(self, tmp_path: Path, data: str, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            load(tmp_path, "a.json", data)


class TestConversations:
    def test_a_bare_one(self, tmp_path: Path) -> None:
        data = line(messages=messages("hi"), temperature=0.5, model="claude-haiku-5-5", id="a")
        body = first(load(tmp_path, "a.jsonl", data)).body
        assert (body.id, body.model) == ("a", "claude-haiku-5-5")
        assert body.params == {"messages": messages("hi"), "temperature": 0.5}

    def test_its_system_message_becomes_the_system_prompt(self, tmp_path: Path) -> None:
        data = line(messages=[{"role": "system", "content": "Be brief"}, *messages("hi")])
        body = first(load(tmp_path, "a.jsonl", data)).body
        assert (body.system, body.params) == ("Be brief", {"messages": messages("hi")})

    def test_a_mistake_in_typing_is_one(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="unknown field `temprature`"):
            load(tmp_path, "a.jsonl", line(messages=messages("hi"), temprature=1))

    def test_a_line_of_anthropics_batches(self, tmp_path: Path) -> None:
        params = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": messages("hi")}
        data = line(custom_id="request 1", params={**params, "system": "S", "top_k": 3})
        item = first(load(tmp_path, "a.jsonl", data))
        assert (item.custom_id, item.body.model, item.body.max_tokens, item.body.system) == (
            "request 1",
            "claude-opus-5-5",
            9,
            "S",
        )
        assert item.body.params == {"messages": messages("hi"), "top_k": 3}

    def test_two_batches_with_the_same_custom_ids_are_not_the_same_tasks(
        self, tmp_path: Path
    ) -> None:
        one, other = (
            first(
                load(
                    tmp_path,
                    f"{text}.jsonl",
                    line(custom_id="1", params={"messages": messages(text)}),
                )
            )
            for text in ("a", "b")
        )
        assert one.custom_id == other.custom_id
        assert one.id != other.id

    def test_a_line_of_openais_batches(self, tmp_path: Path) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        body = {
            "model": "gpt-9",
            "messages": [
                {"role": "developer", "content": "Be brief"},
                {"role": "user", "content": [{"type": "text", "text": "what?"}, image]},
            ],
            "max_completion_tokens": 7,
            "stop": "END",
            "temperature": 0.2,
            "seed": 3,
            "n": 1,
            "stream": False,
            "tools": [tool],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "user": "u",
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}},
            },
        }
        data = line(custom_id="c", method="POST", url="/v1/chat/completions", body=body)
        with pytest.raises(InvalidInput, match="'gpt-9' is no model of Claude; --model says"):
            load(tmp_path, "a.jsonl", data)

        source = load(tmp_path, "a.jsonl", data, defaults=Defaults(model="claude-haiku-5-5"))
        item = first(source)
        assert (item.custom_id, item.body.model) == ("c", "claude-haiku-5-5")
        assert (item.body.system, item.body.max_tokens) == ("Be brief", 7)
        assert item.body.params == {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what?"},
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": "QUJD",
                            },
                        },
                    ],
                }
            ],
            "stop_sequences": ["END"],
            "temperature": 0.2,
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "metadata": {"user_id": "u"},
        }
        assert item.body.schema == {"type": "object"}
        assert "left out: body.model gpt-9 (1x), body.seed (1x)" in source.taken_for

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"n": 3, "logprobs": True}, "body.n; body.logprobs"),
            ({"stream": True}, "body.stream"),
            ({"temperature": 1.5}, "body.temperature 1.5: at most 1"),
            ({"response_format": {"type": "json_object"}}, "response_format of type 'json_object'"),
            ({"response_format": "json"}, "response_format of type 'json'"),
            ({"response_format": {"type": "text", "json_schema": {"schema": {}}}}, "type 'text'"),
            (answers({"schema": []}), "response_format.json_schema.schema: no object"),
            (answers({"name": "x"}), "response_format.json_schema.schema: no object"),
            (answers({"schema": {}, "grammar": "x"}), "response_format.json_schema.grammar"),
            (answers({"schema": {"type": "objekt"}}), "schema cannot be used.*objekt"),
            (answers({"schema": {"$ref": "https://a.example/x"}}), "schema cannot be used"),
            ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens says otherwise"),
            (
                {"tools": [{"type": "custom", "custom": {}, "function": {"name": "f"}}]},
                r"body.tools\[0\].custom",
            ),
            ({"presence_penalty": 0.5}, "body.presence_penalty"),
            ({"audio": {}}, "body.audio"),
            (
                {
                    "messages": [
                        *messages("x"),
                        {"role": "tool", "content": "r", "tool_call_id": "1"},
                    ]
                },
                r"messages\[1\].role 'tool'; body.messages\[1\].tool_call_id",
            ),
            (
                {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
                r"messages\[0\].content\[0\] of type 'input_audio'",
            ),
        ],
    )
    def test_what_has_no_counterpart_is_said_field_by_field(
        self, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        body = {"model": "claude-haiku-5-5", "messages": messages("x"), **change}
        data = line(custom_id="c", method="POST", url="/v1/chat/completions", body=body)
        with pytest.raises(InvalidInput, match=said):
            load(tmp_path, "a.jsonl", data)

    def test_another_address_is_another_kind_of_request(self, tmp_path: Path) -> None:
        data = line(custom_id="c", method="POST", url="/v1/embeddings", body={"input": "x"})
        with pytest.raises(InvalidInput, match="'/v1/embeddings': only /v1/chat/completions"):
            load(tmp_path, "a.jsonl", data)


class TestTables:
    CSV = 'id,text,language,note\nrow 1,"one, ""two""\nthree",French,n1\n\nrow 2,four,German,\n'

    def test_a_template_fills_columns_and_the_others_are_carried(self, tmp_path: Path) -> None:
        source = load(tmp_path, "a.csv", self.CSV, prompt=TEMPLATE)
        one, two = source
        assert one.body.prompt == 'Translate one, "two"\nthree into French'
        assert (one.line, one.carried) == (2, {"id": "row 1", "note": "n1"})
        assert (two.line, two.carried) == (5, {"id": "row 2", "note": ""})
        assert source.carried == ["id", "note"]

        source = load(tmp_path, "a.csv", self.CSV, prompt=TEMPLATE, carry=("text", "prompt"))
        assert list(source)[1].carried == {
            "id": "row 2",
            "note": "",
            "text": "four",
            "prompt": "Translate four into German",
        }

    def test_with_a_template_every_column_is_data(self, tmp_path: Path) -> None:
        data = "model,max_tokens\nBeetle,many\n"
        item = first(load(tmp_path, "a.csv", data, prompt="Describe the car {model}"))
        assert (item.body.prompt, item.body.model) == ("Describe the car Beetle", None)
        assert item.carried == {"max_tokens": "many"}

    def test_without_one_columns_are_the_fields_they_are_called(self, tmp_path: Path) -> None:
        data = 'prompt,id,max_tokens,labels,topic\nhi,a1,7,"{""k"": ""v""}",t\nho,,,,u\n'
        one, two = load(tmp_path, "a.csv", data)
        assert (one.id, one.body.max_tokens, one.body.labels) == ("a1", 7, {"k": "v"})
        assert (one.carried, two.carried) == ({"topic": "t"}, {"topic": "u"})
        assert (two.body.prompt, two.body.max_tokens) == ("ho", None)

    def test_objects_and_lines_of_text_fill_a_template_too(self, tmp_path: Path) -> None:
        data = line(text="a", language="French", n=1) + line(text="b", language=["x"])
        source = load(tmp_path, "a.jsonl", data, prompt=TEMPLATE)
        assert prompts(source) == ["Translate a into French", 'Translate b into ["x"]']
        assert first(source).carried == {"n": 1}
        assert prompts(load(tmp_path, "a.txt", "one\n", prompt="Say {text} {{twice}}")) == [
            "Say one {twice}"
        ]

    @pytest.mark.parametrize(
        ("data", "prompt", "said"),
        [
            ("a,b\n1,2\n", None, "no column is called prompt; the columns are a, b"),
            ("a,b\n1,2\n", "{c}", "the template names {c}, and the columns are a, b"),
            ("a,a\n1,2\n", "{a}", "two columns are called 'a'"),
            ("a,b\n1,2\n3\n4,5,6\n", "{a}", "line 3: the row has 1 cells, the header 2"),
            ("a,b\n1,2\n3\n4,5,6\n", "{a}", "line 4: the row has 3 cells"),
            ('a,b\n1,"2\n', "{a}", "line 2: the row cannot be read"),
            ("a,b\n ,x\n", "{a}", "line 2: a task needs a prompt"),
            ("prompt,max_tokens\nx,many\n", None, r"line 2: .*\$.max_tokens"),
            ("prompt,id\nx,not an id\n", None, "line 2: id 'not an id' is not allowed"),
            ("a,b\n", "{a}", "holds no tasks"),
            ("", "{a}", "holds no tasks"),
            ("prompt,x\na\rb,c\n", None, "line 2: .* a carriage return outside of quotes"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, tmp_path: Path, data: str, prompt: str | None, said: str
    ) -> None:
        with pytest.raises(UsageError, match=said):
            load(tmp_path, "a.csv", data, prompt=prompt)

    def test_a_row_without_a_column_of_the_template(self, tmp_path: Path) -> None:
        with pytest.raises(
            InvalidInput, match=r"line 2: there is no 'b' for the template; it has a"
        ):
            load(tmp_path, "a.jsonl", line(a=1, b=2) + line(a=1), prompt="{a} {b}")

    @pytest.mark.parametrize("text", ["{", "a } b", "{a{b}}", "  "])
    def test_a_template_that_is_none(self, text: str) -> None:
        with pytest.raises(UsageError, match="the template"):
            Template(text)

    def test_a_name_that_cannot_be_carried(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--with: there is no 'x'; there are a, b, prompt"):
            load(tmp_path, "a.csv", "a,b\n1,2\n", prompt="{a}", carry=("x",))


class TestParquet:
    def test_rows_with_their_types(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = [{"text": f"t{n}", "number": n, "gone": None} for n in range(3000)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows")
        data = (tmp_path / "rows").read_bytes()

        for name, content in (("a.parquet", data), ("a.bin", data), ("a.gz", gzip.compress(data))):
            source = load(tmp_path, name, content, prompt="Say {text}")
            assert len(source) == 3000
            item = list(source)[2999]
            assert (item.line, item.body.prompt) == (3000, "Say t2999")
            assert item.carried == {"number": 2999, "gone": None}
        piped = Source("-", io.BytesIO(data), Reading(template=Template("Say {text}")))
        assert len(piped) == 3000

        with pytest.raises(UsageError, match="no column is called prompt"):
            load(tmp_path, "a.parquet", data)
        with pytest.raises(UsageError, match="damaged Parquet"):
            load(tmp_path, "a.parquet", data[: len(data) // 2], prompt="{text}")
