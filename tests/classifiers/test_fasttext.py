"""fastText files: the same answers as the library's own, and no damaged file harms the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curate.classifiers import fasttext, fasttext_file, load, resolve, scoring
from curate.classifiers.kinds import fit
from curate.classifiers.model import Classifier, Examples
from curate.classifiers.ngrams import ngrams, prepared
from curate.classifiers.rows import Raw, Tally
from curate.pipeline.errors import CurateError

TEXTS = [
    "bake the dough with butter and flour",
    "the striker scored a late goal in the match",
    "stir sugar and butter, then bake",
]
MODELS = {
    "softmax.bin": {"loss": "softmax", "wordNgrams": 2},
    "hs.bin": {"loss": "hs", "wordNgrams": 3},
    "ova.bin": {"loss": "ova", "wordNgrams": 2},
    "characters.bin": {"loss": "softmax", "minn": 1, "maxn": 4},
    "characters-hs.bin": {"loss": "hs", "minn": 2, "maxn": 3, "wordNgrams": 2},
}
QUANTISED = {
    "small.ftz": ("softmax.bin", {"qnorm": True, "cutoff": 300}),
    "whole.ftz": ("ova.bin", {"qnorm": False}),
    "output.ftz": ("many.bin", {"qnorm": True, "qout": True, "cutoff": 400}),
    "characters.ftz": ("characters-hs.bin", {"qnorm": True, "cutoff": 300, "dsub": 3}),
}
ALL = [*MODELS, *QUANTISED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import fasttext as library

    folder = tmp_path_factory.mktemp("fasttext")
    lines = [
        "__label__food bake stir butter flour sugar dough oven crème brûlée",
        "__label__sport goal match striker league coach stadium",
        "__label__law court judge appeal statute verdict 法院 判决",
    ] * 40
    lines += [f"__label__{('food', 'sport', 'law')[number % 3]} w{number} w{number + 1}" for number in range(500)]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    many = [f"__label__{number % 300} w{number} w{number % 300}" for number in range(900)]
    (folder / "many.txt").write_text("\n".join(many) + "\n")
    for name, how in {**MODELS, "many.bin": {}}.items():
        source = str(folder / ("many.txt" if name == "many.bin" else "train.txt"))
        model = library.train_supervised(source, dim=5, bucket=300, epoch=15, thread=1, verbose=0, **how)
        model.save_model(str(folder / name))
        for small, (base, smaller) in QUANTISED.items():
            if base == name:
                model = library.load_model(str(folder / name))
                model.quantize(source, retrain=False, thread=1, verbose=1, **smaller)
                model.save_model(str(folder / small))
    return folder


def library_answers(path: Path, text: str, most: int = -1) -> dict[str, float]:
    import fasttext as library

    labels, shares = library.load_model(str(path)).predict(text, k=most)
    return {label.removeprefix("__label__"): min(float(share), 1) for label, share in zip(labels, shares, strict=True)}


@pytest.mark.parametrize("name", ALL)
def test_every_labels_probability_is_the_librarys_own(folder: Path, name: str) -> None:
    model = load(str(folder / name))
    texts = [*TEXTS, "w1 w2 w299"]
    values = model.values(pa.array(texts))
    for row, text in enumerate(texts):
        expected = library_answers(folder / name, text)
        found = dict(zip(model.labels, values[row].tolist(), strict=True))
        for label, share in expected.items():
            assert found[label] == pytest.approx(share, abs=2e-6)
    assert values.std() > 1e-6


@pytest.fixture(scope="module")
def pairs(folder: Path) -> dict[str, tuple[Any, Classifier]]:
    import fasttext as library

    return {name: (library.load_model(str(folder / name)), load(str(folder / name))) for name in ALL}


WORDS = [
    "bake",
    "goal",
    "court",
    "w7",
    "w8",
    "unknown",
    "crème",
    "法院",
    "</s>",
    "__label__food",
    "__label__",
    "_",
    "é",
]
SPACES = st.sampled_from([" ", "\t", "\v", "\f", "\r", "\0", "  "])
LINES = st.lists(
    st.tuples(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), SPACES).map("".join), max_size=12
).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES.map(lambda line: line.replace("\n", " ").encode("utf-8", "ignore").decode()))
def test_any_line_gets_the_librarys_answer(pairs: dict[str, tuple[Any, Classifier]], line: str) -> None:
    for name, (library, model) in pairs.items():
        labels, shares = library.predict(line)
        found, scores = model.predict(pa.array([line]))
        assert scores[0].as_py() == pytest.approx(min(float(shares[0]), 1) if labels else 0, abs=2e-6), name
        best = model.values(pa.array([line]))[0]
        if labels and np.sort(best)[-1] - np.sort(best)[-2] > 1e-5:
            assert found[0].as_py() == labels[0].removeprefix("__label__"), name


def test_newlines_are_spaces_and_hostile_texts_get_an_answer(folder: Path) -> None:
    texts = pa.array(
        ["bake\nbutter", "bake butter", None, "", "\0\n\r" * 50, "é" * 100_000, "\xa0" * 9_000], pa.string()
    )
    for name in ("softmax.bin", "characters.ftz"):
        labels, scores = load(str(folder / name)).predict(texts)
        assert labels[0] == labels[1]
        assert scores[0] == scores[1]
        assert labels.null_count == scores.null_count == 0
        assert np.isfinite(scores).all()
        broken = pa.array([b"\xff\xfe goal \xe2\x82"], pa.binary()).view(pa.string())
        assert np.isfinite(load(str(folder / name)).predict(broken)[1]).all()
        assert len(load(str(folder / name)).predict(pa.array([], pa.string()))[0]) == 0


def test_of_equal_labels_the_librarys_is_taken(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "softmax.bin").read_bytes())
    data[-3 * 5 * 4 :] = bytes(3 * 5 * 4)  # the output matrix
    (tmp_path / "flat.bin").write_bytes(data)
    (expected,) = list(library_answers(tmp_path / "flat.bin", TEXTS[0], most=1))
    assert load(str(tmp_path / "flat.bin")).predict(pa.array(TEXTS[:1]))[0].to_pylist() == [expected]


def test_one_labels_probability_is_a_score(folder: Path) -> None:
    scores = load(f"{folder / 'softmax.bin'}#food").predict(pa.array(TEXTS)).to_pylist()
    assert scores[0] > 0.5 > scores[1]


# --- training ---------------------------------------------------------------------------------------------------------

QUICK = {"dim": 8, "epoch": 30, "bucket": 1_000, "min_count": 1}
VOCABULARY = {
    "food and drink": "oven butter flour bake stir recipe sugar dough",
    "law 100%": "court judge appeal statute lawyer verdict trial clause",
    "sport": "goal match league striker penalty referee stadium coach",
}


def pages(count: int = 120, seed: int = 0) -> Examples:
    chance = np.random.default_rng(seed)
    labels = [sorted(VOCABULARY)[row % 3] for row in range(count)]
    texts = [" ".join(chance.choice(VOCABULARY[label].split(), 12)) + ",\nThe $x$ of" for label in labels]
    return Examples(texts, labels, [f"site{row % 25}.org" for row in range(count)])


def trained(examples: Examples | None = None, **given: Any) -> fasttext.FastText:
    model = fit("fasttext", examples or pages(), {**QUICK, **given}, name="desk", version="3")
    assert isinstance(model, fasttext.FastText)
    return model


@pytest.mark.parametrize("preparation", ["as_is", "words", "words_without_latex"])
def test_pages_it_has_not_seen_get_their_label_by_any_preparation(preparation: str, tmp_path: Path) -> None:
    model = trained(preparation=preparation)
    unseen = pages(seed=1)
    assert model.predict(unseen.array)[0].to_pylist() == unseen.labels
    model.save(tmp_path / "desk.bin")
    back = load(str(tmp_path / "desk.bin"))
    assert (back.name, back.version, back.kind, back.fingerprint) == ("desk", "3", "fasttext", model.fingerprint)
    assert back.predict(unseen.array)[1].equals(model.predict(unseen.array)[1])
    back.save(tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == (tmp_path / "desk.bin").read_bytes()


def test_the_library_reads_our_file_and_answers_the_same_about_the_prepared_text(tmp_path: Path) -> None:
    import fasttext as library

    model = trained(preparation="words", word_ngrams=2)
    model.save(tmp_path / "desk.bin")
    text = "Bake the DOUGH, then: butter!"
    (label,), (share,) = library.load_model(str(tmp_path / "desk.bin")).predict(prepared(text, "words", 99).decode())
    found, score = model.predict(pa.array([text]))
    assert label.removeprefix("__label__").replace("%20", " ") == found[0].as_py()
    assert score[0].as_py() == pytest.approx(min(float(share), 1), abs=2e-6)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
@example("0\u1680\u2003x \x85")
def test_prepared_words_are_the_tokens_that_the_linear_kind_sees(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    # at ASCII spaces, as fastText splits: str.split() knows more of them, such as U+1680, which stand in words
    words = [word.decode("utf-8", "replace") for word in prepared(text, "words", 10_000).split(b" ") if word]
    tokens, _ = ngrams(pa.array([text]), order=1, max_bytes=10_000)
    again, _ = ngrams(pa.array([" ".join(words)]), order=1, max_bytes=10_000)
    assert len(words) == len(tokens)
    assert again.tolist() == tokens.tolist()


def test_the_same_pages_and_seed_train_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trained(seed=seed, max_mb=0.02).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_a_quantised_model_is_as_small_as_asked_and_still_knows(tmp_path: Path) -> None:
    examples = pages(400)
    examples.texts = [f"{text} rare{row} rare{row + 1} more{row}" for row, text in enumerate(examples.texts)]
    plain, small = trained(examples, preparation="as_is"), trained(examples, preparation="as_is", max_mb=0.03)
    plain.save(tmp_path / "plain.bin")
    small.save(tmp_path / "small.ftz")
    assert 29_000 < (tmp_path / "small.ftz").stat().st_size <= 30_000 < (tmp_path / "plain.bin").stat().st_size
    unseen = pages(seed=1)
    right = np.array(small.predict(unseen.array)[0].to_pylist()) == np.array(unseen.labels)
    assert right.mean() > 0.95
    with pytest.raises(CurateError, match=r"max_mb: 0\.005 MB are too few"):
        trained(examples, preparation="as_is", max_mb=0.005)


def test_a_model_for_one_label_gives_its_probability(tmp_path: Path) -> None:
    model = trained(positive="sport")
    unseen = pages(seed=1)
    assert model.output == "score"
    assert model.labels == ("sport",)
    assert [score > 0.5 for score in model.predict(unseen.array).to_pylist()] == [x == "sport" for x in unseen.labels]
    model.save(tmp_path / "sport.bin")
    assert resolve(str(tmp_path / "sport.bin")).output == "score"


@pytest.mark.parametrize("steps", [3, 60])
def test_targets_become_a_score_on_their_scale(steps: int, tmp_path: Path) -> None:
    examples = pages(240)
    order = {label: row for row, label in enumerate(sorted(VOCABULARY))}
    examples.targets = [order[label] * 2.0 + (row % (steps // 3)) / 100 for row, label in enumerate(examples.labels)]
    examples.labels = []
    model = trained(examples, levels=3)
    low, high = model.scale
    assert low < 0.2 and high > 3.9
    unseen = pages(seed=1)
    scores = np.asarray(model.predict(unseen.array))
    expected = np.array([order[label] * 2.0 for label in unseen.labels])
    assert np.abs(scores - expected).mean() < 0.4
    model.save(tmp_path / "levels.bin")
    assert resolve(str(tmp_path / "levels.bin")).scale == model.scale == load(str(tmp_path / "levels.bin")).scale
    nothing = model.predict(pa.array(["__label__x " * 3])).to_pylist()
    assert low <= nothing[0] <= high


def test_a_text_of_weight_nothing_is_not_learned_and_one_of_three_stands_thrice() -> None:
    examples = pages(60)
    examples.weights = [0.0 if label == "sport" else 1.0 for label in examples.labels]
    assert "sport" not in trained(examples).labels
    heavy = pages(30)
    heavy.weights = [3.0] * 30
    counts = trained(heavy)._parts.label_counts
    assert counts == [30, 30, 30]


def test_trials_keep_sites_apart_are_repeatable_and_kept_in_the_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        model = trained(pages(60), trials=3, dim=4)
        model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    tried = model.about["tried"]
    assert len(tried) == 3
    assert tried[0]["dim"] == 4
    best = max(tried, key=lambda each: each["value"])
    assert model.about["settings"]["dim"] == best["dim"]
    alone = pages(30)
    alone.groups = ["one.org"] * 30
    with pytest.raises(CurateError, match="too few groups"):
        trained(alone, trials=2)


def test_markup_of_fasttext_in_a_page_is_not_learned_as_a_label() -> None:
    examples = pages(60)
    examples.texts = [f"__label__spam {text} </s> secret" for text in examples.texts]
    model = trained(examples, preparation="as_is")
    assert set(model.labels) == set(VOCABULARY)
    assert b"secret" not in model._parts.words


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax.bin", "small.ftz", "characters.ftz"])
def test_a_file_cut_anywhere_gives_one_clear_error(folder: Path, tmp_path: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    path = tmp_path / name
    for size in sorted({*range(1, 200, 7), *range(200, len(data), len(data) // 50), len(data) - 1}):
        path.write_bytes(data[:size])
        with pytest.raises(CurateError, match="no usable model"):
            load(str(path))
    path.write_bytes(data + b"\0")
    with pytest.raises(CurateError, match="something follows its end"):
        load(str(path))


ABOUT = {
    "name": "n",
    "version": "1",
    "preparation": "words",
    "max_bytes": 9,
    "labels": ["a", "b", "c"],
    "positive": None,
}


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"version": 3},
        {"preparation": "shell"},
        {"max_bytes": 0},
        {"max_bytes": True},
        {"labels": ["a", "b"]},
        {"labels": ["a", "b", "b"]},
        {"labels": [1, 2, 3]},
        {"labels": None},
        {"positive": "z"},
        {"levels": [1, 2]},
        {"levels": [1, 2, float("nan")]},
        {"levels": [1, 1, 1]},
        {"levels": [1, 2, 10**400]},
        {"levels": [-1e308, 0, 1e308]},
        {"levels": "abc"},
    ],
)
def test_a_footer_that_does_not_fit_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    data, path = (folder / "softmax.bin").read_bytes(), tmp_path / "m.bin"
    path.write_bytes(data + fasttext_file.footer(ABOUT))
    assert load(str(path)).labels == ("a", "b", "c")
    path.write_bytes(data + fasttext_file.footer(ABOUT | change))
    with pytest.raises(CurateError, match="footer is damaged"):
        load(str(path))
    deep = b"[" * 100_000
    path.write_bytes(data + deep + len(deep).to_bytes(4, "little") + fasttext_file.FOOTER)
    with pytest.raises(CurateError, match="footer is damaged"):
        load(str(path))


def test_a_model_of_other_making_needs_no_footer_and_says_nothing_before_it_is_loaded(folder: Path) -> None:
    reference = resolve(str(folder / "softmax.bin"))
    assert (reference.kind, reference.output, reference.scale) == ("file", "", (0.0, 1.0))
    assert json.dumps(fasttext_file.peek(folder / "softmax.bin")) == "{}"


def test_weights_too_large_to_add_up_are_refused_and_not_answered_with_nonsense(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "softmax.bin").read_bytes())
    parts = fasttext_file.read(folder / "softmax.bin")
    assert parts.output.dense is not None and parts.input.dense is not None
    end = len(data) - parts.output.dense.nbytes - 17
    data[end - parts.input.dense.nbytes : end] = np.full(parts.input.dense.size, 3e38, np.float32).tobytes()
    (tmp_path / "large.bin").write_bytes(data)
    with pytest.raises(CurateError, match="too large"):
        load(str(tmp_path / "large.bin")).predict(pa.array(TEXTS))


def test_a_small_file_cannot_ask_for_much_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "characters.ftz"
    parts = fasttext_file.read(file)
    monkeypatch.setattr(fasttext_file, "MOST_UNPACKED", parts.input.rows * parts.width * 4 - 1)
    with pytest.raises(CurateError, match=r"no usable model: its matrix would take [\d,]+ bytes of memory"):
        fasttext.load(file)
    monkeypatch.setattr(fasttext_file, "MOST_ENTRIES", len(parts.words) + len(parts.labels) - 1)
    with pytest.raises(CurateError, match="sizes of its dictionary"):
        fasttext.load(file)


def test_rows_that_32_bits_cannot_number_are_refused(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "softmax.bin").read_bytes())
    data[40:44] = ((1 << 31) - 1).to_bytes(4, "little")  # buckets: with the words there are more rows than that
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(CurateError, match="too many rows"):
        load(str(tmp_path / "m.bin"))


def test_a_model_is_saved_whole_over_its_own_file_and_where_it_cannot_be_says_so(folder: Path, tmp_path: Path) -> None:
    data, path = (folder / "softmax.bin").read_bytes(), tmp_path / "m.bin"
    path.write_bytes(data)
    model = load(str(path))
    model.save(path)
    model.save(tmp_path / "copy.bin")
    assert path.read_bytes() == (tmp_path / "copy.bin").read_bytes() == data
    with pytest.raises(CurateError, match="cannot write model"):
        model.save(tmp_path / "nowhere" / "m.bin")
    path.write_bytes(data[:-1])
    with pytest.raises(CurateError, match="no longer the file"):
        model.save(tmp_path / "copy.bin")
    path.unlink()
    with pytest.raises(CurateError, match="cannot read model"):
        model.save(tmp_path / "copy.bin")


def test_scores_written_to_files_name_the_same_label_as_predict(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "softmax.bin").read_bytes())
    data[-3 * 5 * 4 :] = bytes(3 * 5 * 4)  # every label is as likely
    (tmp_path / "flat.bin").write_bytes(data)
    model = load(str(tmp_path / "flat.bin"))
    rows = [Raw("f", number, {"text": text}) for number, text in enumerate([*TEXTS, "", "\u0394"])]
    (batch,) = scoring.score(model, rows, Tally())
    labels, scores = model.predict(pa.array([row.values["text"] for row in rows]))
    assert [row["label"] for row in batch] == labels.to_pylist()
    assert [row["score"] for row in batch] == pytest.approx(scores.to_pylist())


DAMAGE = """
import random, sys
from pathlib import Path
import pyarrow as pa
from curate.classifiers import fasttext
from curate.pipeline.errors import CurateError

source, work = Path(sys.argv[1]), Path(sys.argv[2])
data, chance, refused = source.read_bytes(), random.Random(0), 0
for turn in range(150):
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(150) if chance.random() < 0.7 else chance.randrange(len(data))
        damaged[place] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    work.write_bytes(damaged)
    try:
        fasttext.load(work).predict(pa.array(["bake the dough", "goal", ""]))
    except CurateError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("name", ["hs.bin", "small.ftz", "characters.ftz"])
def test_no_damaged_file_crashes_the_process(folder: Path, tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(folder / name), str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 30
