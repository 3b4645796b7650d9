from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate.pipeline.documents import DOCUMENT, LEDGER
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.filter import config as filter_config
from curate.stages.filter import pii, signals
from curate.stages.filter import work as filter_work
from curate.stages.filter.config import FilterConfig
from curate.stages.filter.registry import registered
from curate.stages.filter.stage import STAGE
from support import rows, run_stage

TEXTS = {
    "good": "This is the first line of it.\n\nAnd here is the second line, with jane@corp.com and 8.8.8.8 in it.",
    "short": "Nothing here.",
    "empty": "",
    "null": None,
    "brace": "This is the first line of it.\nAnd here is a brace { in the second line.",
    "both": "brace {",
}
RULES = {"word_count": {"min": 4}, "curly_bracket": {"is": False}, "sentence_count": {"min": 2}}


def documents(texts, extra=()):
    table = pa.Table.from_pylist(
        [
            {"id": name, "url": f"https://x.org/{name}", "snapshot": "S", "source": "f.warc", "offset": n,
            "text": text, "title": "T",
             "language": "xx"}
            for n, (name, text) in enumerate(texts.items())
        ],
        schema=DOCUMENT,
    )  # fmt: skip
    for name, values in extra:
        table = table.append_column(name, values)
    return table


@pytest.fixture
def run(tmp_path):
    workspace = Workspace(tmp_path)

    def run(config, texts=TEXTS, extra=()):
        with workspace.create("extract/docs/S/a.parquet") as sink:
            pq.write_table(documents(texts, extra), sink)
        shard = Shard("S/a", File("extract/docs/S/a.parquet", "0"))
        (done,) = run_stage(STAGE, FilterConfig(**{"language": None, **config}), [shard], workspace)
        docs, ledger, measures = (rows(workspace, done.outputs[name].path) for name in ("docs", "ledger", "measures"))
        return done, {row["id"]: row for row in docs}, {row["id"]: row for row in ledger}, measures

    run.workspace = workspace
    return run


def test_every_record_is_kept_or_dropped_with_all_its_reasons_in_the_recipes_order(run):
    done, docs, ledger, _ = run({"rules": RULES})
    assert set(docs) == {"good"}
    assert set(ledger) == set(TEXTS) - {"good"}
    assert done.counts["dropped"] == {"word_count": 4, "curly_bracket": 1}
    both = ledger["both"]
    assert (both["reason"], both["value"], both["threshold"], both["outcome"]) == ("word_count", 1.0, 4.0, "dropped")
    assert [rule["rule"] for rule in both["failed"]] == ["word_count", "curly_bracket", "sentence_count"]
    assert both["failed"][1] == {"rule": "curly_bracket", "value": 1.0, "bound": "is", "threshold": 0.0}
    assert (both["url"], both["source"], both["offset"], both["stage"]) == ("https://x.org/both", "f.warc", 5, "filter")


def test_without_rules_nothing_is_dropped_and_no_text_changes(run):
    _, docs, ledger, _ = run({})
    assert ledger == {}
    assert {name: row["text"] or "" for name, row in docs.items()} == {name: text or "" for name, text in TEXTS.items()}


def test_measures_hold_every_signal_of_every_record_kept_or_not(run):
    _, docs, _, measures = run({"rules": RULES, "lines": {}})
    assert [row["id"] for row in measures] == list(TEXTS)
    expected = signals(list(TEXTS.values())).to_pylist()
    assert [{name: row[name] for name in registered()} for row in measures] == expected
    assert docs["good"]["signals"] == expected[0]


def test_kept_documents_have_the_edited_text_and_the_columns_that_came_in(run):
    numbers = pa.array(range(len(TEXTS)), pa.int64())
    _, docs, _, _ = run({"lines": {}}, extra=[("own_column", numbers)])
    assert docs["good"]["text"] == TEXTS["good"]
    assert docs["both"]["text"] == ""
    assert docs["brace"]["own_column"] == 4
    assert docs["brace"]["title"] == "T"


def test_addresses_are_masked_only_where_asked_and_only_the_kinds_asked(run):
    _, docs, _, measures = run({"pii": {"emails": True}})
    assert any(mask in docs["good"]["text"] for mask in pii.EMAIL_MASKS)
    assert "jane@corp.com" not in docs["good"]["text"]
    assert "8.8.8.8" in docs["good"]["text"]
    assert (measures[0]["pii_emails"], measures[0]["pii_ips"]) == (1, 1)
    _, docs, _, _ = run({"pii": {"ips": True}})
    assert "8.8.8.8" not in docs["good"]["text"]
    assert "jane@corp.com" in docs["good"]["text"]


