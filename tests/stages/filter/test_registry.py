from __future__ import annotations

import importlib
import sys

import pytest

from curate.pipeline.errors import CurateError, UsageError
from curate.stages.filter import decide, registry, signal, signals
from curate.stages.text import Segmented

PLUGIN = '''
from curate.stages.filter import signal

@signal("exclamation_fraction", unit="fraction of characters", source="ours")
def exclamation_fraction(texts):
    """Exclamation marks / characters."""
    return [text.count("!") / max(len(text), 1) for text in texts]
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    registry.registered()
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    def write(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write


def test_a_users_signal_of_ten_lines_is_measured_and_ruled_on(plugin):
    plugin("my_signals_a", PLUGIN)
    table = signals(["Hey!!", "", "calm"])
    assert table.column("exclamation_fraction").to_pylist() == [pytest.approx(0.4), 0, 0]
    keep, failed = decide(table, {"exclamation_fraction": {"max": 0.1}})
    assert keep.tolist() == [False, True, True]
    assert (failed[0][0].rule, failed[0][0].value) == ("exclamation_fraction", pytest.approx(0.4))


def test_a_users_signal_may_use_the_segments_and_the_edited_text():
    @signal("kept_line_count", unit="lines", source="ours", text="edited", kind="int")
    def kept_line_count(texts: Segmented):
        return texts.lines.count

    table = signals(["one\nthese are three words"], ["kept_line_count"])
    assert table.to_pydict() == {"kept_line_count": [1]}


def test_a_name_that_is_taken_is_refused_and_says_where(plugin):
    plugin("my_signals_b", PLUGIN)
    with pytest.raises(
        UsageError, match=r"'exclamation_fraction' is registered twice: .*my_signals_b.py:4 and .*my_signals_c.py:4"
    ):
        plugin("my_signals_c", PLUGIN)
    with pytest.raises(UsageError, match=r"'word_count' is registered twice: .*gopher.py"):
        plugin("my_signals_d", PLUGIN.replace("exclamation_fraction", "word_count"))


def test_importing_the_same_plugin_again_is_no_second_signal(plugin):
    importlib.reload(plugin("my_signals_e", PLUGIN))
    assert signals(["!"], ["exclamation_fraction"]).to_pydict() == {"exclamation_fraction": [1.0]}


@pytest.mark.parametrize("name", ["Word Count", "9lives", "", "language", "characters", "id"])
def test_a_name_that_cannot_be_a_column_is_refused(name):
    with pytest.raises(UsageError, match="a name is made of"):
        signal(name, unit="words", source="ours")


@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "shape"), ([1.0, float("nan")], "finite"), (["a", "b"], "finite")]
)
def test_a_signal_that_gives_no_finite_number_for_each_text_is_an_error_that_names_it(values, message):
    signal("broken", unit="x", source="ours")(lambda texts: values)
    with pytest.raises(CurateError, match=f"'broken'.*{message}"):
        signals(["a", "b"], ["broken"])


@pytest.mark.parametrize(
    ("facts", "values"),
    [
        ({"unit": "fraction of words"}, [0.5, 7.0]),
        ({"unit": "ratio"}, [-0.5, 0.0]),
        ({"unit": "ratio"}, [1e300, 0.0]),
        ({"unit": "bytes", "kind": "int"}, [3_000_000_000, 0]),
        ({"unit": "yes or no", "kind": "bool"}, [2, 0]),
        ({"unit": "degrees", "low": -5.0, "high": 5.0}, [-5.5, 5.0]),
    ],
)
def test_a_signal_outside_the_range_that_it_declares_is_an_error_that_names_it(facts, values):
    signal("wild", source="ours", **facts)(lambda texts: values)
    with pytest.raises(CurateError, match=r"'wild' gave .* not in"):
        signals(["a", "b"], ["wild"])


def test_a_value_at_the_end_of_its_range_is_measured():
    signal("narrow", unit="x", source="ours", low=0.1, high=0.7)(lambda texts: [0.1, 0.7])
    assert signals(["a", "b"], ["narrow"]).column(0).to_pylist() == [pytest.approx(0.1), pytest.approx(0.7)]


@pytest.mark.parametrize("given", [("abc", None), (["abc"], "word_count")])
def test_a_string_is_no_list_of_texts_or_names(given):
    with pytest.raises(TypeError, match="not a string"):
        signals(*given)


def test_an_exception_in_a_signal_keeps_its_traceback_and_names_the_signal():
    signal("failing", unit="x", source="ours")(lambda texts: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        signals(["a"], ["failing"])
    assert caught.value.__notes__ == ["in the signal 'failing'"]


def test_every_signal_of_ours_says_unit_source_definition_and_text():
    for known in registry.registered().values():
        assert known.unit
        assert known.source
        assert known.definition, known.name
        assert known.text in ("extracted", "edited")


def test_the_catalogue_has_a_line_of_plain_words_for_every_signal():
    rows = {row["name"]: row for row in registry.catalogue()}
    assert list(rows) == list(registry.registered())
    assert all(value and "\n" not in value for row in rows.values() for value in row.values())
    assert rows["word_count"] | {"definition": ""} == {
        "name": "word_count",
        "unit": "words",
        "type": "int",
        "text": "extracted",
        "range": "0 and more",
        "source": "Gopher (Rae et al. 2021), section A1.1, quality filtering",
        "definition": "",
    }
    assert rows["word_count"]["definition"].startswith(
        "Words that hold anything but punctuation and symbols. datatrove:"
    )
    assert rows["lorem_ipsum"]["range"] == "0 to 1"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("ccnet_perplexity", "KenLM"),
        ("ccnet_bucket", "perplexity"),
        ("rps_doc_books_importance", "DSIR"),
        ("rps_doc_wikipedia_importance_length_correction", "DSIR"),
        ("rps_doc_ml_palm_score", "fastText"),
    ],
)
def test_a_published_signal_that_needs_a_model_is_refused_with_that_reason(name, needs):
    with pytest.raises(UsageError, match=f"'{name}' is not measured: it needs .*{needs}"):
        signals(["a"], [name])


PUBLISHED = """
ccnet_bucket ccnet_language_score ccnet_length ccnet_nlines ccnet_original_length ccnet_original_nlines ccnet_perplexity
rps_doc_books_importance rps_doc_books_importance_length_correction rps_doc_openwebtext_importance
rps_doc_openwebtext_importance_length_correction rps_doc_wikipedia_importance
rps_doc_wikipedia_importance_length_correction rps_doc_ml_palm_score rps_doc_ml_wikipedia_score rps_doc_ml_wikiref_score
rps_doc_curly_bracket rps_doc_frac_all_caps_words rps_doc_frac_chars_dupe_10grams rps_doc_frac_chars_dupe_5grams
rps_doc_frac_chars_dupe_6grams rps_doc_frac_chars_dupe_7grams rps_doc_frac_chars_dupe_8grams
rps_doc_frac_chars_dupe_9grams rps_doc_frac_chars_top_2gram rps_doc_frac_chars_top_3gram rps_doc_frac_chars_top_4gram
rps_doc_frac_lines_end_with_ellipsis rps_doc_frac_no_alph_words rps_doc_frac_unique_words rps_doc_ldnoobw_words
rps_doc_lorem_ipsum rps_doc_mean_word_length rps_doc_num_sentences rps_doc_stop_word_fraction
rps_doc_symbol_to_word_ratio rps_doc_unigram_entropy rps_doc_ut1_blacklist rps_doc_word_count
rps_lines_ending_with_terminal_punctution_mark rps_lines_javascript_counts rps_lines_num_words
rps_lines_numerical_chars_fraction rps_lines_start_with_bulletpoint rps_lines_uppercase_letter_fraction
"""


def test_every_published_signal_of_redpajama_is_measured_or_says_why_not():
    measured = {name for name in registry.registered() if name.startswith(("ccnet_", "rps_"))}
    assert measured | set(registry.NOT_MEASURED) == set(PUBLISHED.split())
    assert not measured & set(registry.NOT_MEASURED)
