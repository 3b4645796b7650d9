"""The shipped recipes: their numbers are the published ones, and a page that breaks one rule is dropped by that rule."""

from __future__ import annotations

import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from curate.pipeline.cli import main
from curate.pipeline.config import Strict
from curate.pipeline.documents import DOCUMENT
from curate.pipeline.errors import UsageError
from curate.pipeline.recipe import load_recipe, recipe_text
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.config import DedupConfig
from curate.stages.extract.config import ExtractConfig
from curate.stages.filter.config import FilterConfig
from curate.stages.filter.registry import registered
from curate.stages.filter.stage import STAGE
from support import rows, run_stage

SECTIONS: dict[str, type[Strict]] = {"extract": ExtractConfig, "filter": FilterConfig, "dedup": DedupConfig}
PUBLISHED = ["c4", "dolma1", "fineweb", "gopher", "redpajama-v2"]

GOPHER_QUALITY = {
    "word_count": {"min": 50, "max": 100_000}, "mean_word_length": {"min": 3, "max": 10}, "hash_to_word_ratio": {"max": 0.1},
    "ellipsis_to_word_ratio": {"max": 0.1}, "bullet_line_fraction": {"max": 0.9}, "ellipsis_line_fraction": {"max": 0.3},
    "alphabetic_word_fraction": {"min": 0.8}, "stop_word_count": {"min": 2},
}  # fmt: skip
"""Rae et al. 2021, A1.1."""
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
N_GRAMS = {f"top_{n}_gram_char_fraction": {"max": limit} for n, limit in TOP.items()}
N_GRAMS |= {f"duplicate_{n}_gram_char_fraction": {"max": limit} for n, limit in DUPLICATE.items()}
GOPHER_REPETITION = {
    "duplicate_line_fraction": {"max": 0.3}, "duplicate_paragraph_fraction": {"max": 0.3},
    "duplicate_line_char_fraction": {"max": 0.2}, "duplicate_paragraph_char_fraction": {"max": 0.2},
} | N_GRAMS  # fmt: skip
"""Rae et al. 2021, table A1."""
RULES = {
    "gopher": GOPHER_QUALITY | GOPHER_REPETITION,
    # Raffel et al. 2020, 2.2, and tensorflow_datasets' c4_utils.py
    "c4": {
        "lorem_ipsum": {"is": False}, "curly_bracket": {"is": False}, "bad_words": {"is": False}, "sentence_count": {"min": 3},
    },
    # cc_net's mine.py
    "redpajama-v2": {"ccnet_original_length": {"min": 300}},
    # allenai/dolma, configs/dolma-v1_5/mixing/cc-head.yaml
    "dolma1": GOPHER_QUALITY
    | {"duplicate_line_fraction": {"max": 0.3}, "duplicate_line_char_fraction": {"max": 0.3}}
    | N_GRAMS
    | {"pii_spans": {"max": 5}},
    # Penedo et al. 2024, table 2, and datatrove's examples/fineweb.py
    "fineweb": GOPHER_QUALITY | GOPHER_REPETITION | {
        "lorem_ipsum": {"is": False}, "curly_bracket": {"is": False}, "sentence_count": {"min": 5},
        "terminal_punctuation_line_fraction": {"min": 0.12}, "short_line_fraction": {"max": 0.67},
        "edited_duplicate_line_char_fraction": {"max": 0.01}, "newline_to_word_ratio": {"max": 0.3},
    },
}  # fmt: skip
PHRASES = [
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
]
LINES = {
    "gopher": None,
    "c4": {"citations": True, "longest_word": 1000, "fewest_words": 5, "terminal": True, "phrases": PHRASES},
    "redpajama-v2": None,
    "dolma1": {"citations": False, "longest_word": None, "fewest_words": 0, "terminal": True, "phrases": []},
    "fineweb": {"citations": True, "longest_word": 1000, "fewest_words": 3, "terminal": False, "phrases": PHRASES},
}
REDPAJAMA = """
ccnet_language_score ccnet_length ccnet_nlines ccnet_original_length ccnet_original_nlines
rps_doc_curly_bracket rps_doc_lorem_ipsum rps_doc_ldnoobw_words rps_doc_ut1_blacklist rps_doc_stop_word_fraction
rps_doc_word_count rps_doc_mean_word_length rps_doc_frac_unique_words rps_doc_unigram_entropy rps_doc_num_sentences
rps_doc_symbol_to_word_ratio rps_doc_frac_no_alph_words rps_doc_frac_all_caps_words rps_doc_frac_lines_end_with_ellipsis
rps_doc_frac_chars_top_2gram rps_doc_frac_chars_top_3gram rps_doc_frac_chars_top_4gram
rps_doc_frac_chars_dupe_5grams rps_doc_frac_chars_dupe_6grams rps_doc_frac_chars_dupe_7grams
rps_doc_frac_chars_dupe_8grams rps_doc_frac_chars_dupe_9grams rps_doc_frac_chars_dupe_10grams
rps_lines_ending_with_terminal_punctution_mark rps_lines_start_with_bulletpoint rps_lines_javascript_counts
rps_lines_num_words rps_lines_numerical_chars_fraction rps_lines_uppercase_letter_fraction
"""
"""The README of RedPajama-Data-V2, without what needs a model: CCNet's bucket and perplexity, importance, classifiers."""
REPETITION_FIRST = ["fineweb"]
"""Whose rules on repetition come before those on quality."""
LANGUAGES = {
    "gopher": (["en"], 0), "c4": (["en"], 0.65), "redpajama-v2": (["en", "de", "fr", "es", "it"], 0.5), "dolma1": (["en"], 0.5),
    "fineweb": (["en"], 0.65),
}  # fmt: skip
MINHASH = {  # bands, rows, words
    "gopher": (12, 13, 13), "c4": None, "redpajama-v2": None, "dolma1": None, "fineweb": (14, 8, 5),
}  # fmt: skip


