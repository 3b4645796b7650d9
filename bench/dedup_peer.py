"""rensa's and datasketch's MinHash over normalised texts, in whatever interpreter has them: JSON in, JSON out.

    python bench/dedup_peer.py < request.json

`shingles`: from text to a list of word n-grams, in Python, as both ask for. `signature`: from these to the digest, by rensa's
standard path (`RMinHash.update`) and datasketch's fastest (`update_batch`), a document at a time; `batch`: rensa's for all
documents at once (`digest_matrix_from_token_sets`). CPU milliseconds a document, the least of several passes; a library that
is not there is said to be missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def shingles(text: str, ngram: int) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + ngram]) for at in range(max(1, len(words) - ngram + 1))]


def rensa(tokens: Sequence[Sequence[str]], permutations: int) -> Any:
    from rensa import RMinHash

    for document in tokens:
        made = RMinHash(num_perm=permutations, seed=1)
        made.update(document)
        made.digest()


def rensa_batch(tokens: Sequence[Sequence[str]], permutations: int) -> Any:
    from rensa import RMinHash

    RMinHash.digest_matrix_from_token_sets(tokens, permutations, 1)


def datasketch(tokens: Sequence[Sequence[bytes]], permutations: int) -> Any:
    from datasketch import MinHash

    for document in tokens:
        made = MinHash(num_perm=permutations, seed=1)
        made.update_batch(document)
        made.digest()


def main() -> None:
    given = json.load(sys.stdin)
    texts, ngram, permutations = given["texts"], given["ngram"], given["permutations"]
    tokens = [shingles(text, ngram) for text in texts]
    encoded = [[shingle.encode() for shingle in document] for document in tokens]

    def least(function: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(given["passes"]):
            began = time.process_time()
            function()
            seconds.append(time.process_time() - began)
        return 1000 * min(seconds) / len(texts)

    cutting = round(least(lambda: [shingles(text, ngram) for text in texts]), 5)
    ways = {"rensa": {"signature": rensa, "batch": rensa_batch}, "datasketch": {"signature": datasketch}}
    found: dict[str, Any] = {}
    for name, functions in ways.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = {"missing": "not installed here; see --peer-python"}
            continue
        asked: Sequence[Sequence[Any]] = encoded if name == "datasketch" else tokens
        ms = {"shingles": cutting}
        for way, function in functions.items():
            ms[way] = round(least(lambda function=function, asked=asked: function(asked, permutations)), 5)  # type: ignore[misc]
        found[name] = {"version": version, "ms": ms}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
