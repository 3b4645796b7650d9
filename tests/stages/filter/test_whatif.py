"""`curate what-if` says what a run with the other rules would then do, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline import session
from curate.pipeline.commands_filter import own_values
from curate.pipeline.documents import DOCUMENT
from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.filter import config as filter_config
from curate.stages.filter import work as filter_work
from curate.stages.filter.config import LID_176_LANGUAGES, FilterConfig
from curate.stages.filter.stage import STAGE
from curate.stages.filter.whatif import FACTS, Answer, changed, what_if
from support import rows, run_stage

RULES = {"word_count": {"min": 10}, "mean_word_length": {"min": 3, "max": 6}, "curly_bracket": {"is": False}}
CONFIG = {
    "language": {"model": __file__, "languages": ["en", "de"], "threshold": 0.3},
    "rules": RULES,
    "rules_by_language": {"de": {"mean_word_length": {"max": 9}}},
    "lines": {"fewest_words": 2},
}


class Toy:
    """The language is the text's first word, the score its second in hundredths."""

    labels = LID_176_LANGUAGES | {"deu_Latn"}

    def predict(self, texts: list[str]) -> tuple[list[str | None], np.ndarray]:
        words = [text.split() for text in texts]
        return [found[0] if found else None for found in words], np.array(
            [float(found[1]) / 100 if found else 0 for found in words], np.float32
        )


def document(number: int) -> str:
    choose = np.random.default_rng(number)
    language = choose.choice(["en", "deu_Latn", "fr"], p=[0.6, 0.3, 0.1])
    words = ["x" * size for size in choose.integers(2, 11 if language == "deu_Latn" else 8, choose.integers(3, 60))]
    brace = "{" if choose.random() < 0.1 else ""
    return f"{language} {choose.integers(1, 100)} {brace} {' '.join(words)}\nalone\nmore of it"


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    """In place of the model that CONFIG names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter_config, "labels_of", lambda model: Toy.labels)
        patch.setattr(filter_work, "load_model", lambda *given: Toy())
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two shards of 150 documents, filtered by CONFIG."""
    place = Workspace(tmp_path_factory.mktemp("whatif") / "w")
    for name, numbers in (("a", range(150)), ("b", range(150, 300))):
        found = [{"id": f"{n}", "url": f"https://x.org/{n}", "text": document(n) if n else ""} for n in numbers]
        with place.create(f"extract/docs/S/{name}.parquet") as sink:
            pq.write_table(pa.Table.from_pylist(found, schema=DOCUMENT), sink)
    run(place, CONFIG)
    return place


def run(place: Workspace, config: dict[str, Any]) -> None:
    """Filters, and writes the manifest as the runner does."""
    shards = [Shard(f"S/{name}", File(f"extract/docs/S/{name}.parquet", name)) for name in "ab"]
    done = run_stage(STAGE, FilterConfig(**config), shards, place)
    entries = [
        {"key": item.key, "counts": item.counts, **{name: {"path": file.path} for name, file in item.outputs.items()}}
        for item in done
    ]
    counts = sum((Counts.from_json(dict(item.counts)) for item in done), Counts())
    place.write_json("filter/manifest.json", {"finished": True, "shards": entries, "counts": counts.to_json()})


def kept(place: Workspace) -> dict[str, tuple[str, int]]:
    """Language and length of the documents that are kept, by id."""
    found = [row for name in "ab" for row in rows(place, f"filter/docs/S/{name}.parquet")]
    return {row["id"]: (row["language"], len(row["text"])) for row in found}


def ledger(place: Workspace) -> list[set[str]]:
    """The rules that each dropped document failed."""
    found = [row for name in "ab" for row in rows(place, f"filter/ledger/S/{name}.parquet")]
    return [{rule["rule"] for rule in row["failed"]} for row in found]


