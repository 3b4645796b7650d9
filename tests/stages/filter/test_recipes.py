from __future__ import annotations

import pytest

from curate.pipeline.config import Strict
from curate.pipeline.errors import UsageError
from curate.pipeline.recipe import load_recipe
from curate.stages.dedup.config import DedupConfig
from curate.stages.extract.config import ExtractConfig
from curate.stages.filter.config import FilterConfig
from curate.stages.filter.registry import registered

SECTIONS: dict[str, type[Strict]] = {"extract": ExtractConfig, "filter": FilterConfig, "dedup": DedupConfig}
PUBLISHED = {
    "word_count": {"min": 50, "max": 100_000}, "mean_word_length": {"min": 3, "max": 10},
    "hash_to_word_ratio": {"max": 0.1},
    "ellipsis_to_word_ratio": {"max": 0.1}, "bullet_line_fraction": {"max": 0.9}, "ellipsis_line_fraction": {"max": 0.3},
    "alphabetic_word_fraction": {"min": 0.8}, "stop_word_count": {"min": 2}, "duplicate_line_fraction": {"max": 0.3},
    "duplicate_paragraph_fraction": {"max": 0.3}, "duplicate_line_char_fraction": {"max": 0.2},
    "duplicate_paragraph_char_fraction": {"max": 0.2}, "top_2_gram_char_fraction": {"max": 0.2},
    "top_3_gram_char_fraction": {"max": 0.18}, "top_4_gram_char_fraction": {"max": 0.16}, "lorem_ipsum": {"is": False},
    "curly_bracket": {"is": False}, "sentence_count": {"min": 5}, "terminal_punctuation_line_fraction": {"min": 0.12},
    "short_line_fraction": {"max": 0.67}, "edited_duplicate_line_char_fraction": {"max": 0.01},
    "newline_to_word_ratio": {"max": 0.3},
} | {f"duplicate_{n}_gram_char_fraction": {"max": (20 - n) / 100} for n in range(5, 11)}  # fmt: skip
"""FineWeb's numbers: Gopher's table A1 and A1.1, C4's 2.2, FineWeb's table 2."""


def load(name, *settings):
    return load_recipe(name, SECTIONS, settings).section("filter")


def test_fineweb_has_the_published_numbers():
    config = load("fineweb")
    assert {name: dict(rule.bounds()) for name, rule in config.active.items()} == PUBLISHED
    assert (config.language.languages, config.language.threshold) == (["en"], 0.65)
    assert (config.lines.longest_word, config.lines.fewest_words, config.lines.terminal) == (1000, 3, False)
    assert (config.pii.emails, config.pii.ips) == (True, True)


def test_multilingual_keeps_all_languages_and_has_no_english_rule():
    config = load("multilingual")
    assert config.language.languages == "all"
    assert "stop_word_count" not in config.active
    assert set(config.active) < set(PUBLISHED)


@pytest.mark.parametrize("name", ["fineweb", "multilingual"])
def test_the_resolved_recipe_can_be_run_again(name, tmp_path):
    recipe = load_recipe(name, SECTIONS)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    again = load_recipe(str(tmp_path / "recipe.yaml"), SECTIONS)
    assert again.section("filter") == recipe.section("filter")
    assert again.section("filter").fingerprint() == recipe.section("filter").fingerprint()
    assert list(again.section("filter").rules) == list(recipe.section("filter").rules)


def test_a_setting_changes_one_bound_and_null_switches_a_rule_off():
    config = load("fineweb", "filter.rules.word_count.min=20", "filter.rules.sentence_count=null")
    assert dict(config.active["word_count"].bounds()) == {"min": 20, "max": 100_000}
    assert "sentence_count" not in config.active


def test_an_error_in_a_rule_names_file_line_and_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: fineweb\nfilter:\n  rules:\n    word_count: {min: 50, max: 20}\n    wrd_count: {min: 3}\n"
    )
    with pytest.raises(UsageError) as caught:
        load(str(path))
    assert "mine.yaml:5: filter.rules.wrd_count: no signal of this name; did you mean 'word_count'?" in str(
        caught.value
    )
    path.write_text(path.read_text().replace("    wrd_count: {min: 3}\n", ""))
    with pytest.raises(UsageError, match=r"mine.yaml:4: filter.rules.word_count: min 50 is above max 20"):
        load(str(path))


def test_a_rule_may_stand_on_any_signal_that_is_registered():
    names = [name for name, known in registered().items() if known.kind != "bool"]
    settings = [f"filter.rules.{name}={{max: {0.5 if registered()[name].high == 1 else 5}}}" for name in names]
    assert set(load("fineweb", *settings).active) >= set(names)