class Toy:
    """Takes the first word for the language, its length in tenths for the score."""

    labels = frozenset({"eng", "deu", "english", "german"})

    def predict(self, texts):
        first = [(text.split() or [None])[0] for text in texts]
        return first, np.array([len(word or "") / 10 for word in first], np.float32)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(filter_config, "labels_of", lambda model: Toy.labels)
    monkeypatch.setattr(filter_work, "load_model", lambda *given: Toy())


def test_language_comes_first_then_score_then_the_rules(run, toy):
    texts = {"low": "eng few", "other": "german this is enough text", "fine": "english this is enough text", "none": ""}
    language = {"languages": ["eng", "english"], "threshold": 0.6}
    config = {"language": {"model": __file__, **language}, "rules": {"word_count": {"min": 4}}}
    _, docs, ledger, measures = run(config, texts)
    assert (docs["fine"]["language"], docs["fine"]["language_score"]) == ("english", pytest.approx(0.7))
    assert [rule["rule"] for rule in ledger["low"]["failed"]] == ["language_score", "word_count"]
    assert (ledger["low"]["value"], ledger["low"]["threshold"]) == (0.3, 0.6)
    assert (ledger["other"]["reason"], ledger["other"]["detail"]) == ("language", "language german")
    assert [rule["rule"] for rule in ledger["none"]["failed"]] == ["language", "language_score", "word_count"]
    assert [row["language"] for row in measures] == ["eng", "german", "english", None]


def test_a_model_is_measured_again_and_what_is_asked_of_it_only_decided(toy, tmp_path):
    model = tmp_path / "model"

    def steps(content="one", **language):
        model.write_text(content)
        config = FilterConfig(language={"model": str(model), **language})
        return {step.name: config.fingerprint(step.reads) for step in STAGE.steps}

    def changed(found):
        return {name for name, fingerprint in steps().items() if found[name] != fingerprint}

    assert changed(steps(threshold=0.5)) == changed(steps(languages=["eng"])) == {"decide"}
    assert changed(steps(content="another")) == {"measure", "select"}
    none = FilterConfig(language=None)
    assert changed({step.name: none.fingerprint(step.reads) for step in STAGE.steps}) == {
        "measure", "decide", "select"
    }  # fmt: skip


def test_a_score_exactly_at_the_threshold_is_kept(run, toy):
    _, docs, _, _ = run({"language": {"model": __file__, "threshold": 0.7}}, {"a": "english", "b": "german"})
    assert set(docs) == {"a"}


def test_without_a_language_section_what_the_page_declares_stays(run):
    _, docs, _, measures = run({})
    assert docs["good"]["language"] == "xx"
    assert measures[0]["language"] is None


def test_the_same_input_gives_the_same_bytes_however_it_is_cut_into_pieces(run, monkeypatch):
    texts = {f"d{n}": f"{TEXTS['good']}\nline {n} of it" * (n % 7) for n in range(300)}
    first = run({"rules": RULES, "lines": {}, "pii": {"emails": True}}, texts)[0]
    monkeypatch.setattr(filter_work, "PIECE_BYTES", 1000)
    second = run({"rules": RULES, "lines": {}, "pii": {"emails": True}}, texts)[0]
    assert [file.fingerprint for file in first.outputs.values()] == [
        file.fingerprint for file in second.outputs.values()
    ]


def test_an_empty_shard_gives_empty_files_of_the_right_columns(run):
    done, docs, ledger, measures = run({"rules": RULES}, {})
    assert (docs, ledger, measures) == ({}, {}, [])
    with run.workspace.open(done.outputs["docs"].path) as stream:
        assert "signals" in pq.read_schema(stream).names
    with run.workspace.open(done.outputs["ledger"].path) as stream:
        assert pq.read_schema(stream).equals(LEDGER)


def test_pieces_are_cut_by_bytes_and_lose_no_row():
    batch = documents({str(n): "x" * size for n, size in enumerate([3, 5, 100, 1, 1, 0])}).to_batches()[0]
    old, filter_work.PIECE_BYTES = filter_work.PIECE_BYTES, 8
    try:
        cut = [piece.column("id").to_pylist() for piece in filter_work.pieces(batch)]
    finally:
        filter_work.PIECE_BYTES = old
    assert cut == [["0", "1"], ["2"], ["3", "4", "5"]]


