"""Dedup measured: signature speed beside rensa and datasketch, recall by true similarity, precision after verification.

    make bench-dedup                                   # PEER=a Python that has rensa and datasketch
    python bench/dedup.py --pairs 2000                 # quicker
    python bench/dedup.py --only speed --peer-python PYTHON --texts demo/extract/docs    # on these pages too

Texts are made, from a seed. Pairs are planted: their shingle sets have exactly the similarity named, which is counted again;
one side is in capitals and full of punctuation, so that normalisation is part of what is measured. Recall is that of
`deduplicate` as it comes, from text to the index of the text kept. Precision is the share of the texts removed that are as
similar to the one kept as asked. Time is CPU time on one core, the least of several passes. Clustering and growth:
`bench/dedup_clusters.py`. Other sketches than MinHash: `bench/dedup_sketches.py`.

Speed is that from normalised text to signature, ours and the peers' on the same texts with the same shingles. Ours cuts and
hashes shingles in compiled code; the peers ask for a list of strings, which is cut in Python, as their users do. So three
ratios are given: `text_to_signature`, each in its own way; `with_normalisation`, where ours has the time of normalisation added
and the peers get the normalised text for nothing; `ready_shingles`, where the peers get the list of shingles for nothing too
and ours still starts from text.
"""

from __future__ import annotations

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)  # read when NumPy and Numba load

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from extract import about
from rich.console import Console
from rich.table import Table

from curate.stages.dedup import deduplicate
from curate.stages.dedup.config import PRESETS, MinHashConfig, probability
from curate.stages.dedup.minhash import band_keys, shingle_hashes, sign_hashes, signature_matrix, sketch
from curate.stages.dedup.normalise import Normalised, normalised_batches
from curate.stages.dedup.similarity import ShingleSets, jaccard, shingle_sets
from curate.stages.dedup.verify import Pages, linked

RESULTS = Path(__file__).parent / "results" / "dedup.json"
STEPS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
SHINGLES = {"short": 40, "page": 200, "long": 1000}
"""Shingles in the union of a planted pair. Those of 40 have none of .99."""
SETTINGS = (
    ("fineweb", "page"), ("fineweb", "short"), ("fineweb", "long"), ("redpajama", "page"), ("dolma3", "page"),
)  # fmt: skip
"""What recall is measured with, on what texts."""
NEARLY = (0.72, 0.73, 0.74)
"""Similarities just below the one that verification asks for."""
WITHIN = 0.02
"""How far recall may be from the curve."""
PASSES = 5
_DRAWS = 1000


# --- texts ------------------------------------------------------------------------------------------------------------


class Words:
    """Texts of words drawn from a vocabulary of half a million, all ASCII letters: normalisation leaves them as they are."""

    def __init__(self, seed: int) -> None:
        letters = np.array([chr(97 + n) for n in range(26)])
        every = np.stack(np.meshgrid(*[letters] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
        self.vocabulary = pa.array(["".join(word) for word in every.tolist()])
        self.draw = np.random.default_rng(seed)

    def numbers(self, *shape: int) -> Any:
        return self.draw.integers(0, len(self.vocabulary), size=shape)

    def texts(self, numbers: Any, between: str = " ") -> pa.Array:
        """One text a row."""
        rows, width = numbers.shape
        words = self.vocabulary.take(pa.array(numbers.reshape(-1)))
        return pc.binary_join(
            pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * width, pa.int32()), words), between
        )


@dataclass(frozen=True)
class Planted:
    one: pa.Array
    other: pa.Array
    similarity: float


def planted(words: Words, similarity: float, pairs: int, shingles: int) -> Planted:
    """Pairs with a common beginning and each its own end; the similarity is that of the nearest possible sets."""
    own = max(1, round(shingles * (1 - similarity) / 2))
    common = shingles - 2 * own
    numbers = words.numbers(pairs, common + 4 + 2 * own)
    one = words.texts(numbers[:, : common + 4 + own])
    other = words.texts(np.concatenate([numbers[:, : common + 4], numbers[:, common + 4 + own :]], axis=1), " – ")
    return Planted(one, pc.utf8_upper(other), common / shingles)


def sets_of(texts: pa.Array) -> ShingleSets:
    parts = [shingle_sets(part, 5) for part in normalised_batches(texts)]
    sizes = np.concatenate([part.sizes for part in parts])
    return ShingleSets(np.concatenate([part.hashes for part in parts]), np.concatenate([[0], np.cumsum(sizes)]))


