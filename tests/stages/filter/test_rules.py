from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import FailedRule
from curate.stages.filter import decide, signals
from curate.stages.filter.config import FilterConfig
from curate.stages.filter.decisions import Policy, failures, ledger_rows
from curate.stages.filter.rules import Rule

TOPICS = (
    "rivers",
    "mountains",
    "harbours",
    "orchards",
    "bridges",
    "markets",
    "libraries",
    "gardens",
    "railways",
    "islands",
)
GOOD = """The old harbour lies to the north of the town, and fishing boats still leave it before dawn.
Visitors who walk along its wall can see the island where a lighthouse has stood since 1871.
Every spring the river brings down so much water that the lower meadows have to be closed.
Farmers there grow apples, pears and a small sweet plum which is sold on Saturday mornings.
A library was opened in the former customs house after a long campaign by local teachers.
It holds maps of the coast, letters from sailors and the only complete set of parish papers.
Railway engineers planned a bridge across the bay, but nobody could be found to pay for it.
Their drawings hang today in the council chamber, next to a portrait of the first mayor.
In winter the hotels stand empty, so musicians rent them cheaply and rehearse with friends.
Those who have heard the concerts say that nothing else in the county sounds quite like it."""


def fineweb():
    import yaml

    from curate.pipeline.recipe import recipe_text

    return yaml.safe_load(recipe_text("fineweb"))["filter"]["rules"]


def broken(text):
    _, (failed,) = decide(signals([text]), fineweb())
    return [rule.rule for rule in failed]


def test_a_plain_page_passes_every_rule_of_fineweb():
    assert broken(GOOD) == []


LONG = " ".join(f"{word}{n}" for n in range(30) for word in ("alpha", "beta", "gamma"))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("duplicate_paragraph_fraction", GOOD + "\n\nSo it is said." * 3),
        ("duplicate_paragraph_char_fraction", "\n\n".join([GOOD, GOOD])),
        ("duplicate_line_fraction", GOOD + "\nIt is." * 9),
        ("duplicate_line_char_fraction", f"{GOOD}\n{GOOD}"),
        ("top_2_gram_char_fraction", GOOD + " extraordinary circumstances" * 30),
        ("top_3_gram_char_fraction", GOOD + " under extraordinary circumstances" * 30),
        ("top_4_gram_char_fraction", GOOD + " under such extraordinary circumstances" * 30),
        ("duplicate_5_gram_char_fraction", GOOD + " one may walk along it" * 30),
        ("duplicate_6_gram_char_fraction", GOOD + " one may well walk along it" * 30),
        ("duplicate_7_gram_char_fraction", GOOD + " one may well walk along it today" * 30),
        ("duplicate_8_gram_char_fraction", GOOD + " one may well walk along it even today" * 30),
        ("duplicate_9_gram_char_fraction", GOOD + " now one may well walk along it even today" * 30),
        ("duplicate_10_gram_char_fraction", GOOD + " and now one may well walk along it even today" * 30),
        ("word_count", "The short page of few words. " * 2),
        ("mean_word_length", "a b of it to be an is we he " * 30),
        ("mean_word_length", " ".join(f"donaudampfschifffahrt{n}" for n in range(60))),
        ("hash_to_word_ratio", GOOD + " #tag" * 60),
        ("ellipsis_to_word_ratio", GOOD.replace(" ", " … ", 60)),
        ("bullet_line_fraction", "- " + GOOD.replace("\n", "\n- ")),
        ("ellipsis_line_fraction", GOOD.replace(".\n", "...\n")),
        ("alphabetic_word_fraction", GOOD + " " + " ".join(str(n) for n in range(1000, 1080))),
        ("stop_word_count", LONG),
        ("lorem_ipsum", GOOD + "\nHere stands Lorem Ipsum as ever."),
        ("curly_bracket", GOOD + "\nSuch as this { brace here."),
        ("sentence_count", GOOD.replace("\n", " ").replace(".", ",")),
        ("terminal_punctuation_line_fraction", GOOD.replace(".", "")),
        ("short_line_fraction", GOOD.replace(" ", "\n").replace("\n", " ", 20).replace("\n", " a b\n")),
        ("edited_duplicate_line_char_fraction", GOOD + "\n" + GOOD.split("\n")[0]),
        ("newline_to_word_ratio", "\n".join(f"{a} {b} {c}." for a in TOPICS for b in TOPICS[:3] for c in TOPICS[:2])),
    ],
)  # fmt: skip
def test_each_rule_of_fineweb_drops_the_page_that_breaks_it(rule, text):
    assert rule in broken(text)


