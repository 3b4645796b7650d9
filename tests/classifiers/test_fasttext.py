"""fastText files: the same answers as the library's own, and no damaged file reaches its C++ reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.classifiers import load
from curate.pipeline.errors import CurateError

TEXTS = [
    "bake the dough with butter and flour",
    "the striker scored a late goal in the match",
    "stir sugar and butter, then bake",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import fasttext

    folder = tmp_path_factory.mktemp("fasttext")
    lines = [
        "__label__food bake stir butter flour sugar dough oven",
        "__label__sport goal match striker league coach stadium",
    ] * 40
    lines += [f"__label__{'food' if number % 2 else 'sport'} w{number} w{number + 1}" for number in range(500)]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    for loss in ("softmax", "hs", "ova"):
        model = fasttext.train_supervised(
            str(folder / "train.txt"), dim=4, wordNgrams=2, bucket=300, epoch=20, loss=loss, thread=1, verbose=0
        )
        model.save_model(str(folder / f"{loss}.bin"))
    model = fasttext.train_supervised(
        str(folder / "train.txt"), dim=4, wordNgrams=2, bucket=300, epoch=20, thread=1, verbose=0
    )
    model.quantize(str(folder / "train.txt"), qnorm=True, cutoff=300, retrain=False, thread=1, verbose=0)
    model.save_model(str(folder / "small.ftz"))
    return folder


@pytest.mark.parametrize("name", ["softmax.bin", "hs.bin", "ova.bin", "small.ftz"])
def test_answers_are_the_librarys_own(folder: Path, name: str) -> None:
    import fasttext

    native = fasttext.load_model(str(folder / name))
    labels, scores = load(str(folder / name)).predict(pa.array(TEXTS))
    for row, text in enumerate(TEXTS):
        (label,), (share,) = native.predict(text)
        assert labels[row].as_py() == label.removeprefix("__label__")
        assert scores[row].as_py() == pytest.approx(min(float(share), 1), abs=1e-6)


def test_newlines_are_spaces_and_hostile_texts_get_an_answer(folder: Path) -> None:
    model = load(str(folder / "softmax.bin"))
    texts = pa.array(["bake\nbutter", "bake butter", None, "", "\0\n\r" * 50, "é" * 100_000], pa.string())
    labels, scores = model.predict(texts)
    assert labels[0] == labels[1]
    assert scores[0] == scores[1]
    assert labels.null_count == scores.null_count == 0
    assert np.isfinite(scores).all()
    broken = pa.array([b"\xff\xfe goal \xe2\x82"], pa.binary()).view(pa.string())
    assert model.predict(broken)[0].to_pylist() == ["sport"]
    assert len(model.predict(pa.array([], pa.string()))[0]) == 0


def test_one_labels_probability_is_a_score(folder: Path) -> None:
    scores = load(f"{folder / 'softmax.bin'}#food").predict(pa.array(TEXTS)).to_pylist()
    assert scores[0] > 0.5 > scores[1]


@pytest.mark.parametrize("name", ["softmax.bin", "small.ftz"])
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


DAMAGE = """
import random, sys
from pathlib import Path
import pyarrow as pa
from curate.classifiers import fasttext
from curate.pipeline.errors import CurateError

source, work = Path(sys.argv[1]), Path(sys.argv[2])
data, chance, refused = source.read_bytes(), random.Random(0), 0
for turn in range(400):
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(300) if chance.random() < 0.7 else chance.randrange(len(data))
        damaged[place] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
    work.write_bytes(damaged)
    try:
        fasttext.load(work).predict(pa.array(["bake the dough", "goal", ""]))
    except CurateError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("name", ["softmax.bin", "hs.bin", "small.ftz"])
def test_no_damaged_file_crashes_the_process(folder: Path, tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(folder / name), str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 100
