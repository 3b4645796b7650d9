from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.mixtures.config import MixConfig, parse_budget, read_weights


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("100k", 100_000),
        ("10M", 10_000_000),
        ("1.5B", 1_500_000_000),
        ("2T", 2_000_000_000_000),
        ("10b", 10_000_000_000),
        ("250_000", 250_000),
        ("1,000,000", 1_000_000),
        (" 7 ", 7),
        ("1e9", 10**9),
        ("10B tokens", 10**10),
        (123, 123),
        (1e9, 10**9),
        (1.5e6, 1_500_000),
    ],
)
def test_a_budget_is_read_as_tokens(text: object, tokens: int) -> None:
    assert parse_budget(text) == tokens


@pytest.mark.parametrize("text", ["10 GB", "10GB", "10 GiB", "5 bytes", "3kB", "10MB", "1.5 Gi"])
def test_an_amount_of_bytes_is_refused_as_such(text: str) -> None:
    with pytest.raises(ValueError, match="bytes, a budget is in tokens"):
        parse_budget(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "ten",
        "0",
        "-5",
        "1.5",
        "0.0001k",
        "10X",
        "1e99",
        "nan",
        "inf",
        "10k 5",
        True,
        None,
        [1],
        float("nan"),
        "2e15",
    ],
)
def test_what_is_no_budget_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="budget"):
        parse_budget(text)


@given(st.integers(1, 10**15))
def test_every_whole_number_of_tokens_is_its_own_budget(tokens: int) -> None:
    assert parse_budget(tokens) == parse_budget(str(tokens)) == parse_budget(f"{tokens:,}") == tokens


@given(st.text(max_size=12))
def test_any_text_gives_tokens_or_a_clear_error(text: str) -> None:
    try:
        assert parse_budget(text) >= 1
    except ValueError as error:
        assert "budget" in str(error)


def test_budgets_are_the_same_configuration_however_they_are_written() -> None:
    assert MixConfig.model_validate({"budget": "100k"}).fingerprint() == MixConfig(budget=100_000).fingerprint()
    assert MixConfig().budget is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.yaml", "science: 3\nsport: 1.5\n"),
        ("w.json", '{"science": 3, "sport": 1.5}'),
        ("w.csv", "bucket,weight\nscience,3\nsport,1.5\n"),
        ("bare.csv", "science,3\nsport,1.5\n"),
    ],
)
def test_weights_are_read_from_yaml_json_and_csv(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_weights(str(path)) == {"science": 3.0, "sport": 1.5}
    assert MixConfig(weights=str(path)).fingerprint() != MixConfig().fingerprint()


def test_another_content_of_the_weights_file_is_another_configuration(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text('{"science": 3}')
    before = MixConfig(weights=str(path)).fingerprint()
    path.write_text('{"science": 4}')
    assert MixConfig(weights=str(path)).fingerprint() != before


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("w.yaml", "science: -1\n", "science"),
        ("w.yaml", "science: lots\n", "science"),
        ("w.yaml", "- science\n", "mapping"),
        ("w.yaml", "a: [", "not valid YAML"),
        ("w.json", '{"a": NaN}', "'a'"),
        ("w.csv", "a,1\na,2\n", "given twice"),
        ("w.csv", "a,1,2\n", "w.csv:1"),
        ("w.csv", "a,much\n", "w.csv:1"),
        ("w.yaml", "science: 0\n", "no bucket"),
    ],
)
def test_a_wrong_weights_file_is_refused_when_the_recipe_is_loaded(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValidationError, match=says):
        MixConfig(weights=str(path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": ["text"]},
        {"by": ["topic", "topic"]},
        {"bins": {"quality": [0.5]}},
        {"by": ["quality"], "bins": {"quality": [0.5, 0.5]}},
        {"by": ["quality"], "bins": {"quality": []}},
        {"by": ["quality"], "bins": {"quality": [0.12345678, 0.12345679]}},
        {"max_repeats": 0},
        {"validation": 0.9},
        {"tokenizer": {"vocab_size": 256}},
        {"weights": {"a": float("inf")}},
        {"budgets": "10M"},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MixConfig.model_validate(wrong)
