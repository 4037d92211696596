"""What a line of the log is, whatever was logged."""

import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import UsageError
from agentflow.handlers.functions.context import TaskLogger
from agentflow.protocol.record import EMPTY, Failure, Usage
from agentflow.rules import records as entries
from agentflow.rules.records import Origin, Spent
from agentflow.telemetry import logs
from agentflow.telemetry.logs import Lines, LogSettings
from agentflow.worker.observer import Observers

HOSTILE = "a\x1b]0;title\x07b\n2026-01-01T00:00:00.000Z ERROR forged\r\u2028\u202ec\x9b31m"
ORIGIN = Origin(id="t1", queue="q", priority="normal", message="1-1", submitted=datetime.now(UTC))


def entry(message: str, *arguments: object, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, message, arguments, None)
    vars(made).update(fields)
    return made


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger; as it was afterwards."""
    found = logging.getLogger()
    handlers, level = found.handlers[:], found.level
    found.handlers = []
    yield found
    for handler in found.handlers:
        handler.close()
    found.handlers = handlers
    found.setLevel(level)
    logs._held = None


def test_json_has_who_what_and_the_facts() -> None:
    lines = Lines("json")
    lines.actor = "w-1"
    made = entry("task %s", "t1", task_id="t1", attempt=2, action="end", seconds=0.1234567, x=None)
    found = json.loads(lines.format(made))
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert isinstance(found.pop("pid"), int)
    assert found == {
        "level": "WARNING",
        "logger": "a.b",
        "message": "task t1",
        "actor": "w-1",
        "task_id": "t1",
        "attempt": 2,
        "action": "end",
        "seconds": 0.123457,
    }


@pytest.mark.parametrize("format", logs.FORMATS)
def test_a_stranger_s_text_stays_on_its_line(format: str) -> None:
    line = Lines(format).format(entry("said %s", HOSTILE, task_id=HOSTILE, reason=HOSTILE))
    assert len(line.splitlines()) == 1
    assert not set(line) & set("\x1b\x07\x9b\u202e\u2028\r")


@given(st.text(), st.dictionaries(st.sampled_from(["task_id", "reason", "x"]), st.text()))
def test_any_text_makes_one_line_of_json(message: str, fields: dict[str, str]) -> None:
    line = Lines("json").format(entry("%s", message, **fields))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["level"] == "WARNING"


def test_a_fact_of_any_type_is_written_and_none_hides_ours() -> None:
    found = json.loads(
        Lines("json").format(entry("x", path=Path("/a"), many={1, 2}, level="forged", nan=1e999))
    )
    assert (found["level"], found["path"], found["many"]) == ("WARNING", "/a", "{1, 2}")


@pytest.mark.parametrize("format", logs.FORMATS)
def test_a_traceback_forges_no_entry(format: str) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        made = entry("failed")
        made.exc_info = sys.exc_info()
    line = Lines(format).format(made)
    first, *behind = line.splitlines()
    if format == "json":
        assert not behind
        assert json.loads(first)["error"] == "ValueError"
        assert "forged" in json.loads(first)["traceback"]
    else:
        assert first.endswith("WARNING failed")
        assert all(each.startswith("    ") for each in behind)


def test_what_is_given_comes_before_the_environment() -> None:
    there = {logs.FORMAT_ENV: "JSON", logs.LEVEL_ENV: "debug", logs.FILE_ENV: "/tmp/x"}
    assert logs.settings(environment={}) == LogSettings()
    found = logs.settings(None, "warning", environment=there)
    assert found == LogSettings(format="json", level="WARNING", file="/tmp/x", asked=True)
    assert logs.settings(environment=found.environment()) == found
    with pytest.raises(UsageError, match="'LOUD' is not for AGENTFLOW_LOG_LEVEL"):
        logs.settings(environment={logs.LEVEL_ENV: "loud"})


def test_a_file_is_appended_to(tmp_path: Path, root: logging.Logger) -> None:
    path = tmp_path / "new" / "log"
    for _ in range(2):
        logs.set_up(LogSettings(format="json", file=str(path)))
        logs.set_actor("w-1")
        logging.getLogger("some").info("here")
        logging.getLogger("httpx").info("not this")
    assert len(root.handlers) == 1
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["message"], each["actor"]) for each in found] == [("here", "w-1")] * 2
    with pytest.raises(UsageError, match="cannot be written"):
        logs.set_up(LogSettings(file=str(tmp_path)))


CONFIGURES = {
    "force": "logging.basicConfig(force=True, format='THEIRS %(message)s')",
    "dict": """logging.config.dictConfig({
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"level": "ERROR", "handlers": ["console"]},
    })""",
    "handlers": "logging.getLogger().handlers[:] = [logging.StreamHandler()]",
}


@pytest.mark.parametrize("how", CONFIGURES.values(), ids=CONFIGURES)
@pytest.mark.parametrize("to_file", [False, True], ids=["stderr", "file"])
def test_what_was_asked_for_holds_although_an_app_configures_logging(
    how: str, to_file: bool, tmp_path: Path, root: logging.Logger, capsys: Any
) -> None:
    file = str(tmp_path / "log") if to_file else None
    logs.set_up(logs.settings("json", "info", file, environment={}))
    logger = logging.getLogger("agentflow.worker.worker")
    exec(how, {"logging": logging})
    logs.hold()
    logger.info("one")
    exec(how, {"logging": logging})
    logs.hold()
    logger.info("two")
    written = Path(file).read_text() if file else capsys.readouterr().err
    assert [json.loads(line)["message"] for line in written.splitlines()] == ["one", "two"]


def test_where_nobody_asked_the_app_decides(root: logging.Logger, capsys: Any) -> None:
    logs.set_up(logs.settings(environment={}))
    logger = logging.getLogger("agentflow.worker.worker")
    exec(CONFIGURES["dict"], {"logging": logging})
    logs.hold()
    logger.info("one")
    logger.error("two")
    assert capsys.readouterr().err == "two\n"


def test_a_handler_s_own_lines_name_the_task(caplog: pytest.LogCaptureFixture) -> None:
    own = TaskLogger(logging.getLogger("app"), {"task_id": "t1", "attempt": 3, "kind": "k"})
    with caplog.at_level(logging.INFO):
        own.info("half done", extra={"rows": 7})
    found = json.loads(Lines("json").format(caplog.records[0]))
    assert (found["task_id"], found["attempt"], found["rows"]) == ("t1", 3, 7)


def test_an_attempt_is_a_line_for_its_claim_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    observers = Observers()
    now = datetime.now(UTC)
    claim = entries.claimed(ORIGIN, EMPTY, actor="w", now=now)
    spent = Spent(usage=Usage(3, 4), cost_micro=50, run_s=0.5, model="m")
    failed = entries.failed(
        ORIGIN, EMPTY, actor="w", now=now, reason="why", error=Failure("why", "no\nway")
    )
    with caplog.at_level(logging.DEBUG, "agentflow.worker.tasks"):
        observers.claimed(claim)
        observers.ended(failed, spent)
    began, ended = (json.loads(Lines("json").format(each)) for each in caplog.records)
    assert (began["action"], began["task_id"], began["attempt"]) == ("claim", "t1", 1)
    assert (began["level"], ended["level"]) == ("DEBUG", "INFO")
    kept = {key: ended[key] for key in ("action", "state", "reason", "seconds", "tokens")}
    assert kept == {
        "action": "end", "state": "failed", "reason": "why", "seconds": 0.5, "tokens": 7
    }  # fmt: skip
    assert (ended["model"], ended["cost_usd"]) == ("m", 0.00005)
    text = Lines().format(caplog.records[1])
    assert text.endswith(
        "INFO task t1 failed: no way"
        " (state=failed, reason=why, seconds=0.5, tokens=7, cost_usd=5e-05)"
    )


def test_a_count_that_fails_does_not_harm_the_task(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def claimed(self, *_: object) -> None:
            raise RuntimeError

        ended = claimed

    observers = Observers()
    observers.add(Broken())
    claim = entries.claimed(ORIGIN, EMPTY, actor="w", now=datetime.now(UTC))
    observers.claimed(claim)
    observers.ended(claim)
    assert [each.levelname for each in caplog.records] == ["ERROR", "ERROR"]


def test_a_container_s_log_goes_to_stdout(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = logs.settings(environment={"AGENTFLOW_LOG_FILE": "-", "AGENTFLOW_LOG_FORMAT": "json"})
    logs.set_up(wanted)
    assert wanted.environment()["AGENTFLOW_LOG_FILE"] == "-"
    logging.getLogger("agentflow.x").warning("hello")
    written = capsys.readouterr()
    assert json.loads(written.out)["message"] == "hello"
    assert written.err == ""
