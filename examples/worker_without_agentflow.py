"""A worker that speaks the protocol of docs/protocol.md by itself: Python's standard library only.

    NATS_URL=nats://127.0.0.1:4222 python3 examples/worker_without_agentflow.py QUEUE TASKS

It takes TASKS messages of QUEUE at normal priority, runs those of kind `shout` (the prompt in
capitals), and ends. It keeps every rule, so it may work beside others on one queue. Three things it
leaves out, because its tasks take no time: it does not renew its messages, has no mailbox for
questions and cancellations, and waits without a limit for the server's answers.
"""

import base64
import datetime
import json
import os
import re
import socket
import sys
import time

HORIZON = 6 * 86_400
FINAL = ("succeeded", "failed", "cancelled")
STATES = (*FINAL, "running", "queued", "scheduled", "retrying")
TOKENS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Superseded(Exception):
    """The log goes on without me."""


class Nats:
    """The part of NATS that is needed here, over a plain socket."""

    def __init__(self, url):
        host, port = url.removeprefix("nats://").split(":")
        self.io = socket.create_connection((host, int(port))).makefile("rwb")
        self.io.readline()  # INFO {...}
        self.inbox, self.count, self.waiting = f"_INBOX.{os.urandom(8).hex()}", 0, []
        self.send(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
        self.subscribe(self.inbox + ".*")

    def send(self, data):
        self.io.write(data)
        self.io.flush()

    def subscribe(self, subject):
        self.count += 1
        self.send(f"SUB {subject} {self.count}\r\n".encode())

    def publish(self, subject, data=b"", headers=None, reply=""):
        data = data.encode() if isinstance(data, str) else data
        block = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        block = f"NATS/1.0\r\n{block}\r\n".encode()
        sizes = f"{len(block)} {len(block) + len(data)}"
        self.send(f"HPUB {subject} {reply} {sizes}\r\n".encode() + block + data + b"\r\n")

    def read(self):
        """The next message: subject, reply, headers, data."""
        while True:
            verb, *words = self.io.readline().decode().split() or ["closed"]
            if verb == "PING":
                self.send(b"PONG\r\n")
            elif verb in ("MSG", "HMSG"):
                sizes = 2 if verb == "HMSG" else 1
                head = int(words[-2]) if verb == "HMSG" else 0
                body = self.io.read(int(words[-1]) + 2)[:-2]
                lines = body[:head].decode(errors="replace").split("\r\n")
                pairs = (line.split(":", 1) for line in reversed(lines[1:]) if ":" in line)
                headers = {name: text.strip() for name, text in pairs}  # the first of a name counts
                if lines[0].endswith("503"):
                    headers["Status"] = "503"  # nobody listens on the subject
                return words[0], words[2] if len(words) > 2 + sizes else "", headers, body[head:]
            elif verb != "PONG":
                raise ConnectionError(f"{verb} {words}")

    def next(self):
        """The next message that is no answer to a request."""
        return self.waiting.pop(0) if self.waiting else self.read()

    def request(self, subject, data=b"", headers=None):
        """The answer as JSON, None when nobody listens."""
        self.count += 1
        reply = f"{self.inbox}.{self.count}"
        self.publish(subject, data, headers, reply)
        while (message := self.read())[0] != reply:
            self.waiting.append(message)
        return None if "Status" in message[2] else json.loads(message[3])


NATS, QUEUE, TASKS = Nats(os.environ["NATS_URL"]), sys.argv[1], int(sys.argv[2])
ACTOR = f"shout-{os.getpid()}-{os.urandom(3).hex()}"


# The log.


def last(task_id):
    """L, from the stream's leader: its sequence and the record; (0, None): the log is empty."""
    body = json.dumps({"last_by_subj": f"agentflow.*.{task_id}"})
    stored = NATS.request("$JS.API.STREAM.MSG.GET.AGENTFLOW_RECORDS", body)
    if "message" not in stored:
        return 0, None
    return stored["message"]["seq"], json.loads(base64.b64decode(stored["message"]["data"]))


def append(task, before, state, **content):
    """Write the record that follows `before`; returns it with its sequence."""
    sequence, old = before
    copied = {
        "attempt": 0,
        "failures": 0,
        "usage": dict.fromkeys(TOKENS, 0),
        "cost_usd": 0,
        "timings": {"submitted": task["submitted"], "run_s": 0},
        "carry": None,
    }
    record = {name: (old or copied).get(name, value) for name, value in copied.items()}
    record |= {
        "v": 1,
        "id": task["id"],
        "state": state,
        "actor": ACTOR,
        "follows": sequence,
        "message": task["message"],
        "time": rfc3339(time.time()),
        "queue": QUEUE,
        "priority": task["priority"],
        "kind": task["kind"],
        "labels": {},
    }
    record |= content
    if record["carry"] is None:
        del record["carry"]
    subject = f"agentflow.{'results' if state in FINAL else 'progress'}.{task['id']}"
    fence = {
        "Nats-Expected-Last-Subject-Sequence": sequence,
        "Nats-Expected-Last-Subject-Sequence-Subject": f"agentflow.*.{task['id']}",
    }
    while True:
        ack = NATS.request(subject, json.dumps(record), fence)
        if ack and "error" not in ack:
            return ack["seq"], record
        now, stored = last(task["id"])  # a refusal, or nobody there, proves nothing
        if stored == record:
            return now, record  # it is my own write
        if now != sequence:
            raise Superseded
        time.sleep(0.1)  # it is unchanged: send again


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


# What goes with a record: the payload, in a schedule or a dead letter.


def store(subject, task, headers):
    kept = {name: text for name, text in task["headers"].items() if not name.startswith("Nats-")}
    while "seq" not in (NATS.request(subject, task["data"], kept | headers) or {}):
        time.sleep(0.1)


def park(task, entry):
    store(
        f"agentflow.schedule.{task['id']}.{entry[0]}",
        task,
        {
            "Nats-Schedule": f"@at {entry[1]['resume_at']}",
            "Nats-Schedule-Target": f"agentflow.due.{QUEUE}.{task['priority']}",
            "Agentflow-Id": task["id"],
            "Agentflow-Follows": entry[0],
        },
    )


def bury(task, entry):
    store(
        f"agentflow.dead.{QUEUE}.{task['id']}",
        task,
        {
            "Agentflow-Id": task["id"],
            "Agentflow-Reason": entry[1]["reason"],
            "Agentflow-Sequence": entry[0],
            "Agentflow-Priority": task["priority"],
        },
    )


# The message.


def parse(reply, headers, data):
    """What a delivery says; `problem` is the reason why it cannot be run."""
    delivered, sequence, _, stored, _ = reply.split(".")[4:]
    task = {
        "headers": headers,
        "data": data,
        "delivered": int(delivered),
        "message": f"{sequence}-{stored}",
        "submitted": rfc3339(int(stored) / 1e9),
        "age": time.time() - int(stored) / 1e9,
        "problem": None,
        "body": {},
        "priority": "normal",
        "kind": "unknown",
        "follows": 0,
        # The server refuses this header from clients, so it says who brought the message.
        "sourced": headers.get("Nats-Stream-Source", "").startswith("AGENTFLOW_SCHEDULE "),
    }
    try:
        task["follows"] = int(headers.get("Agentflow-Follows", 0))
        text = data.decode()
        task["body"] = json.loads(text) if text.lstrip()[:1] == "{" else {"prompt": text}
        task["kind"] = task["body"].get("kind") or headers.get("Agentflow-Kind", "claude")
        if task["kind"] != "shout":
            task["problem"] = "unknown_kind"
        elif task["body"].keys() - {"prompt", "kind", "id", "max_attempts", "not_before"}:
            task["problem"] = "bad_field"
        elif not isinstance(task["body"].get("prompt"), str):
            task["problem"] = "empty"
    except ValueError:
        task["problem"] = "bad_json"
    names = (headers.get("Agentflow-Id"), task["body"].get("id"), headers.get("Nats-Msg-Id"))
    usable = [text for text in names if re.fullmatch("[A-Za-z0-9_-]{1,64}", str(text or ""))]
    task["id"] = usable[0] if usable else f"{QUEUE}-{sequence}-{base36(int(stored) // 10**6)}"
    return task


def base36(number):
    digits = base36(number // 36) if number >= 36 else ""
    return digits + "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36]


def decide(task, before):
    """The worker's table."""
    sequence, record = before
    state = record and record["state"]
    if record and (record["v"] > 1 or state not in STATES):
        return "later"
    if record is None and task["age"] > HORIZON:
        return "expire"
    if record is None:
        return "claim"
    mine = record["message"] == task["message"]
    if task["follows"] >= sequence and state not in ("succeeded", "cancelled"):
        if task["sourced"] or (state == "failed" and task["follows"] == sequence):
            return "claim"
        if task["follows"] > sequence and task["delivered"] < 3 and not mine:
            return "later"  # an old leader may have answered
    if not mine:
        return "ack"
    return {
        "failed": "bury",
        "scheduled": "park",
        "retrying": "park",
        "queued": "claim",
        "running": "ask",
    }.get(state, "ack")


def take(task):
    """Do with a delivery what the table says; returns the answer to it, None for no answer."""
    before, act = (0, None), None
    if "Agentflow-Needs" in task["headers"]:
        act = "later"
    elif task["delivered"] == 1 and not task["follows"] and task["age"] < HORIZON:
        act = "claim"
    while True:
        try:
            if act is None:
                before = last(task["id"])
                act = decide(task, before)
            if act == "ask" and held_by(before[1]["actor"], task):
                return None
            if act == "later":
                return '-NAK {"delay":60000000000}'
            if act == "bury":
                bury(task, before)
            elif act == "park":
                park(task, before)
            elif act != "ack":
                claim = start(task, before, act)
                if claim is not None:
                    break
            return "+ACK"
        except Superseded:
            act = None  # another came first: look again
    try:
        append(task, claim, "succeeded", text=task["body"]["prompt"].upper())
    except Superseded:
        return None  # the run was mine, the task no longer is: neither ack nor nak
    return "+ACK"


def start(task, before, act):
    """Claim a task and return the claim; None where it is parked or has failed instead."""
    old = before[1] or {"attempt": 0, "failures": 0, "state": None}
    counts = {"running": old["failures"] + 1, "failed": 0}  # taken over; retried by hand
    failures = counts.get(old["state"], old["failures"])
    reason = "expired" if act == "expire" else task["problem"]
    if task["delivered"] > 100:
        reason = "too_many_deliveries"
    if act == "ask" and failures >= task["body"].get("max_attempts", 5):
        reason = "worker_lost"
    if reason:
        error = {"type": reason, "message": "see docs/protocol.md"}
        entry = append(task, before, "failed", reason=reason, error=error, failures=failures)
        bury(task, entry)
        return None
    at = task["body"].get("not_before")
    as_it_was = not task["follows"] or old.get("reason") == "withdrawn"
    if at and as_it_was and datetime.datetime.fromisoformat(at).timestamp() > time.time():
        park(task, append(task, before, "scheduled", resume_at=at, reason="not_before"))
        return None
    return append(task, before, "running", attempt=old["attempt"] + 1, failures=failures)


def held_by(actor, task):
    """Whether the owner of a running task says, within five seconds, that it holds the message."""
    for _ in range(5):
        question = json.dumps({"type": "holds", "message": task["message"]})
        answer = NATS.request(f"agentflow.control.worker.{actor}", question)
        if answer is not None:
            return answer["holds"]
        time.sleep(1)
    return False


# The consumer, and the loop.

config = {
    "name": f"{QUEUE}-normal",
    "durable_name": f"{QUEUE}-normal",
    "ack_policy": "explicit",
    "deliver_policy": "all",
    "replay_policy": "instant",
    "ack_wait": 15_000_000_000,
    "max_deliver": -1,
    "max_ack_pending": 20_000,
    "max_waiting": 2048,
    "num_replicas": 0,
    "filter_subjects": [f"agentflow.tasks.{QUEUE}", f"agentflow.tasks.{QUEUE}.normal"],
}
made = NATS.request(
    f"$JS.API.CONSUMER.CREATE.AGENTFLOW_TASKS.{QUEUE}-normal",
    json.dumps({"stream_name": "AGENTFLOW_TASKS", "config": config, "action": "create"}),
)
if "error" in made and made["error"]["err_code"] not in (10013, 10148):  # it is there
    sys.exit(made["error"]["description"])
NATS.subscribe("_INBOX.tasks." + ACTOR)
while TASKS:
    NATS.publish(
        f"$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.{QUEUE}-normal",
        '{"batch":1,"expires":30000000000}',
        reply="_INBOX.tasks." + ACTOR,
    )
    message = NATS.next()
    if message[1].startswith("$JS.ACK."):  # anything else is a status, such as: request expired
        answer = take(parse(*message[1:]))
        if answer:
            NATS.publish(message[1], answer)
            NATS.request("$JS.API.INFO")  # a round trip: the answer has arrived
        TASKS -= 1
