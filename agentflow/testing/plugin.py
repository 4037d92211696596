"""The pytest plugin. pytest imports it at each start, so it imports nothing of weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentflow.testing.stack import Stack


@pytest.fixture
def agentflow_stack() -> Iterator[Stack]:
    """A fresh AgentFlow: server, worker and simulated Claude (see agentflow.testing)."""
    from agentflow.testing.stack import Stack

    with Stack() as stack:
        yield stack