def load(name, *settings):
    return load_recipe(name, SECTIONS, settings).section("filter")


def bounds(rules):
    return {name: dict(rule.bounds()) for name, rule in rules.items() if rule is not None}


# numbers


def test_the_published_recipes_are_listed():
    listed = CliRunner().invoke(main, ["recipes"], catch_exceptions=False).output
    assert all(any(line.startswith(f"{name} ") for line in listed.splitlines()) for name in [*PUBLISHED, "standard"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_numbers(name):
    config = load(name)
    assert bounds(config.rules) == RULES[name]
    assert (config.lines and config.lines.model_dump()) == LINES[name]
    assert (config.language.languages, config.language.threshold) == LANGUAGES[name]
    assert config.language.model == "lid.176"
    assert config.counting == ("datatrove" if name == "fineweb" else "paper")
    assert config.urls is None and not config.rules_by_language


@pytest.mark.parametrize("name", ["gopher", "dolma1", "fineweb"])
def test_rules_are_asked_in_the_published_order(name):
    rules = [rule for rule in load(name).rules if rule in GOPHER_QUALITY or rule in GOPHER_REPETITION]
    kinds = [kind for kind, _ in itertools.groupby(rules, key=lambda rule: rule in GOPHER_QUALITY)]
    assert kinds == ([False, True] if name in REPETITION_FIRST else [True, False])


@pytest.mark.parametrize("name", PUBLISHED)
def test_duplicates_are_looked_for_as_published(name):
    config = load_recipe(name, SECTIONS).section("dedup")
    minhash = config.minhash
    assert ((minhash.bands, minhash.rows, minhash.ngram) if minhash.enabled else None) == MINHASH[name]
    assert (config.exact, config.scope) == (True, "snapshot" if name == "fineweb" else "global")


def test_half_of_the_pairs_at_gophers_similarity_are_linked():
    minhash = load_recipe("gopher", SECTIONS).section("dedup").minhash
    linked = {s: 1 - (1 - s**minhash.rows) ** minhash.bands for s in (0.7, 0.8, 0.9)}
    assert linked[0.7] < 0.12 and 0.48 < linked[0.8] < 0.52 and linked[0.9] > 0.96


def test_what_is_masked_is_as_published():
    assert load("fineweb").pii.model_dump() == {"emails": True, "ips": True, "phones": False, "ibans": False}
    assert load("dolma1").pii.model_dump() == {
        "emails": ["|||EMAIL_ADDRESS|||"], "phones": ["|||PHONE_NUMBER|||"], "ips": ["|||IP_ADDRESS|||"], "ibans": False,
    }  # fmt: skip
    for name in ("gopher", "c4", "redpajama-v2"):
        assert not any(load(name).pii.model_dump().values())


def test_redpajama_measures_every_published_signal_that_needs_no_model():
    assert load("redpajama-v2").signals == REDPAJAMA.split()
    assert [load(name).repeated_lines is not None for name in PUBLISHED] == [False, True, False, False, True]


def test_standard_is_fineweb_counted_as_the_papers_say():
    fineweb, standard = load("fineweb").model_dump(), load("standard").model_dump()
    assert {key for key in fineweb if fineweb[key] != standard[key]} == {"counting"} and standard["counting"] == "paper"


def test_multilingual_keeps_all_languages():
    assert load("multilingual").language.languages == "all"


@pytest.mark.parametrize("name", [*PUBLISHED, "standard", "multilingual"])
def test_the_resolved_recipe_can_be_run_again(name, tmp_path):
    recipe = load_recipe(name, SECTIONS)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    again = load_recipe(str(tmp_path / "recipe.yaml"), SECTIONS)
    assert again.section("filter") == recipe.section("filter")
    assert again.section("filter").fingerprint() == recipe.section("filter").fingerprint()
    assert list(again.section("filter").rules) == list(recipe.section("filter").rules)
    assert recipe_text(name).startswith("# ")


def test_a_setting_changes_one_bound_and_null_switches_a_rule_off():
    config = load("fineweb", "filter.rules.word_count.min=20", "filter.rules.sentence_count=null")
    assert dict(config.rules["word_count"].bounds()) == {"min": 20, "max": 100_000}
    assert "sentence_count" not in bounds(config.rules)


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
    lists = [f"filter.urls.{name}=[a]" for name in ("banned_words", "soft_words", "banned_substrings")]
    assert set(bounds(load("fineweb", *lists, *settings).rules)) >= set(names)


@pytest.mark.parametrize(
    ("signal", "rule", "key"),
    [
        ("url_blocklisted", "{is: false}", "blocklists"),
        ("rps_doc_ut1_blacklist", "{is: false}", "blocklists"),
        ("url_banned_words", "{max: 2}", "banned_words"),
        ("url_soft_words", "{max: 1}", "soft_words"),
        ("url_banned_substrings", "{max: 2}", "banned_substrings"),
    ],
)
def test_a_rule_that_counts_by_a_list_is_refused_without_it(tmp_path, signal, rule, key):
    (tmp_path / "list").write_text("example.org\n")
    given = f"[{tmp_path / 'list'}]" if key == "blocklists" else "[abc]"
    for path in ("rules", "rules_by_language.de"):
        setting = f"filter.{path}.{signal}={rule}"
        for other in ((), ("filter.urls={banned_words: [], soft_words: []}",)):
            with pytest.raises(UsageError, match=rf"filter.{path}.{signal}: .*give filter.urls.{key}"):
                load("multilingual", setting, *other)
        assert signal in bounds(load("multilingual", f"filter.urls.{key}={given}", setting).rules) or "de" in path
    assert load("multilingual", f"filter.rules.{signal}=null").rules[signal] is None


def test_own_stop_words_fewer_than_the_rule_asks_for_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: gopher\nfilter:\n  stop_words:\n    en: [the, the]\n    de: []\n")
    with pytest.raises(UsageError) as caught:
        load(str(path))
    said = str(caught.value).splitlines()
    assert said[0].startswith("mine.yaml:4: filter.stop_words.en: 1 different words", said[0].index("mine.yaml"))
    assert "filter.stop_words.de: 0 different words" in said[1]
    off = [f"filter.rules_by_language.{code}.stop_word_count=null" for code in ("en", "de")]
    assert load(str(path), *off).stop_words == {"en": ["the", "the"], "de": []}
    one = load(str(path), "filter.rules.stop_word_count.min=1", off[1])
    assert one.rules["stop_word_count"].min == 1


# pages


def words(start=0):
    """Words of five letters, each another one."""
    letters = "bcdfgklmnprst", "aeiou"
    return map("".join, itertools.islice(itertools.product(*(letters[n % 2] for n in range(5))), start, None))


def prose(count, start=0, before=("the", "of", "and")):
    return [*before, *itertools.islice(words(start), count)]


def lines_of(tokens, each=10):
    return "\n".join(" ".join(tokens[n : n + each]) for n in range(0, len(tokens), each))


def repeated(phrase, share, gap=3):
    """A text of different words in which `phrase`, with `gap` others between, is so much of the characters, spaces counted."""
    fresh = words()
    found = ["the", "of"]
    for _ in range(8):
        found += [*phrase, *itertools.islice(fresh, gap)]
    size = 8 * len(" ".join(phrase))
    while size > share * len(" ".join(found)):
        found.append(next(fresh))
    return lines_of(found)


def doubled(n, share):
    """A text of different words in which phrases of n words come twice, the second time as so much of the characters."""
    fresh = words()
    phrases = [list(itertools.islice(fresh, n)) for _ in range(6)]
    found = ["the", "of", *itertools.chain.from_iterable([*phrase, next(fresh)] for phrase in [*phrases, *phrases])]
    while 6 * n * 5 > share * len(" ".join(found)):
        found.append(next(fresh))
    return lines_of(found)


GOOD = lines_of(prose(80))
ROWS = GOOD.split("\n")
WIDE = lines_of(prose(117), 12).split("\n")
GOPHER_PAGES = {
    "good": (GOOD, []),
    "49 words": (lines_of(prose(46)), ["word_count"]),
    "50 words": (lines_of(prose(47)), []),
    "long words": (lines_of(["the", "of", *(word * 3 for word in prose(60, before=()))]), ["mean_word_length"]),
    "short words": (lines_of(["the", "of", *(a + b for a in "abcdefgh" for b in "stuvwxyz")]), ["mean_word_length"]),
    "hashes": (lines_of([f"#{w}" if n % 8 == 3 else w for n, w in enumerate(prose(80))]), ["hash_to_word_ratio"]),
    "ellipses": (lines_of([f"{w}..." if n % 5 == 0 else w for n, w in enumerate(prose(80))], 9), ["ellipsis_to_word_ratio"]),
    "list": ("\n".join(f"- {line}" for line in ROWS), ["bullet_line_fraction"]),
    "teasers": ("\n".join(line + "…" * (n % 2) for n, line in enumerate(WIDE)), ["ellipsis_line_fraction"]),
    "numbers": (lines_of([str(n + 1000) if n % 4 == 0 else w for n, w in enumerate(prose(80))]), ["alphabetic_word_fraction"]),
    "one stop word": (lines_of(prose(80, before=("the",))), ["stop_word_count"]),
    "same short lines": ("\n".join(f"{line}\nnext" for line in WIDE), ["duplicate_line_fraction"]),
    "same short paragraphs": (
        "\n\n".join(f"{lines_of(prose(32, 40 * n), 4)}\n\nnext" for n in range(5)), ["duplicate_paragraph_fraction"],
    ),
    "same lines": ("\n".join([*ROWS, *ROWS[:4]]), [
        "duplicate_line_fraction", "duplicate_line_char_fraction", *(f"duplicate_{n}_gram_char_fraction" for n in DUPLICATE),
    ]),
    "same paragraphs": (f"{GOOD}\n\n{GOOD}", [
        "duplicate_line_fraction", "duplicate_paragraph_fraction", "duplicate_line_char_fraction",
        "duplicate_paragraph_char_fraction", *(f"duplicate_{n}_gram_char_fraction" for n in DUPLICATE),
    ]),
    "a pair": (repeated(["pabel", "ketis"], 0.22), ["top_2_gram_char_fraction"]),
    "a triple": (repeated(["pab", "fox", "ketisvomar"], 0.19), ["top_3_gram_char_fraction"]),
    "a quadruple": (repeated(["pab", "fox", "ketisvo", "hens"], 0.17), ["top_4_gram_char_fraction"]),
    **{
        f"phrases of {n}": (doubled(n, limit + 0.005), [f"duplicate_{n}_gram_char_fraction"])
        for n, limit in DUPLICATE.items()
    },
}  # fmt: skip
SENTENCES = [f"{line.capitalize()}." for line in GOOD.split("\n")[:8]]
C4_PAGES = {
    "good": ("\n".join(SENTENCES), []),
    "two sentences": ("\n".join(SENTENCES[:2]), ["sentence_count"]),
    "three sentences": ("\n".join(SENTENCES[:3]), []),
    "lorem": ("\n".join([*SENTENCES, "Here comes a Lorem Ipsum of the usual kind."]), ["lorem_ipsum"]),
    "code": ("\n".join([*SENTENCES, "Here is { in a whole sentence."]), ["curly_bracket"]),
    "bad": ("\n".join([*SENTENCES, "This line is about porn and nothing else."]), ["bad_words"]),
    "bad in a line that goes": ("\n".join([*SENTENCES, "porn"]), []),
}
MAILS = [f"{what}@corp.com is where {what} goes." for what in ("pay", "mail", "talk", "work", "rent", "taxes")]
DOLMA_PAGES = {
    "good": (GOOD, []),
    "49 words": (lines_of(prose(46)), ["word_count"]),
    "five addresses": ("\n".join([*SENTENCES, *MAILS[:5]]), []),
    "six addresses": ("\n".join([*SENTENCES, *MAILS]), ["pii_spans"]),
}
REDPAJAMA_PAGES = {"299": ("a" * 299, ["ccnet_original_length"]), "300": ("porn { " + "a" * 293, [])}
PAGES = {"gopher": GOPHER_PAGES, "c4": C4_PAGES, "dolma1": DOLMA_PAGES, "redpajama-v2": REDPAJAMA_PAGES}


def filtered(workspace, config, texts):
    """Documents and ledger rows by id, and the measures, of the stage run on these texts."""
    table = pa.Table.from_pylist(
        [
            {"id": name, "url": "https://x.org/", "snapshot": "S", "source": "f", "offset": n, "text": text}
            for n, (name, text) in enumerate(texts.items())
        ],
        schema=DOCUMENT,
    )
    with workspace.create("extract/docs/S/a.parquet") as sink:
        pq.write_table(table, sink)
    run_stage(STAGE, config, [Shard("S/a", File("extract/docs/S/a.parquet", "0"))], workspace)
    docs, ledger, measures = (rows(workspace, f"filter/{name}/S/a.parquet") for name in ("docs", "ledger", "measures"))
    return {row["id"]: row for row in docs}, {row["id"]: row for row in ledger}, measures


@pytest.mark.parametrize("name", list(PAGES))
def test_a_page_that_breaks_one_rule_is_dropped_by_it(name, tmp_path):
    config = load(name, "filter.language=null")
    texts = {title: text for title, (text, _) in PAGES[name].items()}
    docs, ledger, _ = filtered(Workspace(tmp_path), config, texts)
    failed = {title: [rule["rule"] for rule in ledger[title]["failed"]] if title in ledger else [] for title in texts}
    assert failed == {title: rules for title, (_, rules) in PAGES[name].items()}
    assert {title: row["reason"] for title, row in ledger.items()} == {
        title: rules[0] for title, rules in failed.items() if rules
    }
    assert set(docs) == {title for title, rules in failed.items() if not rules}


def test_c4_edits_lines_as_published(tmp_path):
    text = "\n".join([
        *SENTENCES, "No mark at the end of this one", "Four words of it.", "Please enable JavaScript to see the page.",
        "By this you accept our Privacy Policy here.", "It has a citation [12] in it [edit].",
        "This one trails off like that ...", "w" * 1001 + " is far too long for this.",
        'And "this is a quotation that ends it."',
    ])  # fmt: skip
    docs, _, _ = filtered(Workspace(tmp_path), load("c4", "filter.language=null"), {"page": text})
    assert docs["page"]["text"].split("\n") == [
        *SENTENCES, "It has a citation  in it .", 'And "this is a quotation that ends it."',
    ]  # fmt: skip


def test_dolma_drops_lines_without_a_mark_and_masks_addresses(tmp_path):
    text = "\n".join(
        [*SENTENCES, "Menu", "Write to ann@corp.com about it.", "Go to 8.8.8.8.", "Short.", "{ terms of use [12] }."]
    )
    docs, _, _ = filtered(Workspace(tmp_path), load("dolma1", "filter.language=null"), {"page": text})
    assert docs["page"]["text"].split("\n") == [
        *SENTENCES, "Write to |||EMAIL_ADDRESS||| about it.", "Go to |||IP_ADDRESS|||.", "Short.", "{ terms of use [12] }.",
    ]  # fmt: skip


def test_redpajama_stores_the_published_signals_and_no_other(tmp_path):
    config = load("redpajama-v2", "filter.language=null")
    _, _, measures = filtered(Workspace(tmp_path), config, {"page": GOOD * 5})
    assert {name for name in measures[0] if name in registered()} == set(config.signals)
    assert measures[0]["rps_doc_word_count"] == len((GOOD * 5).split())


def test_lists_of_the_recipe_are_signals_that_rules_decide_on(tmp_path):
    (tmp_path / "hosts").write_text("0.0.0.0 ads.example.com\n")
    rules = {"url_blocklisted": {"is": False}, "url_soft_words": {"max": 1}}
    settings = [
        "filter.language=null", f"filter.rules={json.dumps(rules)}", f"filter.urls.blocklists=[{tmp_path / 'hosts'}]",
        "filter.urls.soft_words=[a, b]", "filter.urls.banned_words=[casino]", "filter.urls.banned_substrings=[xxx]",
        "filter.signals=[url_blocklisted, url_soft_words, url_banned_words, url_banned_substrings, rps_doc_ut1_blacklist]",
    ]  # fmt: skip
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    config = load(str(tmp_path / "mine.yaml"), *settings)
    urls = ["https://www.ads.example.com/", "https://example.com/a-b", "https://example.com/CASINO/x-x-x", None]
    expected = [[1, 0, 0, 0, 1], [0, 2, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    workspace = Workspace(tmp_path / "w")
    table = pa.Table.from_pylist(
        [
            {"id": str(n), "url": url, "snapshot": "S", "source": "f", "offset": n, "text": "x"}
            for n, url in enumerate(urls)
        ],
        schema=DOCUMENT,
    )
    with workspace.create("extract/docs/S/a.parquet") as sink:
        pq.write_table(table, sink)
    run_stage(STAGE, config, [Shard("S/a", File("extract/docs/S/a.parquet", "0"))], workspace)
    assert [
        [row[name] for name in config.signals] for row in rows(workspace, "filter/measures/S/a.parquet")
    ] == expected
    found = {row["id"]: row["reason"] for row in rows(workspace, "filter/ledger/S/a.parquet")}
    assert found == {"0": "url_blocklisted", "1": "url_soft_words"}


def test_a_recipe_runs_from_the_command_line(tmp_path):
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate((GOOD, "Too short.")))
    )
    options = ["-r", "gopher", "-w", str(tmp_path / "w"), "--set", "filter.language=null", "--workers", "1"]
    for stage, more in (("extract", ["-i", str(tmp_path / "in.jsonl")]), ("filter", [])):
        done = CliRunner().invoke(main, ["run", stage, *options, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    (row,) = rows(Workspace(tmp_path / "w"), "filter/ledger/default/in.parquet")
    assert row["reason"] == "word_count"
