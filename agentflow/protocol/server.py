"""The oldest nats-server that the protocol may be trusted to.

From 2.15 on a server refuses `Nats-Stream-Source` from clients (10227). By it a worker knows what
a schedule brought; an older server would let whoever may submit continue anybody's task.
"""

from __future__ import annotations

import re
from typing import Final

NEEDED: Final = (2, 15)


def new_enough(version: str) -> bool:
    """Whether a server of this version may be used; one that cannot be read may not."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= NEEDED


def too_old(who: str) -> str:
    """What to say of one that may not, and what to do."""
    least = ".".join(str(part) for part in NEEDED)
    return (
        f"AgentFlow needs nats-server {least} or newer, {who} is older: before that anybody who "
        "may submit could continue other people's tasks; upgrade the servers"
    )
