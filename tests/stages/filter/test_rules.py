from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import FailedRule
from curate.stages.filter import decide, signals

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


def failures(text):
    _, (failed,) = decide(signals([text]), fineweb())
    return [rule.rule for rule in failed]


def test_a_plain_page_passes_every_rule_of_fineweb():
    assert failures(GOOD) == []


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
    assert rule in failures(text)


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
        ({"stop_word_count": {"min": 9}}, "stop_word_count: no document could pass"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(rules, message):
    with pytest.raises(UsageError, match="^rules: " + message):
        decide(signals([GOOD]), rules)


def test_a_rule_on_a_signal_that_the_table_lacks_is_refused():
    with pytest.raises(UsageError, match="word_count: the table has no such column"):
        decide(signals([GOOD], ["mean_word_length"]), {"word_count": {"min": 50}})