CHANGES = {
    ("word_count.min=30",): {"rules": RULES | {"word_count": {"min": 30}}},
    ("curly_bracket=off", "word_count.max=40"): {
        "rules": RULES | {"word_count": {"min": 10, "max": 40}, "curly_bracket": None}
    },
    ("de.mean_word_length.max=5",): {"rules_by_language": {"de": {"mean_word_length": {"max": 5}}}},
    ("de.mean_word_length=off", "language.threshold=0.1"): {
        "rules_by_language": {"de": {"mean_word_length": None}}, "language": CONFIG["language"] | {"threshold": 0.1},
    },
    ("language.languages=en,fr",): {"language": CONFIG["language"] | {"languages": ["en", "fr"]}},
    ("lorem_ipsum=false", "sentence_count.min=2"): {
        "rules": RULES | {"lorem_ipsum": {"is": False}, "sentence_count": {"min": 2}}
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=" ".join)
def test_it_says_what_the_run_then_does(workspace: Workspace, tmp_path: Path, changes: tuple[str, ...]) -> None:
    answer = what_if(workspace, FilterConfig(**CONFIG), changes)
    place = Workspace(tmp_path / "w")
    for name in "ab":
        place.write_bytes(
            f"extract/docs/S/{name}.parquet", Path(workspace.path(f"extract/docs/S/{name}.parquet")).read_bytes()
        )
    run(place, CONFIG | CHANGES[changes])
    now, then = kept(workspace), kept(place)
    assert now != then or "lorem_ipsum=false" in changes
    for code, labels in (("en", {"en"}), ("de", {"deu_Latn"}), ("fr", {"fr"}), ("unknown", {None})):
        _, kept_now, kept_then, flip_in, flip_out, characters_now, characters_then = answer.languages[code].tolist()
        before, after = (
            {key: size for key, (label, size) in found.items() if label in labels} for found in (now, then)
        )
        assert (kept_now, kept_then) == (len(before), len(after))
        assert (flip_in, flip_out) == (len(set(after) - set(before)), len(set(before) - set(after)))
        assert (characters_now, characters_then) == (sum(before.values()), sum(after.values()))
    assert answer.total[0] == 300
    for time, source in (("now", workspace), ("then", place)):
        failed = ledger(source)
        fails, alone = answer.fails[time]
        assert dict(fails) == {rule: sum(rule in found for found in failed) for rule in set().union(*failed)}
        assert dict(alone) == {
            rule: number for rule in set().union(*failed) if (number := sum(found == {rule} for found in failed))
        }


def test_nothing_is_written(workspace: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(workspace.root).rglob("*")}
    what_if(workspace, FilterConfig(**CONFIG), ["word_count.min=30"])
    assert {path: path.stat().st_mtime_ns for path in Path(workspace.root).rglob("*")} == before


def test_no_change_is_no_flip(workspace: Workspace) -> None:
    answer = what_if(workspace, FilterConfig(**CONFIG), ["word_count.min=10"])
    assert answer.total[3:5].tolist() == [0, 0]
    assert answer.fails["now"] == answer.fails["then"]


def test_the_settings_that_it_names_make_the_same_recipe() -> None:
    config = FilterConfig(**CONFIG)
    changes = ["word_count.min=30", "deu.mean_word_length.max=12", "curly_bracket=off", "language.languages=en"]
    new, settings = changed(config, changes)
    assert settings == [
        "filter.rules.word_count.min=30",
        "filter.rules_by_language.de.mean_word_length.max=12",
        "filter.rules.curly_bracket=null",
        "filter.language.languages=[en]",
    ]
    assert new.rules["word_count"].min == 30
    assert new.rules_by_language["de"]["mean_word_length"].max == 12


def test_a_long_list_is_a_setting_of_one_line(tmp_path: Path) -> None:
    codes = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "ja", "zh", "ar", "tr", "cs", "sv", "da", "fi", "no"]
    (tmp_path / "own.yaml").write_text("filter: {language: {threshold: 0.5}}\n")
    _, settings = changed(FilterConfig(), [f"language.languages={','.join(codes)},hu,el,he,ko,vi,th,id,uk"])
    resolved = session.read_recipe(str(tmp_path / "own.yaml"), settings).section("filter")
    assert resolved.language.languages == [*codes, "hu", "el", "he", "ko", "vi", "th", "id", "uk"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("wrod_count.min=3", "no rule of this name; did you mean 'word_count'"),
        ("word_count.mni=3", "unknown key 'mni'; did you mean 'min'"),
        ("word_count=3", "say which bound: word_count.min=3, word_count.max=3, or word_count=off"),
        ("word_count.min=many", "valid number"),
        ("word_count.min", "give RULE=VALUE"),
        ("word_count.max=5", "min 10 is above max 5"),
        ("de.wrod_count.min=3", "no signal named 'wrod_count'; did you mean 'word_count'"),
        ("dd.word_count.min=3", "no language 'dd'"),
        ("de.mean_word_length.max=2", "min 3 is above max 2"),
        ("language.treshold=0.5", "did you mean 'language.threshold'"),
        ("language.threshold=65", "less than or equal to 1"),
        ("lines.fewest_words=5", "curate run filter --set filter.lines.fewest_words=5` measures again"),
        ("bullet_line_fraction.min=2", "no document could pass"),
        ("ccnet_perplexity.max=300", "is not measured: it needs RedPajama's KenLM"),
        ("de.ccnet_perplexity.max=300", "is not measured: it needs RedPajama's KenLM"),
        ("url_soft_words.max=1", "give filter.urls.soft_words"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(FilterConfig(**CONFIG), [change])
    assert said in str(caught.value)


def test_a_change_for_all_pages_names_the_languages_that_keep_their_own_value() -> None:
    own = {"de": {"mean_word_length": {"max": 9}}, "fr": {"mean_word_length": None}, "it": {"word_count": {"max": 99}}}
    config = FilterConfig(**CONFIG | {"rules_by_language": own})

    def notes(*changes: str) -> list[str]:
        there = {code: np.full(len(FACTS), number) for number, code in enumerate(("en", "fr", "de", "it"))}
        return list(own_values(config, Answer(changed(config, changes)[1], there)))

    (note,) = notes("mean_word_length.max=7")
    assert (
        note
        == "mean_word_length.max stays where a language has its own: de, fr. `de.mean_word_length.max=7` changes one"
    )
    (note,) = notes("mean_word_length=off")  # in French it is off already
    assert note == "mean_word_length stays where a language has its own: de. `de.mean_word_length=off` changes one"
    assert [note.split(": ")[1] for note in notes("mean_word_length.min=2", "de.mean_word_length.max=9")] == [
        "fr. `fr.mean_word_length.min=2` changes one"
    ]
    assert notes("word_count.min=12", "curly_bracket=off", "language.threshold=0.9") == []
    assert notes("mean_word_length.max=7", "de.mean_word_length.max=7", "fr.mean_word_length.max=7") == []


def test_a_language_is_refused_where_none_is_measured() -> None:
    with pytest.raises(UsageError, match="measures no language"):
        changed(FilterConfig(**CONFIG | {"language": None, "rules_by_language": {}}), ["language.threshold=0.5"])


def test_a_rule_on_a_signal_that_was_not_measured_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    for name in "ab":
        place.write_bytes(
            f"extract/docs/S/{name}.parquet", Path(workspace.path(f"extract/docs/S/{name}.parquet")).read_bytes()
        )
    few = CONFIG | {"signals": ["pii_emails"]}
    run(place, few)
    assert "stop_word_count" not in pq.read_schema(place.path("filter/measures/S/a.parquet")).names
    with pytest.raises(UsageError, match="stop_word_count was not measured"):
        what_if(place, FilterConfig(**few), ["stop_word_count.min=2"])
    assert what_if(place, FilterConfig(**few), ["word_count.min=30"]).total[0] == 300


def test_what_an_older_version_measured_is_told_from_what_can_answer(workspace: Workspace, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    manifest = workspace.read_json("filter/manifest.json")
    for entry in manifest["shards"]:
        table = pq.read_table(workspace.path(entry["measures"]["path"]))
        with place.create(entry["measures"]["path"]) as sink:
            pq.write_table(table.drop_columns(["characters", "pii"]), sink)
    place.write_json("filter/manifest.json", manifest)
    with pytest.raises(UsageError, match="was filtered by an older version: run `curate run filter` again"):
        what_if(place, FilterConfig(**CONFIG), ["word_count.min=30"])


def test_the_command_prints_both_tables_and_the_run_that_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(f'{{"id": "{n}", "text": "{"word " * n}"}}\n' for n in range(1, 21)))
    (tmp_path / "bare.yaml").write_text("filter: {language: null, rules: {word_count: {min: 5}}}\n")
    cli = ["-m", "curate.pipeline.cli"]
    for stage in (["extract", "--input", "in.jsonl"], ["filter"]):
        code, _, err = faults.run([*cli, "run", *stage, "-w", "w", "--recipe", "bare.yaml"])
        assert code == 0, err
    before = faults.fingerprint(tmp_path / "w", ["."])
    code, out, err = faults.run([*cli, "what-if", "word_count.min=11", "-w", "w"])
    assert code == 0, err
    lines = out.splitlines()
    assert lines[1].split()[:7] == ["unknown", "20", "16", "10", "-37.5%", "0", "6"]
    assert ["word_count", "4", "10", "4", "10"] in [line.split() for line in lines]
    assert lines[-1] == "next: curate run filter --workspace w --set filter.rules.word_count.min=11"
    code, out, err = faults.run([*cli, "what-if", "word_count.min=11", "-w", "w", "--json"])
    assert code == 0, err
    found = json.loads(out)
    assert (found["total"]["kept_then"], found["total"]["flip_out"]) == (10, 6)
    assert found["rules"]["word_count"] == {"now": {"fail": 4, "alone": 4}, "then": {"fail": 10, "alone": 10}}
    assert faults.fingerprint(tmp_path / "w", ["."]) == before
