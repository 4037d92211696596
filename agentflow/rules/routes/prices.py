"""What a request costs, by a dated table of list prices.

The table (prices.json beside this file, overridden model by model by the user's own) holds USD per
million tokens. One USD per million tokens is one micro-USD a token, so everything is added in whole
millionths of a micro-USD and rounded once a request, half up, to micro-USD: no float is involved,
and a sum of requests is the sum of what was shown for each.

What the table does not know has no price: an unknown model, a kind of token that a model's entry
leaves out, fast mode, a pinned region, a tier of service. Then the cost is None with the reason,
never 0 and never a guess. A tier for long prompts is chosen by the request's own prompt (input,
cache writes and cache reads together) and holds for all its tokens. `effective_from` is the first
day the price is known to have held.

Reading files is handlers/price_file.py's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from agentflow.errors import UsageError
from agentflow.protocol.record import Usage
from agentflow.rules.routes.models import undated

_DECIMALS: Final = 6
"""Prices are exact to so many: one unit is a millionth of a micro-USD a token."""
_PLACES: Final = 10**_DECIMALS
_MOST: Final = 1_000_000
"""USD per million tokens; more is a slip of the pen, and 1e999999 would fill the memory."""

STALE_DAYS: Final = 90
"""A table older than that may be wrong: list prices change a few times a year."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Millionths of a micro-USD a token, by kind of token; None: no price is known."""

    input: int
    output: int
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    cache_read: int | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """A model's rates; those of `long` hold for prompts above `long_above` tokens."""

    rates: Rates
    effective_from: date | None = None
    long_above: int | None = None
    long: Rates | None = None


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """The table. `batch` and `search` (one web search) are in the same unit as the rates."""

    models: Mapping[str, Price]
    source: str = ""
    retrieved_at: date | None = None
    batch: int | None = None
    search: int | None = None


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's usage says beyond our own four counts.

    `written_1h` of the cache creation tokens were written for an hour, the others for five minutes.
    `unlisted`: what of the way it was served has no list price ("fast mode"), or "".
    """

    written_1h: int = 0
    searches: int = 0
    batch: bool = False
    unlisted: str = ""


PLAIN: Final = Detail()


class Part(msgspec.Struct, frozen=True):
    """What one model was asked within a request; most requests have one part."""

    model: str
    usage: Usage
    detail: Detail = PLAIN


class Cost(msgspec.Struct, frozen=True):
    """Micro-USD; None where any part has no price, and then why, as a sentence."""

    micro: int | None
    unpriced: str | None = None


class _NoPrice(Exception):
    """For what there is no price."""


def cost(parts: Iterable[Part], prices: Prices) -> Cost:
    """What a request of these parts costs, rounded once."""
    try:
        units = sum(_price_of_part(part, prices) for part in parts)
    except _NoPrice as missing:
        return Cost(None, f"no price for {missing}")
    return Cost((2 * units + _SCALE) // (2 * _SCALE))


def cost_micro(model: str, usage: Usage, prices: Prices, detail: Detail = PLAIN) -> int | None:
    """Micro-USD of a request of one part, None where any of it has no price."""
    return cost((Part(model, usage, detail),), prices).micro


def saved_by_caching(model: str, usage: Usage, prices: Prices, detail: Detail = PLAIN) -> int:
    """Micro-USD that the prompt cache took from a request's price; below 0 where it only wrote.

    0 where there is no price. What was written counts as written for five minutes.
    """
    plain = Usage(usage.input_tokens + usage.cached, usage.output_tokens)
    without = cost_micro(model, plain, prices, detail)
    paid = cost_micro(model, usage, prices, detail)
    return 0 if without is None or paid is None else without - paid


def price_of(model: str, prices: Prices) -> Price | None:
    """The model's entry, under its dated or its undated name."""
    return prices.models.get(model) or prices.models.get(undated(model))


def age_days(prices: Prices, today: date) -> int | None:
    """How old the table is, None where it does not say; above STALE_DAYS it wants another look."""
    return None if prices.retrieved_at is None else (today - prices.retrieved_at).days


_SCALE: Final = _PLACES * _PLACES