def test_every_rule_of_fineweb_has_a_page_above():
    (mark,) = test_each_rule_of_fineweb_drops_the_page_that_breaks_it.pytestmark
    tested = {rule for rule, _ in mark.args[1]}
    assert tested == set(fineweb())


def test_a_value_exactly_at_a_bound_passes_and_one_beyond_fails():
    table = pa.table(
        {
            "duplicate_line_fraction": pa.array([0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.0], pa.float32()),
            "word_count": pa.array([50, 100, 49], pa.int32()),
            "lorem_ipsum": pa.array([0, 0, 1], pa.int32()),
        }
    )
    rules = {
        "word_count": {"min": 50, "max": 100}, "lorem_ipsum": {"is": False}, "duplicate_line_fraction": {"max": 0.3}
    }  # fmt: skip
    keep, failed = decide(table, rules)
    assert keep.tolist() == [True, False, False]
    assert failed == [
        (),
        (FailedRule("duplicate_line_fraction", 0.30000004, "max", 0.3),),
        (FailedRule("word_count", 49.0, "min", 50.0), FailedRule("lorem_ipsum", 1.0, "is", 0.0)),
    ]


def test_failed_rules_come_in_the_order_of_the_recipe_and_null_is_off():
    table = signals(["tiny"])
    rules = {"stop_word_count": {"min": 2}, "sentence_count": None, "word_count": {"min": 50}}
    assert [rule.rule for rule in decide(table, rules)[1][0]] == ["stop_word_count", "word_count"]
    assert [rule.rule for rule in decide(table, dict(reversed(rules.items())))[1][0]] == [
        "word_count",
        "stop_word_count",
    ]


