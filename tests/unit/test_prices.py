"""What a request costs, to the micro-USD."""

import json
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import UsageError
from agentflow.handlers import price_file
from agentflow.protocol.record import Usage
from agentflow.rules.routes import prices
from agentflow.rules.routes.models import family, undated
from agentflow.rules.routes.prices import Detail, cost_micro

ROOT = Path(__file__).resolve().parents[2]
FILE = json.loads((ROOT / "agentflow/rules/prices.json").read_text())


@pytest.fixture(name="table", scope="module")
def _table() -> prices.Prices:
    return prices.parse((ROOT / "agentflow/rules/prices.json").read_bytes(), "prices.json")


def parsed(models: dict[str, Any], **more: Any) -> prices.Prices:
    return prices.parse(json.dumps({"models": models, **more}).encode(), "own.json")


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("claude-opus-5-5", [4, 20, 5, 8, 0.20]),
        ("claude-sonnet-5-5", [2, 10, 2.5, 4, 0.10]),
        ("claude-fable-5-2", [8, 40, 10, 16, 0.20]),
        ("claude-opus-5", [5, 25, 6.25, 10, 0.5]),
        ("claude-sonnet-5", [2, 10, 2.5, 4, 0.2]),
        ("claude-opus-4-8", [5, 25, 6.25, 10, 0.5]),
        ("claude-sonnet-4-6", [3, 15, 3.75, 6, 0.3]),
        ("claude-haiku-4-5", [1, 5, 1.25, 2, 0.1]),
        ("claude-haiku-4-5-20251001", [1, 5, 1.25, 2, 0.1]),
        ("claude-haiku-5-5", [0.5, 2.5, 0.625, 1, 0.05]),  # a million is a long prompt
    ],
)
def test_a_million_tokens_of_each_kind(model: str, usd: list[float], table: prices.Prices) -> None:
    hour = Detail(written_1h=MILLION)
    costs = [
        cost_micro(model, Usage(input_tokens=MILLION), table),
        cost_micro(model, Usage(output_tokens=MILLION), table),
        cost_micro(model, Usage(cache_creation_input_tokens=MILLION), table),
        cost_micro(model, Usage(cache_creation_input_tokens=MILLION), table, hour),
        cost_micro(model, Usage(cache_read_input_tokens=MILLION), table),
    ]
    if model == "claude-haiku-5-5":
        costs[1] = cost_micro(model, Usage(MILLION, MILLION), table)
        assert costs[0] is not None
        assert costs[1] is not None
        costs[1] -= costs[0]
    assert costs == [round(dollars * MILLION) for dollars in usd]


def test_a_prompt_above_the_tier_makes_every_token_dearer(table: prices.Prices) -> None:
    """Cached input is part of the prompt; output is not, but pays the tier's price."""
    short = Usage(60_000, 1_000, 20_000, 20_000)
    long = Usage(60_001, 1_000, 20_000, 20_000)
    assert cost_micro("claude-haiku-5-5", short, table) == 6_000 + 500 + 2_500 + 200
    assert cost_micro("claude-haiku-5-5", long, table) == 30_001 + 2_500 + 12_500 + 1_000
    # 30,000.5 is rounded half up, once.


def test_many_output_tokens_do_not_make_a_prompt_long(table: prices.Prices) -> None:
    assert cost_micro("claude-haiku-5-5", Usage(10, 200_000), table) == 100_001


@pytest.mark.parametrize(
    ("tokens", "micro"),
    [(0, 0), (1, 0), (4, 0), (5, 1), (14, 1), (15, 2), (10, 1)],
)
def test_rounding_is_half_up(tokens: int, micro: int, table: prices.Prices) -> None:
    usage = Usage(cache_read_input_tokens=tokens)  # a tenth of a micro-USD each
    assert cost_micro("claude-sonnet-5-5", usage, table) == micro


def test_what_is_unknown_has_no_price(table: prices.Prices) -> None:
    some = Usage(1, 1, 1, 1)
    assert cost_micro("claude-opus-9", some, table) is None
    assert cost_micro("claude-opus-5-5-20261", some, table) is None
    assert cost_micro("", some, table) is None
    assert cost_micro("claude-opus-5-5", some, table, Detail(unlisted="fast mode")) is None


def test_a_kind_of_token_that_an_entry_leaves_out_has_no_price() -> None:
    own = parsed({"mine": {"input": 1, "output": 2}})
    assert cost_micro("mine", Usage(10, 10), own) == 30
    assert cost_micro("mine", Usage(10, 10, 1), own) is None
    assert cost_micro("mine", Usage(10, 10, 0, 1), own) is None
    assert cost_micro("mine", Usage(10, 10), own, Detail(batch=True)) is None
    assert cost_micro("mine", Usage(10, 10), own, Detail(searches=1)) is None


def test_batches_and_searches(table: prices.Prices) -> None:
    usage = Usage(1_000, 1_000)
    assert cost_micro("claude-opus-5-5", usage, table) == 24_000
    assert cost_micro("claude-opus-5-5", usage, table, Detail(batch=True)) == 12_000
    assert cost_micro("claude-opus-5-5", usage, table, Detail(searches=3)) == 24_000 + 30_000
    both = Detail(searches=3, batch=True)
    assert cost_micro("claude-opus-5-5", usage, table, both) == 12_000 + 30_000


tokens = st.integers(0, 10**9)


