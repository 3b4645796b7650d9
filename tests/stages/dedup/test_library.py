"""`deduplicate` and `signatures` on texts in memory."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import deduplicate, signatures
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.stage import STAGE
from support import rows, run_stage

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONG = "the quick brown fox jumps over the lazy dog and runs away into the dark and quiet forest of the north "


def test_each_text_is_given_the_first_of_its_copies() -> None:
    texts = [
        "alone in the world",
        LONG * 3,
        "",
        LONG.upper() * 3,
        None,
        "ALONE, in the world!",
        "...",
        LONG * 3 + "end",
    ]
    found = deduplicate(texts)
    assert found.dtype == np.int64
    assert found.tolist() == [0, 1, 2, 1, 4, 0, 6, 1]


def test_texts_of_arrow_and_across_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word {chr(97 + n % 3)}" for n in range(30)]
    expected = [n % 3 for n in range(30)]
    assert deduplicate(pa.array(texts)).tolist() == expected
    monkeypatch.setattr("curate.stages.dedup.normalise.NORMALISED_BYTES", 16)
    assert deduplicate(pa.chunked_array([texts[:7], texts[7:]])).tolist() == expected


@pytest.mark.parametrize(
    "texts",
    [
        pa.array(["x", "A b", None, "a B", ""]).slice(1),
        pa.array(["A b", None, "a B", ""], pa.large_string()),
        pa.array(["A b", None, "a B", ""], pa.string_view()),
        pa.array(["A b", None, "a B", ""]).dictionary_encode(),
        pa.chunked_array([pa.array(["A b", None]), pa.array([], pa.string()), pa.array(["a B", ""])]),
        np.array(["A b", None, "a B", ""], object),
        ("A b", None, "a B", ""),
    ],
    ids=["slice", "large", "view", "dictionary", "chunks", "numpy", "tuple"],
)
def test_strings_of_any_layout_are_taken(texts: Any) -> None:
    assert deduplicate(texts).tolist() == deduplicate(texts, verify=0.5).tolist() == [0, 1, 0, 3]
    made = signatures(texts)
    assert (made[0] == made[2]).all() and (made[[1, 3]] == 2**32 - 1).all() and (made[0] != made[1]).all()


@pytest.mark.parametrize(
    "texts", ["one text", b"bytes", ["a", 1], ["a", float("nan")], pa.array([1]), pa.array([b"a"])]
)
def test_what_is_no_strings_is_refused(texts: Any) -> None:
    for function in (signatures, deduplicate):
        with pytest.raises(TypeError, match="texts are"):
            function(texts)


def test_nulls_alone_are_texts_without_words() -> None:
    assert deduplicate(pa.nulls(3)).tolist() == deduplicate([None] * 3).tolist() == [0, 1, 2]
    assert deduplicate(pa.chunked_array([], pa.string()), verify=0.5).tolist() == []


def test_nothing_gives_nothing() -> None:
    assert deduplicate([]).tolist() == []


def test_more_bands_of_fewer_rows_find_pages_less_alike() -> None:
    words = [f"{a}{b}" for a in "abcdefghijkl" for b in "mnopqrstuvwx"]
    other = list(words)
    other[::12] = ["changed" + word for word in words[::12]]
    texts = [" ".join(words), " ".join(other)]  # Jaccard about .43
    assert deduplicate(texts, bands=1, rows=64).tolist() == [0, 1]
    assert deduplicate(texts, bands=64, rows=1).tolist() == [0, 0]


def overlapping(groups: int, shares: Sequence[float], size: int = 200) -> list[str]:
    """For each group a text of `size` words, and texts that begin with a share of its words and end with their own."""
    words = map("".join, itertools.product(LETTERS, repeat=4))
    texts = []
    for _ in range(groups):
        first = list(itertools.islice(words, size))
        texts.append(" ".join(first))
        for share in shares:
            cut = round(size * share)
            texts.append(" ".join([*first[:cut], *itertools.islice(words, size - cut)]))
    return texts


def true_similarity(one: str, other: str) -> float:
    sets = [{tuple(words[at : at + 5]) for at in range(len(words) - 4)} for words in (one.split(), other.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_with_verify_only_texts_that_are_as_alike_are_linked() -> None:
    texts = overlapping(30, [0.95, 0.8])
    assert true_similarity(texts[0], texts[1]) > 0.8 > 0.7 > true_similarity(texts[0], texts[2])
    loose = deduplicate(texts, bands=60, rows=2)
    assert loose.tolist() == [n - n % 3 for n in range(90)]
    assert deduplicate(texts, bands=60, rows=2, verify=0.8).tolist() == [n - (n % 3 == 1) for n in range(90)]
    assert deduplicate(texts, bands=60, rows=2, verify=1.0).tolist() == list(range(90))


def test_exact_copies_need_no_verification() -> None:
    texts = ["Few words.", LONG, "few WORDS", LONG + "!", ""]
    assert deduplicate(texts, verify=1.0).tolist() == [0, 1, 0, 1, 4]


def test_where_nothing_shares_a_band_there_is_nothing_to_verify() -> None:
    assert deduplicate([], verify=0.5).tolist() == []
    assert deduplicate(["one text of some words here", "and quite another text than that", ""], verify=0.5).tolist() == [
        0, 1, 2,
    ]  # fmt: skip


def test_verified_texts_of_several_chunks_are_those_of_one() -> None:
    """Also where texts that share no band with any lie among them."""
    groups, alone = overlapping(12, [0.95, 0.8]), overlapping(28, [])[16:]
    texts = [*alone[:2], *groups[::2], *alone[2:], *groups[1::2]]
    expected = deduplicate(texts, bands=60, rows=2, verify=0.8)
    cut = pa.chunked_array([texts[:5], [], texts[5:6], texts[6:30], texts[30:]], pa.string())
    assert deduplicate(cut, bands=60, rows=2, verify=0.8).tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 12 + 24
    for one, other in enumerate(expected.tolist()):
        assert one == other or true_similarity(texts[one], texts[other]) >= 0.8


@pytest.mark.parametrize(
    ("verify", "minhash"),
    [(None, {}), (None, {"hash_bits": 64, "ngram_of": "characters"}), (0.8, {"bands": 60, "rows": 2})],
)
def test_it_is_the_answer_of_the_stage(tmp_path: Path, verify: float | None, minhash: dict[str, Any]) -> None:
    texts: list[str | None] = [*overlapping(20, [0.97, 0.9, 0.8]), "few words", "", None, "Few words!", LONG]
    texts = [*texts[::3], *texts[1::3], *texts[2::3]]
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    pages = [
        {
            "id": f"{n:03d}",
            "text": text,
            "date": day + datetime.timedelta(n),
            "snapshot": "s",
            "source": "w",
            "offset": n,
        }
        for n, text in enumerate(texts)
    ]
    place, shards = Workspace(tmp_path), []
    for number in range(3):
        key, own = f"s/{number}", pages[number::3]
        with place.create(f"filter/docs/{key}.parquet") as sink:
            pq.write_table(pa.Table.from_pylist(own, schema=DOCUMENT), sink)
        shards.append(Shard(key, File(f"filter/docs/{key}.parquet", sink.sha256, sink.size), len(own)))
    section = {"minhash": minhash} | ({"verify": "jaccard", "verify_threshold": verify} if verify else {})
    done = run_stage(STAGE, DedupConfig.model_validate(section), shards, place)
    kept = {int(row["id"]): int(row["id"]) for task in done for row in rows(place, task.outputs["docs"].path)}
    gone = {int(row["id"]): int(row["kept_id"]) for task in done for row in rows(place, task.outputs["ledger"].path)}
    found = deduplicate(texts, verify=verify, **minhash)
    assert found.tolist() == [(kept | gone)[n] for n in range(len(texts))]
    assert 15 < len(gone) < 60


def test_copies_are_linked_through_the_one_that_is_compared() -> None:
    base, near, _ = overlapping(1, [0.95, 0.5])
    other = deduplicate([base, base.upper(), near, near + "."], bands=60, rows=2, verify=0.8)
    assert other.tolist() == [0, 0, 0, 0]


def test_characters_find_texts_whose_words_differ() -> None:
    words = [f"{a}word{b}" for a in "abcdefgh" for b in "ijklmnop"]
    misspelt = ["x" + word[1:] if n % 5 == 0 else word for n, word in enumerate(words)]
    texts = [" ".join(words), " ".join(misspelt)]
    assert deduplicate(texts, bands=20, rows=4).tolist() == [0, 1]
    assert deduplicate(texts, bands=20, rows=4, ngram_of="characters").tolist() == [0, 0]


def test_64_bits_give_the_same_copies() -> None:
    texts = overlapping(10, [0.97])
    assert deduplicate(texts, hash_bits=64).tolist() == [n - n % 2 for n in range(20)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bands": 0}, "at least 1"), ({"verify": 0}, "above 0"), ({"verify": 1.5}, "at most 1"),
        ({"ngram_of": "letters"}, "'words' or 'characters'"), ({"hash_bits": 16}, "32 or 64"), ({"seed": -1}, "from 0"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        deduplicate(["x"], **wrong)
