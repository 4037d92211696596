"""Every limit of the protocol in one place, each with its reason.

Bytes and seconds unless a name says otherwise.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024
DAY: Final = 86_400

# Sizes. A task and its dead letter (payload plus reason headers) must both fit one message.
SERVER_MAX_PAYLOAD: Final = 8 * MIB
"""max_payload of the servers we start."""
TASK_BYTES: Final = 4 * MIB
"""A task's payload: half of SERVER_MAX_PAYLOAD, so that a result as long still fits."""
PAYLOAD_BYTES: Final = 32 * MIB
"""All that a task says, as JSON: the Messages API takes no larger request. What is above TASK_BYTES
lies in the bucket of payloads."""
CHUNK_BYTES: Final = 512 * KIB
"""A part of a payload there: it fits a message of servers that others have set up, too."""
CHUNKS: Final = 20_000
"""Parts that wait there at most, some 10 GB; whoever submits then waits, as for a full queue."""
UPLOAD_WITHIN: Final = 1 * DAY
"""Parts of a payload that was never finished are removed after that."""
HEADER_RESERVE: Final = 16 * KIB
"""Room kept for headers beside a payload when a text is cut to fit one message."""
CARRY_BYTES: Final = 32 * KIB
"""A record's `carry`, copied by every writer."""
ERROR_TEXT: Final = 4 * KIB
"""Characters of an error message kept in a record; bodies of proxies can be whole HTML pages."""

TRACEBACK: Final = 8 * KIB
"""Characters of a traceback kept in a record."""

SCHEMA_BYTES: Final = 256 * KIB
"""A task's schema: it is compiled by the worker, and is part of every request."""
SCHEMA_DEPTH: Final = 200
"""Levels of a schema as JSON, references followed; the validator itself ends at 255."""

CACHE_BYTES: Final = 256 * MIB
"""max_bytes of the cache of answers; what is oldest goes first."""
CACHED_BYTES: Final = MIB
"""An answer that is kept: a few long ones must not drive thousands out."""

# Names. Queue names become consumer names, which the server shows in tables.
ID_PATTERN: Final = r"[A-Za-z0-9_-]{1,64}"
QUEUE_PATTERN: Final = r"[a-z0-9-]{1,24}"
LANE_PATTERN: Final = r"[A-Za-z0-9_-]{1,32}"
KIND_PATTERN: Final = r"[A-Za-z0-9_.-]{1,64}"
BUDGET_PATTERN: Final = r"job\.[A-Za-z0-9_-]{1,64}"
"""What a task may name as its budget: those of queues, pools and labels find it themselves."""
LABELS: Final = 16
"""Labels of a task; they travel in a header of its live copy too."""
LABEL_CHARS: Final = 64

# Times.
RETENTION: Final = 7 * DAY
"""max_age of AGENTFLOW_RECORDS; deduplication and cancel reach as far back."""
HORIZON: Final = 6 * DAY
"""not_before and retry delays: a parked log must outlive its schedule by a day."""
TIMEOUT_MAX: Final = 1 * DAY
"""A try's timeout: a run must end well before its own log may expire."""
TIMEOUT_DEFAULT: Final = 600.0
LEASE: Final = 15.0
"""ack_wait of the task consumers, renewed every third of it."""
ASK_EVERY: Final = 1.0
ASK_FOR: Final = 5.0
"""How long an owner of a running task is asked before its task is taken over."""
UNKNOWN_KIND_FOR: Final = 300.0
"""How long a task of a kind that a worker lacks is parked again and again: a rolling deploy."""
UNKNOWN_KIND_EVERY: Final = 15.0
UPGRADE_DELAY: Final = 60.0
"""A message this version does not understand comes back after so long."""
ADD_AGAIN: Final = 120
"""How long an addition to a counter that had no answer may be sent again."""
DEAD_RETENTION: Final = 30 * DAY

LANE_IDLE: Final = 3_600.0
"""How long a lane is empty before its consumers are removed: a thousand of them take 124 MB."""

# Counts.
MAX_ATTEMPTS: Final = 5
MAX_ATTEMPTS_LIMIT: Final = 100
TITLE_CHARS: Final = 80
"""Of a title, or of a prompt where there is none, that lists show."""
REPAIR: Final = 2
REPAIR_MAX: Final = 10
"""Times an answer that breaks its schema is asked again; each is paid."""
MAX_DELIVERIES: Final = 100
"""Past this a message is failed unparsed: it may be what kills the process that reads it."""
MAX_ACK_PENDING: Final = 20_000
MAX_WAITING: Final = 2_048
TASKS_MAX_MSGS: Final = 1_000_000
"""Depth of AGENTFLOW_TASKS; submitters wait when it is reached."""
RECORDS_PER_LOG: Final = 64
"""max_msgs_per_subject of AGENTFLOW_RECORDS: the last one decides, older ones are history."""
TOKENS_PER_SECOND: Final = 20
"""Messages a second a task may send on its token subject."""
HEARTBEAT: Final = 2.0
"""An actor says how it is this often."""
LOST_AFTER: Final = 2.5 * HEARTBEAT
"""Seconds of silence after which a worker is shown as lost; a look a second later is in time."""