def test_tables_of_many_chunks_and_of_no_rows_are_decided():
    table = pa.Table.from_batches([signals(["tiny"]), signals(["", GOOD])])
    keep, failed = decide(table, {"word_count": {"min": 50}})
    assert keep.tolist() == [False, False, True]
    assert [len(rules) for rules in failed] == [1, 1, 0]
    assert decide(table.slice(0, 0), {"word_count": {"min": 50}})[1] == []


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"word_cuont": {"min": 5}}, "word_cuont: no signal of this name; did you mean 'word_count'"),
        ({"ccnet_perplexity": {"max": 5}}, "ccnet_perplexity: is not measured: it needs RedPajama's KenLM"),
        ({"word_count": {}}, "word_count: the rule is empty"),
        ({"word_count": {"min": 5, "max": 4}}, "word_count: min 5 is above max 4: no document could pass"),
        ({"word_count": {"minimum": 5}}, "word_count: unknown key 'minimum'; did you mean 'min'"),
        ({"word_count": {"min": "5"}}, "word_count.min: Input should be a valid number"),
        ({"word_count": {"min": True}}, "word_count.min: Input should be a valid number"),
        ({"word_count": {"max": math.inf}}, "word_count.max: Input should be a finite number"),
        ({"word_count": {"max": math.nan}}, "word_count.max: Input should be a finite number"),
        ({"word_count": 5}, "word_count: a rule is written as"),
        ({"word_count": {"is": True}}, "word_count: word_count is a number"),
        ({"lorem_ipsum": {"max": 0}}, "lorem_ipsum: lorem_ipsum is true or false"),
        ({"lorem_ipsum": {"is": 0}}, "lorem_ipsum.is: Input should be a valid boolean"),
        ({"bullet_line_fraction": {"min": 2}}, "bullet_line_fraction: no document could pass"),
        ({"bullet_line_fraction": {"max": 1.0}}, "bullet_line_fraction: max can never drop a document"),
        ({"bullet_line_fraction": {"max": 0.5, "min": 0}}, "bullet_line_fraction: min can never drop a document"),
        ({"word_count": {"max": -1}}, "word_count: no document could pass"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(rules, message):
    with pytest.raises(UsageError, match="^rules: " + message):
        decide(signals([GOOD]), rules)


def test_a_rule_on_a_signal_that_the_table_lacks_is_refused():
    with pytest.raises(UsageError, match="word_count: the table has no such column"):
        decide(signals([GOOD], ["mean_word_length"]), {"word_count": {"min": 50}})


def overlaid(base, own, languages, values):
    table = pa.table(
        {"mean_word_length": pa.array(values, pa.float32()), "word_count": pa.array([60] * len(values), pa.int32())}
    )
    _, failed = decide(table, base, by_language={"de": own}, languages=languages)
    return [[(rule.rule, rule.bound, rule.threshold) for rule in found] for found in failed]


BASE = {"word_count": {"min": 50}, "mean_word_length": {"min": 3, "max": 8}}


def test_a_languages_rule_lies_over_the_rule_for_all_bound_by_bound():
    found = overlaid(BASE, {"mean_word_length": {"max": 12}}, ["en", "deu_Latn", "de", None, "de"], [10, 10, 13, 10, 2])
    assert found == [
        [("mean_word_length", "max", 8.0)],
        [],
        [("mean_word_length", "max", 12.0)],
        [("mean_word_length", "max", 8.0)],
        [("mean_word_length", "min", 3.0)],
    ]


def test_null_switches_a_rule_or_a_bound_off_for_one_language():
    assert overlaid(BASE, {"mean_word_length": None}, ["de", "en"], [99, 99]) == [
        [],
        [("mean_word_length", "max", 8.0)],
    ]
    assert overlaid(BASE, {"mean_word_length": {"min": None}}, ["de", "en"], [1, 1]) == [
        [],
        [("mean_word_length", "min", 3.0)],
    ]
    assert overlaid(BASE, {"mean_word_length": {"min": None}}, ["de"], [9]) == [[("mean_word_length", "max", 8.0)]]


def test_a_language_may_have_a_rule_that_others_have_not_and_its_reasons_come_last():
    found = overlaid({"word_count": {"min": 70}}, {"mean_word_length": {"max": 5}}, ["de", "fr"], [6, 6])
    assert found == [[("word_count", "min", 70.0), ("mean_word_length", "max", 5.0)], [("word_count", "min", 70.0)]]


def test_a_rule_that_is_impossible_only_together_with_the_one_below_is_refused():
    with pytest.raises(UsageError, match="mean_word_length: min 9 is above max 8"):
        overlaid(BASE, {"mean_word_length": {"min": 9}}, ["de"], [6])
    with pytest.raises(UsageError, match="the rule is empty"):
        overlaid(BASE, {"word_count": {"min": None}}, ["de"], [6])


def test_languages_are_the_tables_own_where_none_are_given_and_must_be_one_a_document():
    table = pa.table({"language": ["de", "fr"], "word_count": pa.array([10, 10], pa.int32())})
    keep, _ = decide(table, {"word_count": {"min": 50}}, by_language={"de": {"word_count": {"min": 5}}})
    assert keep.tolist() == [True, False]
    with pytest.raises(UsageError, match="1 languages for 2 documents"):
        decide(table, {}, by_language={"de": {"word_count": {"min": 5}}}, languages=["de"])
    with pytest.raises(UsageError, match="give languages="):
        decide(table.select(["word_count"]), {}, by_language={"de": {"word_count": {"min": 5}}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([60, None], pa.int32()), "word_count: 1 documents have no value"),
        (pa.array(["60", "70"]), "word_count: the table's column holds no numbers"),
    ],
)
def test_a_signal_without_a_number_is_refused_not_passed(values, said):
    with pytest.raises(UsageError, match=said):
        decide(pa.table({"word_count": values}), {"word_count": {"min": 50}})


def test_a_recipes_rules_by_language_are_checked_and_read_back_as_themselves():
    config = FilterConfig(
        rules=BASE, rules_by_language={"deu_Latn": {"mean_word_length": {"min": None, "max": 12}}, "fr": {}}
    )
    assert list(config.rules_by_language) == ["de", "fr"]
    assert FilterConfig(**config.model_dump(mode="json")) == config
    assert config.model_dump(mode="json")["rules_by_language"]["de"] == {"mean_word_length": {"min": None, "max": 12}}
    for own, said in (
        ({"dee": {}}, "no language 'dee'"),
        ({"de": {}, "deu": {}}, "which is there already"),
        ({"de": {"wrod_count": {"min": 3}}}, "did you mean 'word_count'"),
        ({"de": {"mean_word_length": {"min": 9}}}, "min 9 is above max 8"),
        ({False: {}}, "in quotes"),
    ):
        with pytest.raises(ValidationError, match=said):
            FilterConfig(rules=BASE, rules_by_language=own)


