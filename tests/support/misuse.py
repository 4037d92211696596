"""Every public method of the client, called where it cannot work; found by introspection.

`python -m tests.support.misuse URL` does it in forks of itself, and prints what was not refused.
"""

import asyncio
import inspect
import os
import signal
import sys
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from agentflow import sync
from agentflow.client import Client
from agentflow.client.operate.bulk import Selection
from agentflow.client.operate.deadletters import DeadFilter
from agentflow.client.tasks.submission import prepare
from agentflow.config import Connect
from agentflow.errors import NotConnected, UsageError
from agentflow.protocol.jobs import Job
from agentflow.protocol.task import TaskBody
from agentflow.protocol.webhooks import Webhook

GIVEN: Final[dict[str, Any]] = {
    "after": 0,
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "batch_id": "msgbatch_1",
    "body": TaskBody(prompt="x"),
    "count": 1,
    "fields": {"prompt": "x"},
    "first": 1,
    "handles": [],
    "hook": Webhook(url="https://example.com/"),
    "ids": ["t1"],
    "items": ["x"],
    "job": "j",
    "message": prepare({"prompt": "x"}, task_id="t1"),
    "most": 1,
    "named": "j",
    "now": datetime(2026, 1, 1, tzinfo=UTC),
    "priority": "normal",
    "lane": "",
    "queue": "default",
    "reason": "operator",
    "role": "viewer",
    "selection": Selection(),
    "sequence": 1,
    "sink": print,
    "task_id": "t1",
    "tasks": [],
    "timeout": 1.0,
    "token_id": "abcd1234",
    "until": 1,
    "kind": None,
    "told": print,
    "concurrency": 1,
    "ordered": False,
    "wanted": DeadFilter(),
    "state": "queued",
    "label": {},
}
"""An argument for each parameter that has no default."""

SENSIBLE: Final[dict[str, dict[str, Any]]] = {
    "Jobs.keep": {
        "job": Job(
            id="j",
            file="f",
            results="r",
            queue="q",
            lines=1,
            defaults="",
            who="me",
            started=datetime(2026, 1, 1, tzinfo=UTC),
            seen=datetime(2026, 1, 1, tzinfo=UTC),
        ),
    },
    "Tasks.submit": {"prompt": "x"},
    "Pauses.pause": {"queue": "default"},
    "Pauses.resume": {"queue": "default"},
    "Draining.workers": {"all": True},
}
"""What must be given for a call to make sense, though each has a default."""

HARMLESS: Final = {
    "Client.open": "what makes it work again",
    "Client.close": "there is nothing left to close, or it is the parent's",
    "Live.close": "ends what is known of it here",
    "Live.rows": "called by what it follows",
    "Live.anew": "called by what it follows",
    "Live.progress": "called by what it follows",
    "TaskHandle.expect_nothing": "nothing is expected any more",
    "SyncClient.close": "as Client.close",
}

Call = tuple[str, Callable[[], Any]]


def calls(target: Any) -> Iterator[Call]:
    """Each public method of an object with arguments; an unknown parameter is an error here."""
    kind = type(target)
    for name, function in inspect.getmembers(kind, callable):
        title = f"{kind.__name__}.{name}"
        more = SENSIBLE.get(title, {})
        if name.startswith("_") or title in HARMLESS:
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        arguments = {
            parameter.name: GIVEN[parameter.name]
            for parameter in parameters
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        yield title, partial(_call, target, name, arguments | more)


def _call(target: Any, name: str, arguments: dict[str, Any]) -> Any:
    return getattr(target, name)(**arguments)


def properties(client: Client) -> Iterator[Call]:
    """Each part of a client that is reached by its name."""
    for name, value in vars(Client).items():
        if isinstance(value, property) and name[0] != "_":
            yield f"Client.{name}", partial(getattr, client, name)


def parts_of(client: Client) -> list[object]:
    """What an open client hands out, to be used later."""
    parts = [getattr(client, name.partition(".")[2]) for name, _ in properties(client)]
    own = [part for part in parts if type(part).__module__.startswith("agentflow.client.")]
    own += [part for name, part in vars(client.operate).items() if name[0] != "_"]
    return [client, *own, client.task("t1"), client.live(print)]


def all_calls(client: Client, parts: Iterable[object]) -> list[Call]:
    return [*properties(client), *(call for part in parts for call in calls(part))]


def refusal(call: Callable[[], Any]) -> str:
    """The sentence with which a call is refused before it waits for anything; "" if it is not."""
    try:
        outcome = call()
        if isinstance(outcome, Coroutine):
            try:
                outcome.send(None)
            finally:
                outcome.close()
        elif isinstance(outcome, AsyncGenerator):
            outcome.__anext__().send(None)
        elif isinstance(outcome, Iterator):
            next(outcome)
    except (NotConnected, UsageError) as error:
        return str(error)
    except StopIteration:
        pass
    except Exception as error:
        return repr(error)
    return ""


def accepted(made: Iterable[Call], word: str) -> list[str]:
    """The calls that were not refused in one sentence with this word."""
    wrong = []
    for name, call in made:
        sentence = refusal(call)
        if word not in sentence or "\n" in sentence:
            wrong.append(f"{name}: {sentence!r}")
    return wrong


# In a fork.


def in_fork(work: Callable[[], list[str]]) -> list[str]:
    """What `work` returns in a child process, which has 30 seconds and ends as programs do."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            wrong = work()
        except Exception as error:
            wrong = [traceback.format_exc().replace("\n", " | "), repr(error)]
        os.write(writing, "\n".join(wrong).encode() or b"-")
        sys.exit()
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read().decode()
    status = os.waitpid(child, 0)[1]
    if status or not text:
        return [f"the fork ended with {status} and said {text!r}"]
    return [] if text == "-" else text.split("\n")


async def _forked(url: str) -> list[str]:
    client = await Client(Connect(urls=(url,)))
    made = all_calls(client, parts_of(client))
    unread = client.task("t2")

    def work() -> list[str]:
        wrong = accepted(made, "fork")
        wrong += accepted([("TaskHandle.result", lambda: unread.result(timeout=2))], "fork")
        if refusal(client.close):
            wrong.append("close is refused")
        return wrong + asyncio.run(_opened_again(client))

    try:
        wrong = in_fork(work)
    except SystemExit:
        os._exit(0)  # the loop of the parent is not to be run on here
    # The parent's connection is as it was.
    await client.submit("x", id="after")
    await client.close()
    return wrong


async def _opened_again(client: Client) -> list[str]:
    async with client:
        await client.submit("x", id="again")
    return []


def _sync_forked(url: str) -> list[str]:
    with sync.connect(url) as client:
        task = client.submit("x")

        def work() -> list[str]:
            wrong = accepted([*calls(client), *calls(task)], "fork")
            client.close()
            with sync.connect(url) as another:
                another.submit("x")
            return wrong

        wrong = in_fork(work)
        client.submit("y")
    return wrong


def main(url: str) -> None:
    for line in [*_sync_forked(url), *asyncio.run(_forked(url))]:
        print(line)


if __name__ == "__main__":
    main(sys.argv[1])