# --- recall and precision -----------------------------------------------------------------------------------------------


def recall(words: Words, pairs: int, bands: int, rows: int, size: str) -> list[dict[str, Any]]:
    """By step of similarity, the pairs found, and what the curve says of the similarity they really have."""
    found = []
    for step in STEPS:
        if SHINGLES[size] * (1 - step) < 2 - 1e-9:
            continue  # each side needs a shingle of its own
        hits, true = 0, []
        for start in range(0, pairs, _DRAWS):
            some = planted(words, step, min(_DRAWS, pairs - start), SHINGLES[size])
            count = len(some.one)
            kept = deduplicate(pa.concat_arrays([some.one, some.other]), bands=bands, rows=rows)
            hits += int((kept[count:] == np.arange(count)).sum())
            true.append(jaccard(sets_of(some.one), np.arange(count), sets_of(some.other), np.arange(count)))
        similarity = np.concatenate(true)
        expected = float(probability(similarity, bands, rows).mean())  # type: ignore[arg-type]  # an array goes through
        error = (expected * (1 - expected) / pairs) ** 0.5
        found.append(
            {
                "step": step,
                "jaccard": round(float(similarity.mean()), 5),
                "pairs": pairs,
                "recall": round(hits / pairs, 5),
                "curve": round(expected, 5),
                "difference": round(hits / pairs - expected, 5),
                "standard_error": round(error, 5),
            }
        )
    return found