def test_the_ledger_says_where_addresses_stood_in_what_was_dropped_and_never_which(run):
    texts = {"short": "To jane@corp.com.", "none": "No one.", "long": TEXTS["good"]}
    _, docs, ledger, measures = run({"rules": {"word_count": {"min": 4}}}, texts)
    assert ledger["short"]["spans"] == [{"kind": "email", "start": 3, "stop": 16}]
    assert ledger["none"]["spans"] is None
    assert set(docs) == {"long"}
    for row, text in zip(measures, texts.values(), strict=True):
        found = {span["kind"]: text[span["start"] : span["stop"]] for span in row["pii"]}
        assert (
            found
            == {"short": {"email": "jane@corp.com"}, "none": {}, "long": {"email": "jane@corp.com", "ip": "8.8.8.8"}}[
                row["id"]
            ]
        )


def test_addresses_are_masked_where_they_stand_after_line_edits(run):
    text = "Gone.\nÄß 你好 write to jane@corp.com and joe@corp.com there[3] now.\nAnd 8.8.8.8 is another line."
    _, docs, _, measures = run({"lines": {}, "pii": {"emails": ["<mail>"], "ips": True}}, {"a": text})
    assert docs["a"]["text"].startswith("Äß 你好 write to <mail> and <mail> there now.\nAnd ")
    assert docs["a"]["text"].removesuffix(" is another line.").split()[-1] in pii.IP_MASKS
    edited = "Äß 你好 write to jane@corp.com and joe@corp.com there now.\nAnd 8.8.8.8 is another line."
    assert [edited[span["start"] : span["stop"]] for span in measures[0]["pii"]] == [
        "jane@corp.com", "joe@corp.com", "8.8.8.8"
    ]  # fmt: skip
    assert measures[0]["characters"] == len(edited)


def test_only_the_signals_asked_for_and_those_of_rules_are_stored(run):
    config = {"signals": ["sentence_count", "pii_emails"], "rules": {"word_count": {"min": 4}, "curly_bracket": None}}
    _, docs, _, measures = run(config)
    assert list(docs["good"]["signals"]) == ["word_count", "sentence_count", "pii_emails"]
    assert set(measures[0]) - {"id", "language", "language_score", "characters", "pii"} == set(docs["good"]["signals"])
    with pytest.raises(ValidationError, match="did you mean 'sentence_count'"):
        FilterConfig(signals=["sentence_cuont"])


def test_no_signals_at_all_are_no_column_of_them(run):
    _, docs, _, measures = run({"signals": [], "pii": {"emails": True}})
    assert set(docs) == set(TEXTS)
    assert "signals" not in docs["good"] and "jane@corp.com" not in docs["good"]["text"]
    assert set(measures[0]) == {"id", "language", "language_score", "characters", "pii"}


def test_rules_by_language_hold_for_the_documents_of_that_language(run, toy):
    texts = {
        "en": "eng " + "short words " * 5,
        "de": "deu " + "short words " * 5,
        "long": "deu " + "Donaudampfschifffahrt " * 9,
    }
    config = {
        "language": {"model": __file__}, "rules": {"mean_word_length": {"max": 4}},
        "rules_by_language": {"de": {"mean_word_length": {"max": 12}}},
    }  # fmt: skip
    _, docs, ledger, _ = run(config, texts)
    assert set(docs) == {"de"}
    assert {name: row["threshold"] for name, row in ledger.items()} == {"en": 4.0, "long": 12.0}


def test_characters_that_line_edits_took_are_counted_by_step(run):
    done, _, _, _ = run({"lines": {}}, {"a": "Gone line.\nThis stays[12] and all[3].", "b": "Gone."})
    assert {step: n for step, n in done.counts["edits"].items() if n} == {"few_words": 15, "citations": 7}


def test_lines_that_stand_in_several_documents_go_before_all_else(run):
    texts = {
        "a": "Read our newsletter every day.\nA line of its own, told by one.",
        "b": "Read our newsletter every day.\nAnother.",
    }
    done, docs, _, measures = run({"repeated_lines": {"keep": "none"}}, texts)
    assert {name: row["text"] for name, row in docs.items()} == {
        "a": "A line of its own, told by one.",
        "b": "Another.",
    }
    assert [row["characters"] for row in measures] == [31, 8]
    assert done.counts["edits"]["repeated"] == 2 * 30
