"""The signature kernel against its definition, theory and datasketch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.dedup import minhash, signatures
from curate.stages.dedup.minhash import band_keys, estimate, sign_hashes, sketch
from curate.stages.dedup.normalise import normalised_batches

M64 = 2**64 - 1


def mix(value: int) -> int:
    value = (value ^ (value >> 30)) * minhash.MIX_1 & M64
    value = (value ^ (value >> 27)) * minhash.MIX_2 & M64
    return value ^ (value >> 31)


def fold(value: int, chunk: int) -> int:
    value = (value ^ chunk) * minhash.WORD_PRIME & M64
    return value ^ (value >> 29)


def hash_of(word: str) -> int:
    """Eight bytes at a time, the last ones as many as there are."""
    value, data = minhash.WORD_START, word.encode()
    for at in range(0, len(data), 8):
        value = fold(value, int.from_bytes(data[at : at + 8], "little"))
    return mix(value)


def shingles_of(words: Sequence[str], ngram: int) -> list[int]:
    """The 64-bit hashes of the shingles, in order."""
    hashed = [hash_of(word) for word in words]
    hashes = []
    for at in range(max(1, len(hashed) - ngram + 1)) if words else []:
        value = 0
        for word_hash in hashed[at : at + ngram]:
            value = (value * minhash.SHINGLE_BASE + word_hash) & M64
        hashes.append(mix(value))
    return hashes


def by_definition(words: Sequence[str], count: int, ngram: int, seed: int, bits: int = 32) -> list[int]:
    """MinHash in Python integers: every shingle, every permutation."""
    ones = (1 << bits) - 1
    hashes = [value >> (64 - bits) for value in shingles_of(words, ngram)]
    a, b = minhash.permutations(count, seed, bits)
    return [min((int(x) * h + int(y) & ones for h in hashes), default=ones) for x, y in zip(a, b, strict=True)]


WORDS = st.lists(
    st.sampled_from(["a", "bb", "sevenof", "eightsof", "ninesofit", "straße", "слово", "धनयवद", "x" * 40]), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 7), st.integers(0, 5))
def test_the_kernel_is_minhash_by_definition(texts: list[list[str]], count: int, ngram: int, seed: int) -> None:
    found = signatures([" ".join(words) for words in texts], permutations=count, ngram=ngram, seed=seed)
    assert found.dtype == np.uint32
    assert found.tolist() == [by_definition(words, count, ngram, seed) for words in texts]
    wide = signatures([" ".join(words) for words in texts], permutations=count, ngram=ngram, seed=seed, hash_bits=64)
    assert wide.dtype == np.uint64
    assert wide.tolist() == [by_definition(words, count, ngram, seed, 64) for words in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab é日本한🜁", max_size=20), min_size=1, max_size=3), st.integers(1, 7))
def test_shingles_of_characters_are_the_normalised_texts_code_points(texts: list[str], ngram: int) -> None:
    (batch,) = normalised_batches(pa.array(texts))
    found = signatures(texts, permutations=4, ngram=ngram, ngram_of="characters")
    assert found.tolist() == [by_definition(batch[index].decode(), 4, ngram, 1) for index in range(len(texts))]


def test_a_long_text_has_all_its_shingles() -> None:
    words = [letters(n) for n in range(1500)]
    assert signatures([" ".join(words)], permutations=8)[0].tolist() == by_definition(words, 8, 5, 1)


def test_each_character_is_a_word_where_a_script_has_no_spaces() -> None:
    texts = ["日本語のテスト文です", "日 本 語 の テ ス ト 文 で す", "ภาษาไทย", "𠀀𠀁𠀂 abc𠀃d", "𠀀 𠀁 𠀂 abc 𠀃 d"]
    found = signatures(texts, permutations=16, ngram=3)
    assert (found[0] == found[1]).all()
    assert (found[3] == found[4]).all()
    assert found[2].tolist() == by_definition(list("ภาษาไทย"), 16, 3, 1)


def test_texts_without_words_have_the_empty_signature() -> None:
    assert (signatures(["", None, " .,! "]) == minhash.EMPTY).all()
    assert signatures([]).shape == (0, 112)


def test_fewer_words_than_a_shingle_are_one_shingle() -> None:
    found = signatures(["one two three", "One, two; three!", "one two", "one two four"], ngram=5)
    assert (found[0] == found[1]).all()
    assert not (found[0] == found[2]).any()
    assert not (found[0] == found[3]).any()


def test_a_seed_gives_other_permutations() -> None:
    text = ["some text of more than five words here"]
    assert (signatures(text, seed=1) == signatures(text, seed=1)).all()
    assert not (signatures(text, seed=1) == signatures(text, seed=2)).any()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        signatures(["x"], permutations=0)
    with pytest.raises(ValueError, match="112 permutations"):
        band_keys(signatures(["x"], permutations=100), 14, 8)


def letters(number: int) -> str:
    """A word for each number, without digits: normalisation would make those all 0."""
    word = ""
    while number or not word:
        number, digit = divmod(number, 26)
        word += chr(97 + digit)
    return word


def planted(similarity: float, pairs: int, seed: int) -> tuple[list[str], list[str], float]:
    """Pairs of texts of about 100 words whose sets of 5-word shingles have exactly the similarity that is returned."""
    own = round(50 * (1 - similarity))
    common = round(2 * own * similarity / (1 - similarity))
    words = np.random.default_rng(seed).integers(0, 26**4, size=(pairs, common + 4 + 2 * own))
    lines = [[letters(n) for n in row] for row in words.tolist()]
    one = [" ".join(line[: common + 4 + own]) for line in lines]
    other = [" ".join(line[: common + 4] + line[common + 4 + own :]) for line in lines]
    return one, other, common / (common + 2 * own)


def shingle_sets_agree(one: str, other: str) -> float:
    sets = [{tuple(words[at : at + 5]) for at in range(len(words) - 4)} for words in (one.split(), other.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("hash_bits", [32, 64])
@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_the_estimate_is_unbiased_with_the_variance_of_theory(similarity: float, hash_bits: Literal[32, 64]) -> None:
    pairs, k = 1000, 112
    one, other, true = planted(similarity, pairs, seed=7)
    assert true == pytest.approx(shingle_sets_agree(one[0], other[0]), abs=1e-9)
    # all pairs share the permutations: fresh ones for each hundred keep their luck out of the mean
    found = np.concatenate(
        [
            np.equal(*(signatures(side[at : at + 100], seed=at, hash_bits=hash_bits) for side in (one, other))).mean(
                axis=1
            )
            for at in range(0, pairs, 100)
        ]
    )
    variance = true * (1 - true) / k
    assert abs(found.mean() - true) < 4 * np.sqrt(variance / pairs)
    # the variance of a sample variance of a nearly normal variable is 2 sigma^4 / n
    assert abs(found.var() / variance - 1) < 5 * np.sqrt(2 / pairs)


@pytest.mark.parametrize("hash_bits", [32, 64])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("union", [5, 20, 100, 1000])
def test_with_the_permutations_of_one_run_small_and_large_sets_are_estimated_as_theory_says(
    union: int, seed: int, hash_bits: Literal[32, 64]
) -> None:
    """Linear permutations could go together: then the estimate would be no worse in the mean, but vary more."""
    draw, pairs, k = np.random.default_rng(union), min(10_000, 1_000_000 // union), 112
    for similarity in (0.2, 0.5, 0.8, 0.95):
        own = max(1, round(union * (1 - similarity) / 2))
        common = union - 2 * own
        hashes = draw.integers(0, 2**64, (pairs, union), np.uint64, endpoint=False)
        sides = (hashes[:, : common + own], np.delete(hashes, slice(common, common + own), axis=1))
        one, other = (
            sign_hashes(side.reshape(-1), np.arange(pairs + 1) * side.shape[1], k, seed, hash_bits) for side in sides
        )
        found, true = (one == other).mean(axis=1), common / union
        variance = true * (1 - true) / k
        assert abs(found.mean() - true) < 4 * np.sqrt(variance / pairs)
        assert abs(found.var() / variance - 1) < 5 * np.sqrt(2 / pairs)


def test_estimates_from_one_shingle_are_right_or_nothing() -> None:
    """A linear permutation keeps the order of low bits: sketches of these would call 1 pair of 256 equal."""
    texts = [letters(n) for n in range(3000)]
    for bits in (32, 64):
        made = sketch(signatures(texts, hash_bits=bits))  # type: ignore[arg-type]
        assert estimate(made[:-1], made[1:]).max() < 0.1
        assert (estimate(made, made) == 1).all()


@pytest.mark.parametrize("words", [6, 15, 40])
def test_texts_of_few_words_are_estimated_as_well(words: int) -> None:
    """Sketches by one permutation are not: on few shingles they repeat values."""
    shingles, pairs = words - 4, 1500
    drawn = np.random.default_rng(2).integers(0, 26**4, size=(pairs, words)).tolist()
    one = [" ".join(map(letters, row)) for row in drawn]
    other = [" ".join(map(letters, row[:-1])) for row in drawn]
    true = (shingles - 1) / shingles
    found = np.concatenate(
        [
            np.equal(*(signatures(side[at : at + 100], seed=at) for side in (one, other))).mean(axis=1)
            for at in range(0, pairs, 100)
        ]
    )
    variance = true * (1 - true) / 112
    assert abs(found.mean() - true) < 4 * np.sqrt(variance / pairs)
    assert abs(found.var() / variance - 1) < 5 * np.sqrt(2 / pairs)


@pytest.mark.parametrize("hash_bits", [32, 64])
def test_the_sketch_estimates_as_the_signature_does(hash_bits: Literal[32, 64]) -> None:
    one, other, true = planted(0.7, 1500, seed=3)
    a, b = (signatures(side, hash_bits=hash_bits) for side in (one, other))
    full, cut = (a == b).mean(axis=1), estimate(sketch(a), sketch(b))
    assert abs(cut.mean() - true) < 5 * np.sqrt(true * (1 - true) / 112 / 1500)
    assert np.abs(full - cut).max() < 0.06
    unrelated = estimate(sketch(a[:-1]), sketch(b[1:]))
    assert unrelated.min() >= 0
    assert unrelated.mean() < 0.0032  # without the correction .0039


def test_datasketch_estimates_the_same_similarities() -> None:
    datasketch = pytest.importorskip("datasketch")
    one, other, true = planted(0.75, 150, seed=5)

    def reference(text: str) -> np.ndarray:
        words = text.split()
        made = datasketch.MinHash(num_perm=112, seed=1)
        made.update_batch([" ".join(words[at : at + 5]).encode() for at in range(len(words) - 4)])
        return made.digest()

    theirs = np.array([(reference(a) == reference(b)).mean() for a, b in zip(one, other, strict=True)])
    ours = (signatures(one) == signatures(other)).mean(axis=1)
    error = np.sqrt(2 * true * (1 - true) / 112 / 150)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert ours.std() == pytest.approx(theirs.std(), rel=0.35)


def recall_is_on_the_curve(similarity: float, pairs: int, bands: int, rows: int) -> None:
    one, other, true = planted(similarity, pairs, seed=11)
    expected = 1 - (1 - true**rows) ** bands
    found = 0
    for at in range(0, pairs, 100):
        keys = [
            band_keys(signatures(side[at : at + 100], permutations=bands * rows, seed=at), bands, rows)
            for side in (one, other)
        ]
        found += int((keys[0] == keys[1]).any(axis=1).sum())
    assert abs(found / pairs - expected) < 4 * np.sqrt(expected * (1 - expected) / pairs) + 1e-3


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.75, 0.8, 0.9])
def test_recall_is_on_the_theoretical_curve(similarity: float) -> None:
    recall_is_on_the_curve(similarity, 1500, 14, 8)


@pytest.mark.slow
@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (9, 13), (26, 11)])
@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
def test_recall_is_on_the_theoretical_curve_of_published_settings(similarity: float, bands: int, rows: int) -> None:
    recall_is_on_the_curve(similarity, 10_000, bands, rows)


def test_band_keys_agree_where_the_bands_values_do_and_nowhere_else() -> None:
    made = np.random.default_rng(0).integers(0, 2**32, size=(2, 12), dtype=np.uint32)
    made[1, 3:6] = made[0, 3:6]  # band 1 of 4
    made[1, 7] = made[0, 7]  # one value of band 2
    keys = band_keys(made, 4, 3)
    assert (keys[0] == keys[1]).tolist() == [False, True, False, False]
    # the same values in another band are another key
    repeated = np.tile(made[:, :3], 4)
    assert len(set(band_keys(repeated, 4, 3)[0].tolist())) == 4


def test_arrow_arrays_and_lists_give_the_same() -> None:
    texts = ["one two three four five six", "seven", ""]
    assert (signatures(texts) == signatures(pa.chunked_array([texts[:1], texts[1:]]))).all()