@given(
    st.sampled_from(sorted(FILE["models"])),
    st.tuples(tokens, tokens, tokens, tokens),
    st.integers(0, 10**9),
    st.booleans(),
)
def test_the_cost_is_the_exact_sum(
    model: str, counts: tuple[int, int, int, int], written_1h: int, batch: bool
) -> None:
    table = prices.parse(json.dumps(FILE).encode(), "prices.json")
    cost = cost_micro(model, Usage(*counts), table, Detail(written_1h=written_1h, batch=batch))
    entry = FILE["models"][model]
    given, output, written, read = counts
    tier = entry.get("long_prompt")
    if tier and given + written + read > tier["above_tokens"]:
        entry = tier
    hour = min(written_1h, written)
    exact = sum(
        count * Fraction(str(entry[name]))
        for count, name in (
            (given, "input"),
            (output, "output"),
            (written - hour, "cache_write_5m"),
            (hour, "cache_write_1h"),
            (read, "cache_read"),
        )
    ) * (Fraction(1, 2) if batch else 1)
    assert cost is not None
    assert exact - Fraction(1, 2) < cost <= exact + Fraction(1, 2)


def test_the_table_says_where_it_comes_from(table: prices.Prices) -> None:
    assert table.source
    assert table.retrieved_at == date(2026, 11, 23)
    assert all(price.effective_from for price in table.models.values())


class TestOwnFile:
    @pytest.fixture
    def environ(self, tmp_path: Path) -> dict[str, str]:
        return {"AGENTFLOW_PRICES": str(tmp_path / "prices.json")}

    @staticmethod
    def write(environ: dict[str, str], text: str) -> None:
        Path(environ["AGENTFLOW_PRICES"]).write_text(text)

    def test_overrides_model_by_model(self, environ: dict[str, str]) -> None:
        self.write(
            environ,
            '{"models": {"claude-opus-5-5": {"input": 1, "output": 2}, "mine": '
            '{"input": 0.000001, "output": 3}}}',
        )
        table = price_file.load(environ)
        assert cost_micro("claude-opus-5-5", Usage(10, 10), table) == 30
        assert cost_micro("mine", Usage(500_000, 1), table) == 4
        assert cost_micro("claude-sonnet-5-5", Usage(10, 10), table) == 120
        assert cost_micro("claude-sonnet-5-5", Usage(10, 10), table, Detail(batch=True)) == 60

    def test_a_dated_name_of_its_own_goes_first(self, environ: dict[str, str]) -> None:
        self.write(environ, '{"models": {"claude-haiku-4-5-20251001": {"input": 7, "output": 7}}}')
        table = price_file.load(environ)
        assert cost_micro("claude-haiku-4-5-20251001", Usage(1), table) == 7
        assert cost_micro("claude-haiku-4-5", Usage(1), table) == 1

    def test_is_found_in_the_configuration_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / ".config" / "agentflow"
        folder.mkdir(parents=True)
        (folder / "prices.json").write_text('{"models": {"mine": {"input": 1, "output": 2}}}')
        table = price_file.load({"XDG_CONFIG_HOME": str(tmp_path / ".config")})
        assert "mine" in table.models

    def test_need_not_be_there(self, tmp_path: Path) -> None:
        assert price_file.load({"XDG_CONFIG_HOME": str(tmp_path)}).models

    def test_must_be_there_when_it_is_named(self, environ: dict[str, str]) -> None:
        with pytest.raises(UsageError, match="does not exist"):
            price_file.load(environ)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "cannot be read"),
            ("{", "cannot be read"),
            ("[]", "Expected `object`"),
            ('{"models": {"m": {"input": 1}}}', "missing required field `output`"),
            ('{"models": {"m": {"input": 1, "output": 1, "cache": 1}}}', "unknown field `cache`"),
            ('{"models": {"m": {"input": "a", "output": 1}}}', "decimal"),
            ('{"models": {"m": {"input": -1, "output": 1}}}', "m.input is -1"),
            ('{"models": {"m": {"input": 1, "output": 1e999999}}}', "m.output is 1E"),
            ('{"models": {"m": {"input": "NaN", "output": 1}}}', "m.input is NaN"),
            ('{"models": {"m": {"input": 0.0000001, "output": 1}}}', "more than 6 decimals"),
            ('{"batch_multiplier": 2e7}', "batch_multiplier is"),
            (
                '{"models": {"m": {"input": 1, "output": 1, "long_prompt": '
                '{"above_tokens": 9, "input": -2, "output": 1}}}}',
                "m.long_prompt.input is -2",
            ),
            ("[" * 100_000, "cannot be read"),
            ('{"models": {"\udcff": 1}}', "cannot be read"),
        ],
    )
    def test_that_is_broken_is_named_with_what_is_wrong(
        self, text: str, complaint: str, environ: dict[str, str]
    ) -> None:
        path = Path(environ["AGENTFLOW_PRICES"])
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UsageError) as caught:
            price_file.load(environ)
        assert str(path) in str(caught.value)
        assert complaint in str(caught.value)

    def test_that_is_a_folder_is_an_error(self, environ: dict[str, str]) -> None:
        Path(environ["AGENTFLOW_PRICES"]).mkdir()
        with pytest.raises(UsageError, match="cannot be read"):
            price_file.load(environ)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-5-5", "opus"),
        ("claude-sonnet-4-5-20250929", "sonnet"),
        ("claude-haiku-5-5", "haiku"),
        ("claude-fable-5-2", "fable"),
        ("claude-mythos-preview", "mythos"),
        ("my-sonnet", "other"),
        ("", "other"),
    ],
)
def test_families(model: str, name: str) -> None:
    assert family(model) == name


def test_only_a_date_is_taken_off_a_name() -> None:
    assert undated("claude-haiku-4-5-20251001") == "claude-haiku-4-5"
    assert undated("claude-haiku-4-5") == "claude-haiku-4-5"
    assert undated("claude-haiku-4-5-2025100") == "claude-haiku-4-5-2025100"
    assert undated("claude-x-20251001-beta") == "claude-x-20251001-beta"