NAMES = ("word_count", "mean_word_length", "curly_bracket", "bullet_line_fraction")
floats = st.floats(0, 20, width=32)
bounds = st.one_of(
    st.none(), st.fixed_dictionaries({"min": st.floats(1, 5)}), st.fixed_dictionaries({"max": st.floats(6, 15)}),
    st.fixed_dictionaries({"min": st.floats(1, 5), "max": st.floats(6, 15)}),
)  # fmt: skip
rule_sets = st.dictionaries(st.sampled_from(NAMES[:2]), bounds, max_size=2)
documents = st.lists(
    st.tuples(
        st.integers(0, 20), floats, st.booleans(), st.floats(0, 1, width=32), st.sampled_from(["de", "deu", "fr", None]),
        st.floats(0, 1, width=32),
    ), max_size=30,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    documents,
    rule_sets,
    rule_sets,
    st.booleans(),
    st.floats(0.25, 0.75),
    st.sampled_from(["all", ["de"], ["fr", "it"]]),
)
def test_decisions_are_those_of_a_loop_over_documents_and_rules(found, base, own, brace, threshold, wanted):
    base = base | ({"curly_bracket": {"is": False}} if brace else {})
    config = FilterConfig(
        rules=base, rules_by_language={"de": own}, language={"languages": wanted, "threshold": round(threshold, 2)}
    )
    columns = list(zip(*found, strict=True)) or [[]] * 6
    types = (pa.int32(), pa.float32(), pa.int32(), pa.float32(), pa.string(), pa.float32())
    names = (*NAMES, "language", "language_score")
    table = pa.table({name: pa.array([int(x) if isinstance(x, bool) else x for x in column], kind)
                      for name, column, kind in zip(names, columns, types, strict=True)})  # fmt: skip
    result = failures(table, Policy.of(config))
    expected = []
    for row in table.to_pylist():
        is_german = row["language"] in ("de", "deu")
        reasons = []
        if wanted != "all" and not (row["language"] in wanted or (is_german and "de" in wanted)):
            reasons.append(("language", "is", None))
        if np.float32(row["language_score"]) < np.float32(round(threshold, 2)):
            reasons.append(("language_score", "min", round(threshold, 2)))
        rules = {name: dict(rule or {}) for name, rule in base.items()}
        for name, rule in own.items() if is_german else ():
            rules[name] = {} if rule is None else {**rules.get(name, {}), **rule}
        for name, rule in rules.items():
            value = row[name]
            for bound in ("min", "max", "is"):
                limit = rule.get(bound)
                if limit is None:
                    continue
                limit32 = np.float32(limit) if name == "mean_word_length" else limit
                if {"min": value < limit32, "max": value > limit32, "is": bool(value) != limit}[bound]:
                    reasons.append((name, bound, float(limit)))
        expected.append(reasons)
    assert [[(rule.rule, rule.bound, rule.threshold) for rule in row] for row in result.lists()] == expected
    assert result.keep.tolist() == [not reasons for reasons in expected]
    assert result.reasons == Counter(reasons[0][0] for reasons in expected if reasons)
    fail, alone = result.rules
    assert fail == Counter(reason[0] for reasons in expected for reason in reasons)
    assert alone == Counter(reasons[0][0] for reasons in expected if len(reasons) == 1)
    rows = ledger_rows("filter", keys(table.num_rows), table, result).to_pylist()
    dropped = [(n, reasons) for n, reasons in enumerate(expected) if reasons]
    assert [(row["id"], row["reason"], len(row["failed"])) for row in rows] == [
        (f"{n}", r[0][0], len(r)) for n, r in dropped
    ]
    for row in rows:
        first = row["failed"][0]
        assert (row["value"], row["threshold"]) == (first["value"], first["threshold"])
        assert (row["detail"] is not None) == row["reason"].startswith("language")


def keys(size):
    columns = {
        "id": [f"{n}" for n in range(size)],
        "url": ["u"] * size,
        "snapshot": ["S"] * size,
        "source": ["f"] * size,
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return table.append_column("offset", pa.array(range(size), pa.int64()))


@given(st.lists(st.floats(max_value=2.0**127, width=32, allow_nan=False, allow_infinity=False), max_size=50))
def test_values_are_the_shortest_decimals_of_their_float32(values):
    table = pa.table({"mean_word_length": pa.array(values, pa.float32())})
    found = failures(table, Policy({"mean_word_length": Rule(min=3.4e38)}))
    assert found.value.tolist() == [float(str(np.float32(value))) for value in values]