def precision(words: Words, pairs: int, verify: float) -> dict[str, Any]:
    """Removed texts that have at least the similarity `verify` to the one kept: as they come, verified by the estimate of
    their signatures, verified by their shingles.

    On pairs planted at every step and at NEARLY, on pages of one template (groups of 20 that share .6 of their shingles two by
    two), and on pairs of 10,000 shingles, whose similarity is that of a sample. By similarity, the pairs removed are told.
    """
    each = max(pairs // len(STEPS), 10)
    sides = [planted(words, step, each, SHINGLES["page"]) for step in sorted({*STEPS, *NEARLY})]
    sides += [planted(words, step, max(5, each // 20), 10_000) for step in (*NEARLY, verify)]
    texts = [text for pair in sides for text in (pair.one, pair.other)]
    ends = np.cumsum([len(text) for text in texts])
    texts += [_of_one_template(words, 20, 0.6) for _ in range(max(1, each // 20))]
    whole = pa.concat_arrays(texts)
    sets = sets_of(whole)
    alike = sum(len(pair.one) for pair in sides if pair.similarity >= verify)
    result: dict[str, Any] = {"verify": verify, "texts": len(whole), "pairs_as_alike": alike}
    every = {
        "before": deduplicate(whole),
        "signature": by_signature(whole, verify),
        "jaccard": deduplicate(whole, verify=verify),
    }
    for name, kept in every.items():
        removed = np.flatnonzero(kept != np.arange(len(whole)))
        true = jaccard(sets, removed, sets, kept[removed])
        right = int((true >= verify).sum())
        result[name] = {"removed": len(removed), "precision": round(right / max(len(removed), 1), 5), "right": right}
        result[name]["pairs"] = [
            {
                "jaccard": pair.similarity,
                "shingles": int(sets.sizes[end - 1] * 2 / (1 + pair.similarity)),
                "removed": round(float((kept[end - len(pair.one) : end] < end - len(pair.one)).mean()), 4),
            }
            for pair, end in zip(sides, ends[1::2].tolist(), strict=True)
        ]
    return result


def by_signature(texts: pa.Array, least: float) -> Any:
    """As `deduplicate`, verified as with `verify: signature`."""
    keys, sketches = [], []
    for part in normalised_batches(texts):
        made = signature_matrix(part, 112, 5, 1)
        keys.append(band_keys(made, 14, 8))
        sketches.append(sketch(made))
    return linked(Pages(np.concatenate(keys), np.concatenate(sketches)), least)


def _of_one_template(words: Words, count: int, similarity: float) -> pa.Array:
    """Pages of 200 shingles, any two of which share their first ones."""
    common = round(2 * 200 * similarity / (1 + similarity))
    numbers = np.concatenate(
        [np.tile(words.numbers(1, common + 4), (count, 1)), words.numbers(count, 200 - common)], axis=1
    )
    return words.texts(numbers)


# --- speed --------------------------------------------------------------------------------------------------------------


def least(function: Callable[[], Any], passes: int = PASSES) -> float:
    """CPU seconds of the fastest of several calls, after one that compiles."""
    function()
    seconds = []
    for _ in range(passes):
        began = time.process_time()
        function()
        seconds.append(time.process_time() - began)
    return min(seconds)


def prose(words: Words, documents: int, length: int) -> pa.Array:
    """Texts to time: words of 1 to 12 letters by Zipf's law, capitals, full stops, numbers and accents among them."""
    draw = words.draw
    vocabulary = ["".join(chr(97 + n) for n in draw.integers(0, 26, size)) for size in draw.integers(1, 13, 30_000)]
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    chosen = draw.choice(len(vocabulary), size=(documents, length), p=weights / weights.sum())
    texts = []
    for row in chosen.tolist():
        text = [vocabulary[n] for n in row]
        text[::12] = [word.capitalize() for word in text[::12]]
        text[11::12] = [word + "." for word in text[11::12]]
        text[5::40] = ["2,024"] * len(text[5::40])
        text[7::50] = [word + "é" for word in text[7::50]]
        texts.append(" ".join(text))
    return pa.array(texts)


def pages(folder: Path, most: int) -> pa.Array:
    """The column `text` of the Parquet files in a folder, such as the documents of a run."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise SystemExit(f"no Parquet files in {folder}")
    texts = pa.concat_tables([pq.read_table(file, columns=["text"]) for file in files]).column("text").combine_chunks()
    return texts.take(pa.array(np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(np.int64)))


def speed(texts: pa.Array, peer_python: Path) -> dict[str, Any]:
    """Milliseconds a document: ours by part; the peers' from the same normalised texts, by part; how many times faster."""
    documents = len(texts)
    parts = list(normalised_batches(texts))
    hashes = [shingle_hashes(part, 5) for part in parts]
    count = MinHashConfig().permutations

    def each(part: Callable[[], Any]) -> float:
        return round(1000 * least(part) / documents, 5)

    def whole(bits: Any = 32, number: int = count) -> list[Any]:
        return [signature_matrix(part, number, 5, 1, "words", bits) for part in parts]

    ours = {
        "normalise": each(lambda: list(normalised_batches(texts))),
        "shingles": each(lambda: [shingle_hashes(part, 5) for part in parts]),
        "permutations": each(lambda: [sign_hashes(*found, count, 1) for found in hashes]),
        "text_to_signature": each(whole),
        "text_to_signature_64_bits": each(lambda: whole(64)),
    }
    ours |= {f"text_to_signature_{name}": each(lambda n=b * r: whole(32, n)) for name, (b, r) in PRESETS.items()}  # type: ignore[misc]
    found: dict[str, Any] = {
        "documents": documents,
        "mean_bytes": round(texts.nbytes / documents),
        "mean_shingles": round(sum(len(own) for own, _ in hashes) / documents),
        "curate_ms": ours,
        "peers": peers(peer_python, parts, count),
    }
    for peer in found["peers"].values():
        for way in ("signature", "batch"):
            if way in peer.get("ms", {}):
                peer[f"{way}_times_curate"] = _ratios(peer["ms"]["shingles"], peer["ms"][way], ours)
    return found


def _ratios(cutting: float, signing: float, ours: dict[str, float]) -> dict[str, float]:
    ratios = {
        "text_to_signature": (cutting + signing) / ours["text_to_signature"],
        "with_normalisation": (cutting + signing) / (ours["text_to_signature"] + ours["normalise"]),
        "ready_shingles": signing / ours["text_to_signature"],
    }
    return {name: round(ratio, 2) for name, ratio in ratios.items()}


def peers(python: Path, parts: Sequence[Normalised], permutations: int) -> dict[str, Any]:
    """What `dedup_peer.py` says of the normalised texts, in that interpreter."""
    texts = [part[index].decode() for part in parts for index in range(len(part))]
    given = json.dumps({"texts": texts, "permutations": permutations, "ngram": 5, "passes": PASSES})
    script = Path(__file__).parent / "dedup_peer.py"
    done = subprocess.run([python, script], input=given, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


# --- the whole ----------------------------------------------------------------------------------------------------------


def run(given: argparse.Namespace) -> dict[str, Any]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    words = Words(given.seed)
    wanted = given.only or ["speed", "recall", "precision"]
    result: dict[str, Any] = json.loads(given.out.read_text("utf-8")) if given.out.exists() else {}
    result |= about()
    if "speed" in wanted:
        result["speed"] = {"made": speed(prose(words, given.documents, 1000), given.peer_python)}
        if given.texts:
            result["speed"]["pages"] = speed(pages(given.texts, given.documents), given.peer_python)
    if "recall" in wanted:
        result["recall"] = {
            f"{preset} {size}": {
                "bands": PRESETS[preset][0],
                "rows": PRESETS[preset][1],
                "shingles": SHINGLES[size],
                "steps": recall(words, given.pairs, *PRESETS[preset], size),
            }
            for preset, size in SETTINGS
        }
    if "precision" in wanted:
        result["precision"] = precision(words, given.pairs, 0.75)
    return result


def show(console: Console, result: dict[str, Any]) -> None:
    """The same as tables on the terminal."""
    for name, found in result.get("speed", {}).items():
        _show_speed(console, name, found)
    for name, found in result.get("recall", {}).items():
        table = Table("jaccard", "pairs", "recall", "curve", "difference", title=f"recall, {name}")
        for step in found["steps"]:
            inside = abs(step["difference"]) <= WITHIN
            table.add_row(
                f"{step['jaccard']:.3f}", f"{step['pairs']:,}", f"{step['recall']:.4f}", f"{step['curve']:.4f}",
                f"{100 * step['difference']:+.2f} points{'' if inside else '  OUTSIDE'}",
            )  # fmt: skip
        console.print(table)
    if "precision" in result:
        found = result["precision"]
        table = Table(
            "verify", "removed", "precision", title=f"verification at {found['verify']}, {found['texts']:,} texts"
        )
        for name, shown in (("before", "null"), ("signature", "signature"), ("jaccard", "jaccard")):
            table.add_row(shown, f"{found[name]['removed']:,}", f"{found[name]['precision']:.4f}")
        console.print(table)
        table = Table("jaccard", "shingles", "null", "signature", "jaccard", title="removed, % of pairs")
        for rows in zip(*(found[name]["pairs"] for name in ("before", "signature", "jaccard")), strict=True):
            table.add_row(
                f"{rows[0]['jaccard']:.2f}",
                f"{rows[0]['shingles']:,}",
                *(f"{100 * row['removed']:.1f}" for row in rows),
            )
        console.print(table)


def _show_speed(console: Console, name: str, found: dict[str, Any]) -> None:
    ours = found["curate_ms"]
    table = Table(
        "ms a document", "shingles", "signature", "both", "times ours", "ours normalising too", "theirs from ready shingles",
        title=f"normalised text to signature, 14 x 8; {name}: {found['documents']} of {found['mean_shingles']} shingles",
    )  # fmt: skip
    table.add_row(
        "curate", f"{ours['shingles']:.4f}", f"{ours['permutations']:.4f}", f"{ours['text_to_signature']:.4f}", "1"
    )
    for library, peer in found["peers"].items():
        if "ms" not in peer:
            table.add_row(library, "", "", peer["missing"], "")
        for way in ("signature", "batch"):
            if f"{way}_times_curate" in peer:
                ms = peer["ms"]
                times = [f"{ratio:.2f}" for ratio in peer[f"{way}_times_curate"].values()]
                label = f"{library} {peer['version']}{', all at once' if way == 'batch' else ''}"
                table.add_row(
                    label, f"{ms['shingles']:.4f}", f"{ms[way]:.4f}", f"{ms['shingles'] + ms[way]:.4f}", *times
                )
    console.print(table)
    console.print(f"curate normalises in {ours['normalise']:.4f} ms, which is in the second ratio alone.")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, default=Path(sys.executable), help="one that has rensa, datasketch")
    parser.add_argument("--pairs", type=int, default=10_000, help="planted at each step of similarity")
    parser.add_argument("--documents", type=int, default=500, help="to time")
    parser.add_argument(
        "--texts", type=Path, help="a folder of Parquet files with real texts, to time beside those made"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=("speed", "recall", "precision"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    result = run(given)
    show(Console(width=None if sys.stdout.isatty() else 140), result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
