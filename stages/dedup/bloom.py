"""A Bloom filter over 128-bit hashes: which of many texts came before, approximately, in one pass and a few bits each.

For those who want Dolma 1's way. The stage `dedup` does not use it: there exact copies are found without error and without
regard to order, file to file, in parallel. A Bloom filter depends on the order of what it is asked: it has no record of
who came first, so the same answer needs the same order, one shard after another by key (`sorted`), in one process; two
filters filled side by side cannot say which of two copies stays. And of the texts that never came before about `error`
are taken for copies, at the end, when as many as planned are in it.

    bloom = Bloom(count=100_000_000, error=0.001)    # 180 MB: all texts that will be asked of
    for path in sorted(Path("run/filter/docs").rglob("*.parquet")):
        table = pq.read_table(path)
        new = table.filter(pa.array(~seen_before(table["text"], bloom)))
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.stages.dedup.minhash import mix
from curate.stages.text.kernels import kernel

UInt64s = npt.NDArray[np.uint64]

_BYTE, _SEVEN = np.uint64(3), np.uint64(7)


def bits_needed(count: int, error: float) -> int:
    """m = -n ln p / (ln 2)^2: bits for `count` members at a false-positive rate of `error` (Bloom 1970)."""
    return max(1, math.ceil(-count * math.log(error) / math.log(2) ** 2))


def probes_needed(bits: int, count: int) -> int:
    """k = m / n ln 2: bits set for a member, to the nearest whole number, at least 1."""
    return max(1, round(bits / count * math.log(2)))


def false_positive_rate(bits: int, probes: int, members: int) -> float:
    """(1 - e^(-k n / m))^k: how often a stranger is taken for a member."""
    return float(-math.expm1(-probes * members / bits)) ** probes


class Bloom:
    """Bits for so many members at such an error. Never forgets a member; takes strangers for members at the rate of `error`.

    That rate is reached at `count` members (within 1 % of it up to an error of .1: the number of probes is a whole one). More
    may be added, none is refused: the rate goes on growing as `false_positive_rate` says, from .01 to .16 at twice as many.

    The bits of a member are mix(high + i * low) mod m for i = 0 … k - 1, a remainder over all m bits, whatever m is. Without
    the mixing (Kirsch and Mitzenmacher 2006) a filter of 200 members at .0001 errs twice as often, smaller ones more.
    Raises ValueError for a count below 1 or an error that is not between 0 and 1.
    """

    def __init__(self, count: int, error: float) -> None:
        if count < 1 or not 0 < error < 1:
            raise ValueError(f"count is at least 1 and error between 0 and 1, not {count} and {error}")
        self.bits = bits_needed(count, error)
        self.probes = probes_needed(self.bits, count)
        self._set = np.zeros(-(-self.bits // 8), np.uint8)

    @property
    def nbytes(self) -> int:
        """Memory of the bits."""
        return self._set.nbytes

    def add(self, hashes: UInt64s) -> npt.NDArray[np.bool_]:
        """Adds hashes one after another; true for each that was there before it, also in the same call.

        Hashes of 128 bits, shape (count, 2), such as those of `normalise.text_hashes`.
        """
        seen = np.empty(len(hashes), np.bool_)
        _probe(self._set, np.uint64(self.bits), self.probes, _checked(hashes), True, seen)
        return seen

    def __contains__(self, hash: Sequence[int]) -> bool:
        return bool(self.contains(np.array([hash], np.uint64))[0])

    def contains(self, hashes: UInt64s) -> npt.NDArray[np.bool_]:
        """True for each hash that is (probably) there; adds nothing."""
        seen = np.empty(len(hashes), np.bool_)
        _probe(self._set, np.uint64(self.bits), self.probes, _checked(hashes), False, seen)
        return seen


def seen_before(texts: pa.Array | pa.ChunkedArray, bloom: Bloom) -> npt.NDArray[np.bool_]:
    """True for each text whose normalised form is that of an earlier one, of this call or of one before, or seems so.

    The texts are added in their order. Texts without words are never copies. For a run over files: one filter, the files
    sorted by shard key, one after another.
    """
    from curate.stages.dedup.normalise import normalised_batches, text_hashes

    found = [np.zeros(0, np.bool_)]
    for part in normalised_batches(texts):
        seen = np.zeros(len(part), np.bool_)
        worded = np.flatnonzero(np.diff(part.offsets))
        seen[worded] = bloom.add(text_hashes(part)[worded])
        found.append(seen)
    return np.concatenate(found)


def _checked(hashes: UInt64s) -> UInt64s:
    if hashes.ndim != 2 or hashes.shape[1] != 2 or hashes.dtype != np.uint64:
        raise ValueError(f"hashes are uint64 of shape (count, 2), not {hashes.dtype} of {hashes.shape}")
    return hashes


@kernel
def _probe(bits, size, probes, hashes, adds, seen):  # type: ignore[no-untyped-def]
    for row in range(len(hashes)):
        state = hashes[row, 0]
        there = True
        for _ in range(probes):
            place = mix(state) % size
            byte = place >> _BYTE
            bit = np.uint8(1) << np.uint8(place & _SEVEN)
            if not bits[byte] & bit:
                there = False
                if adds:
                    bits[byte] |= bit
                else:
                    break
            state += hashes[row, 1]
        seen[row] = there
