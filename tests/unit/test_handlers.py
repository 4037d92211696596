"""The small handlers, and which kind is imported when."""

import subprocess
import sys
from typing import Any

import pytest

from agentflow.errors import InvalidTask, UsageError
from agentflow.handlers import registry
from agentflow.handlers.contract import Run
from agentflow.handlers.echo import echo
from agentflow.handlers.sleep import sleep
from agentflow.protocol.subjects import Priority
from agentflow.protocol.task import Task


def run_of(**fields: Any) -> Run:
    return Run(Task(id="t", queue="default", priority=Priority.NORMAL, **fields))


async def test_echo_returns_its_prompt() -> None:
    outcome = await echo(run_of(prompt="Grüße\n"))
    assert outcome.text == "Grüße\n"


async def test_echo_needs_a_prompt() -> None:
    with pytest.raises(InvalidTask, match="task t: kind echo needs a prompt"):
        await echo(run_of(params={"a": 1}))


@pytest.mark.parametrize("seconds", [0, 0.0, 0.001])
async def test_sleep_says_for_how_long(seconds: float) -> None:
    outcome = await sleep(run_of(params={"seconds": seconds}))
    assert outcome.value == {"slept": seconds}


@pytest.mark.parametrize(
    "params",
    [
        {},
        *[
            {"seconds": value}
            for value in (-1, 86_401, 1e300, float("nan"), float("inf"), True, "1", None, [1])
        ],
        {"seconds": "x" * 5_000_000},
        {"seconds": 1, "second": 2},
    ],
    ids=lambda params: repr(params)[:30],
)
async def test_sleep_takes_nothing_else(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match="task t: kind sleep") as caught:
        await sleep(run_of(params=params))
    assert len(str(caught.value)) < 300


def test_only_the_kinds_asked_for_are_loaded() -> None:
    assert list(registry.load(["sleep", "echo", "sleep"])) == ["sleep", "echo"]


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    known = "claude, echo, sleep, claude-cli"
    with pytest.raises(UsageError, match=f"no kind 'claud'; there are {known}"):
        registry.load(["echo", "claud"])
    with pytest.raises(UsageError, match="no kind given"):
        registry.load([])


@pytest.mark.parametrize(("kinds", "imported"), [(["echo", "sleep"], False), (None, True)])
def test_anthropic_is_imported_for_claude_only(kinds: list[str] | None, imported: bool) -> None:
    program = (
        "import sys; from agentflow.handlers import registry; "
        f"print(sorted(registry.load({kinds!r})), 'anthropic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    wanted = sorted(kinds or ["claude", "echo", "sleep"])
    assert done.stdout == f"{wanted} {imported}\n"


async def test_what_was_started_is_closed() -> None:
    async with registry.open_handlers(["echo", "sleep"]) as handlers:
        assert set(handlers) == {"echo", "sleep"}


async def test_services_are_closed_also_when_a_later_one_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    class Service:
        def __init__(self, name: str, *, broken: bool = False) -> None:
            self.name, self.broken = name, broken

        async def start(self) -> None:
            calls.append(f"start {self.name}")
            if self.broken:
                raise UsageError("broken")

        async def close(self) -> None:
            calls.append(f"close {self.name}")

        async def __call__(self, run: Run) -> Any:
            raise AssertionError

    kinds = {"a": lambda: Service("a"), "b": lambda: Service("b", broken=True)}
    monkeypatch.setattr(registry, "KINDS", kinds)
    with pytest.raises(UsageError, match="broken"):
        async with registry.open_handlers():
            pass
    assert calls == ["start a", "start b", "close a"]