def _price_of_part(part: Part, prices: Prices) -> int:
    """Of which `_SCALE` make a micro-USD. Raises _NoPrice."""
    usage, detail = part.usage, part.detail
    price = price_of(part.model, prices)
    if price is None:
        raise _NoPrice(part.model[:64] or "an answer that does not name its model")
    if detail.unlisted:
        raise _NoPrice(detail.unlisted)
    prompt = usage.total - usage.output_tokens
    rates = price.rates
    if price.long is not None and price.long_above is not None and prompt > price.long_above:
        rates = price.long
    written_1h = min(detail.written_1h, usage.cache_creation_input_tokens)
    units = usage.input_tokens * rates.input + usage.output_tokens * rates.output
    for tokens, rate, kind in (
        (
            usage.cache_creation_input_tokens - written_1h,
            rates.cache_write_5m,
            "cache writes for five minutes",
        ),
        (written_1h, rates.cache_write_1h, "cache writes for an hour"),
        (usage.cache_read_input_tokens, rates.cache_read, "cache reads"),
    ):
        if tokens:
            if rate is None:
                raise _NoPrice(f"{kind} of {part.model[:64]}")
            units += tokens * rate
    if detail.batch and prices.batch is None:
        raise _NoPrice("batches")
    units *= _PLACES if not detail.batch or prices.batch is None else prices.batch
    if detail.searches:
        if prices.search is None:
            raise _NoPrice("web searches")
        units += detail.searches * prices.search * _PLACES
    return units


def merged(base: Prices, own: Prices) -> Prices:
    """`base` with the models and settings that `own` gives."""
    return Prices(
        models={**base.models, **own.models},
        source=base.source,
        retrieved_at=base.retrieved_at,
        batch=base.batch if own.batch is None else own.batch,
        search=base.search if own.search is None else own.search,
    )


# --- the file

_Tokens = Annotated[int, msgspec.Meta(ge=1)]


class _FileRates(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    input: Decimal
    output: Decimal
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    cache_read: Decimal | None = None


class _FileLong(_FileRates, forbid_unknown_fields=True, kw_only=True):
    above_tokens: _Tokens


class _FileModel(_FileRates, forbid_unknown_fields=True, kw_only=True):
    effective_from: date | None = None
    long_prompt: _FileLong | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    models: dict[str, _FileModel] = {}
    source: str = ""
    retrieved_at: date | None = None
    unit: str = ""
    batch_multiplier: Decimal | None = None
    web_search: Decimal | None = None


_decoder = msgspec.json.Decoder(_File)


def parse(data: bytes, name: str) -> Prices:
    """The table in a file's bytes; `name` is the file. Raises UsageError with what to correct."""
    try:
        file = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the prices in {name} cannot be read: {error}") from None
    try:
        search = _units(file.web_search, "web_search")
        return Prices(
            models={model: _price(entry, model) for model, entry in file.models.items()},
            source=file.source,
            retrieved_at=file.retrieved_at,
            batch=_units(file.batch_multiplier, "batch_multiplier"),
            # The file's price is for a thousand searches, and a rate is for a million tokens.
            search=None if search is None else search * 1_000,
        )
    except _BadNumber as bad:
        raise UsageError(f"the prices in {name} cannot be used: {bad}") from None


class _BadNumber(Exception):
    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")


def _price(entry: _FileModel, model: str) -> Price:
    long = entry.long_prompt
    return Price(
        rates=_rates(entry, model),
        effective_from=entry.effective_from,
        long_above=long.above_tokens if long else None,
        long=_rates(long, f"{model}.long_prompt") if long else None,
    )


def _rates(entry: _FileRates, where: str) -> Rates:
    return Rates(
        input=_exact(entry.input, f"{where}.input"),
        output=_exact(entry.output, f"{where}.output"),
        cache_write_5m=_units(entry.cache_write_5m, f"{where}.cache_write_5m"),
        cache_write_1h=_units(entry.cache_write_1h, f"{where}.cache_write_1h"),
        cache_read=_units(entry.cache_read, f"{where}.cache_read"),
    )


def _units(dollars: Decimal | None, field: str) -> int | None:
    return None if dollars is None else _exact(dollars, field)


def _exact(dollars: Decimal, field: str) -> int:
    if not dollars.is_finite() or not 0 <= dollars <= _MOST:
        raise _BadNumber(field, f"is {dollars}, not a number from 0 to {_MOST:,}")
    exponent = dollars.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_DECIMALS:
        raise _BadNumber(field, f"has more than {_DECIMALS} decimals")
    return int(dollars * _PLACES)
