"""What to do about a task that failed, or that has to be tried again: a table, and one reader.

The reasons are those of records (docs/protocol.md). Some errors say more than their reason does,
so what they say comes first; a reason that nobody here knows is one that a handler gave.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Remedy(NamedTuple):
    """What it means, what to do, and whether the same task may succeed if it is run again."""

    cause: str
    advice: str
    again: bool


_CREDENTIAL: Final = "mend the credential, or what this task alone asks for, then retry"
_MONEY: Final = "raise the limit or pay, then resume the pool (agentflow resume --pool) and retry"
_MESSAGE: Final = "the message itself is wrong: submit a corrected one, drop this"
_SPLIT: Final = "split the prompt, or ask a model with a larger context; the same fails again"

SAYINGS: Final[tuple[tuple[str, Remedy], ...]] = (
    ("prompt is too long", Remedy("the prompt is longer than the model takes", _SPLIT, False)),
    ("credit balance is too low", Remedy("the account has no credit left", _MONEY, True)),
    ("request_too_large", Remedy("the request is larger than the API takes", _SPLIT, False)),
)

REASONS: Final[dict[str, Remedy]] = {
    # What the API says.
    "rate_limited": Remedy(
        "the rate limit is reached",
        "nothing: it waits as long as the API says; fewer slots or another pool make it rarer",
        True,
    ),
    "overloaded": Remedy("Claude is overloaded", "retry later; it is no fault of the task", True),
    "unavailable": Remedy(
        "a proxy or balancer on the way reaches nobody",
        "nothing while it is tried; later retry, and look at the gateway",
        True,
    ),
    "not_an_answer": Remedy(
        "what came is no answer: a login page, or another service",
        "look at the base URL and the proxy, then retry",
        True,
    ),
    "paused": Remedy(
        "the answer paused its turn again and again",
        "what came is kept; ask for less in one task",
        True,
    ),
    "server_error": Remedy(
        "the API had an error of its own", "retry; with the request id its makers can look", True
    ),
    "conflict": Remedy("the API did not finish the request", "retry", True),
    "authentication": Remedy("the key is not accepted", _CREDENTIAL, True),
    "permission": Remedy("the key may not do this", _CREDENTIAL, True),
    "billing": Remedy("the account cannot pay", _MONEY, True),
    "spend_limit": Remedy("the spend limit is reached", _MONEY, True),
    "too_large": Remedy("it is larger than is allowed", _SPLIT, False),
    "not_found": Remedy(
        "the API does not know what it asks for",
        "look at the model's name; submit it with another one",
        False,
    ),
    "schema": Remedy(
        "the answer breaks its schema, after all repairs",
        "its text is kept; loosen the schema, or allow more repairs, and retry",
        True,
    ),
    "invalid_request": Remedy(
        "the API refuses the request", "correct what the error names; the same fails again", False
    ),
    # The way there.
    "connection": Remedy(
        "the API could not be reached", "look at the worker's network and proxy, then retry", True
    ),
    "dropped": Remedy("the answer broke off", "retry; what was generated is paid again", True),
    "stalled": Remedy("the answer stood still", "retry; what was generated is paid again", True),
    "broken_json": Remedy("the answer could not be read", "retry; a proxy may change it", True),
    # The run.
    "timeout": Remedy(
        "an attempt took longer than the task's timeout",
        "retry where that was chance; else submit it with a longer timeout or less to do",
        True,
    ),
    "deadline": Remedy(
        "its deadline has passed", "nothing can start it any more: submit it anew", False
    ),
    "budget": Remedy(
        "a budget had no room for what it may cost",
        "raise the budget, or lower max_tokens; then retry it",
        True,
    ),
    "unpriced": Remedy(
        "a budget limits it, and its model has no price",
        "give the price (AGENTFLOW_PRICES), or another model; then retry it",
        True,
    ),
    "withdrawn": Remedy(
        "it was taken back before it was done", "run its job again, or retry it", True
    ),
    "payload_lost": Remedy(
        "what it asks is not in the object bucket any more", "submit it anew", False
    ),
    "start_within": Remedy(
        "it waited longer than it asked to",
        "add workers or pause less; submit it anew, or without start_within",
        False,
    ),
    "handler_error": Remedy(
        "its handler raised something", "mend the handler (its worker's log has more), retry", True
    ),
    "handler_retry": Remedy("its handler asked for it", "nothing: it comes again by itself", True),
    "worker_lost": Remedy(
        "its workers died while they ran it",
        "look at their logs and memory: it may be this task that kills them",
        True,
    ),
    "unknown_error": Remedy("nobody knows this error", "read it, retry once", True),
    "claude_cli_refused": Remedy(
        "Claude Code refuses the task", "correct what the error names", False
    ),
    "session_missing": Remedy(
        "the session to go on with is not there", "submit it without a session", False
    ),
    "bad_outcome": Remedy(
        "what the handler returned is no result", "mend the handler, then retry", True
    ),
    "result_not_json": Remedy(
        "what the handler returned is not JSON", "mend the handler, then retry", True
    ),
    "result_too_large": Remedy(
        "the result is too large to be stored",
        "let the handler write it to a file and return its name, then retry",
        True,
    ),
    # What is not a task.
    "empty": Remedy("it has no prompt", _MESSAGE, False),
    "bad_text": Remedy("it is neither JSON nor UTF-8", _MESSAGE, False),
    "bad_json": Remedy("its JSON cannot be read", _MESSAGE, False),
    "bad_field": Remedy("a field of it is not allowed", _MESSAGE, False),
    "bad_id": Remedy("its id cannot be one", _MESSAGE, False),
    "id_reused": Remedy(
        "its id belongs to another request",
        "retry it: it runs under this id; or submit it anew with an id of its own",
        True,
    ),
    "bad_subject": Remedy("it came on a subject that is none of a task", _MESSAGE, False),
    "invalid": Remedy("its kind refuses it", _MESSAGE, False),
    "unknown_kind": Remedy(
        "no worker of its queue knew its kind",
        "start a worker with that kind (agentflow worker --app), then retry; or drop it",
        True,
    ),
    "expired": Remedy(
        "it waited for more than 6 days", "start workers for its queue, then retry", True
    ),
    "too_many_deliveries": Remedy(
        "it was delivered more than 100 times",
        "it may be what kills its workers: read their logs before a retry",
        False,
    ),
    "message_lost": Remedy(
        "its message is gone from the queue", "submit it anew; find who purges the stream", False
    ),
    # Not failures: why a task waits or ended.
    "not_before": Remedy("it is to start later", "nothing: it starts by itself", True),
    "handed_back": Remedy("its worker stopped", "nothing: another takes it", True),
    "cancelled": Remedy("somebody cancelled it", "submit it anew where it is wanted", False),
}

OWN: Final = Remedy(
    "its handler gave it up", "read the error; retry once its cause is mended", True
)


def remedy(reason: str | None, error: str = "") -> Remedy:
    """What to do about a failure: its reason, and its error as text (type and message)."""
    for saying, known in SAYINGS:
        if saying in error:
            return known
    return REASONS.get(reason or "", OWN)
