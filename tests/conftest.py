"""Fixtures and marks of every test."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import tools
from tests.support.nats_server import NatsServer
from tests.support.nats_server import free_port as any_free_port
from tests.support.parts import Parts

# A timing on a shared machine is no property of the code.
settings.register_profile("agentflow", deadline=None)
settings.load_profile("agentflow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="Run the long fault tests, at full scale.")
    parser.addoption("--web", action="store_true", help="Run the tests that drive a browser.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes, or a browser, is left out and not called skipped: `make faults` and
    `make test-web` run it.
    """
    kinds = [name for name in ("long", "web") if not config.getoption(f"--{name}")]
    left_out = [item for item in items if any(map(item.get_closest_marker, kinds))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Most tests wait for other processes most of the time: a core has room for three."""
    return 3 * (os.cpu_count() or 1)


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh real nats-server with JetStream on a loopback port."""
    server = NatsServer(tmp_path / "nats").start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """Starts processes of the program; they end with the test."""
    found = Parts(tmp_path)
    yield found
    found.end()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Call it for a loopback port that is free now."""
    return any_free_port


def tools_of(item: pytest.Item) -> set[str]:
    names = {name for mark in item.iter_markers("tools") for name in mark.args}
    unknown = names - tools.FINDERS.keys()
    if unknown or (not names and item.get_closest_marker("tools")):
        raise pytest.UsageError(
            f"{item.nodeid}: a tools mark names one or more of {', '.join(tools.FINDERS)}"
        )
    return names


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in sorted(tools_of(item)):
        if tools.FINDERS[name]() is None:
            package = tools.PACKAGES.get(name)
            how = f"apt-get install {package}" if package else "make tools"
            pytest.skip(f"{name} is not there, or may not run; `{how}` installs it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is silent: where the tools are to be had, it must not pass for a success."""
    report = yield
    owed = tools_of(item) & tools.required()
    # An expected failure is reported as a skip too, and is none.
    if report.skipped and owed and not hasattr(report, "wasxfail"):
        reason = call.excinfo.value if call.excinfo else "skipped"
        report.outcome = "failed"
        report.longrepr = f"skipped, but {', '.join(sorted(owed))} must be there: {reason}"
    return report
