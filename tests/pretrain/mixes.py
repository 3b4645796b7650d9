"""Small mixes for the trainer's tests, written with the project's own writer and a real tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenWriter

EOS = "<|endoftext|>"
SENTENCE = "the sea and a ship that sailed from port under stars while rain fell on old stone walls"
WORDS = SENTENCE.split()


def texts(count: int, seed: int = 0, length: int = 40) -> list[str]:
    """Documents with a structure that a small model learns in a few steps: each walks the word list in order."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        start, size = int(random.integers(len(WORDS))), int(random.integers(length // 2, length))
        found.append(" ".join(WORDS[(start + step) % len(WORDS)] for step in range(size)) + ".")
    return found


def byte_tokenizer() -> Any:
    """One token a byte (256 of them), and one that ends a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: number for number, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    return tokenizer


def write_part(
    workspace: Workspace, name: str, documents: Sequence[tuple[Sequence[int], int, str]], shards: int, dtype: str
) -> dict[str, Any]:
    """Writes documents (ids, bytes, bucket; also a language) into so many shards; gives the part of `tokens.json`."""
    part: dict[str, Any] = {"tokens": 0, "bytes": 0, "documents": 0, "shards": []}
    for number in range(shards):
        shard = f"{name}/{number:05d}"
        chosen = range(number * len(documents) // shards, (number + 1) * len(documents) // shards)
        with (
            workspace.create(f"mix/{shard}.bin") as ids,
            workspace.create(f"mix/{shard}.idx.parquet") as index,
        ):
            writer = TokenWriter(ids, index, dtype)
            for place in chosen:
                tokens, size, bucket, *language = documents[place]
                more = {"language": language[0]} if language else {}
                writer.add(tokens, id=f"{name}-{place}", snapshot="S", bytes=size, bucket=bucket, **more)
            writer.close()
        part["shards"].append(writer.entry(shard, ids.sha256))
        for key in ("tokens", "bytes", "documents"):
            part[key] += getattr(writer, key)
    return part


def write_mix(
    workspace: Workspace,
    training: Sequence[tuple[Sequence[int], int, str]],
    validation: Sequence[tuple[Sequence[int], int, str]] = (),
    *,
    shards: int = 2,
    vocab_size: int = 257,
    eos: int = 256,
    tokenizer: str | None = None,
) -> None:
    """A whole mix of documents given as (ids, bytes, bucket)."""
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    data = (tokenizer if tokenizer is not None else byte_tokenizer().to_str()).encode()
    workspace.write_bytes("mix/tokenizer.json", data)
    facts = {
        "schema_version": 1,
        "dtype": dtype,
        "vocab_size": vocab_size,
        "eos": eos,
        "tokenizer": {"path": "mix/tokenizer.json", "sha256": hashlib.sha256(data).hexdigest()},
        **write_part(workspace, "tokens", training, shards, dtype),
        "validation": write_part(workspace, "validation", validation, 1, dtype),
    }
    workspace.write_bytes("mix/tokens.json", json.dumps(facts).encode())


def text_mix(workspace: Workspace, count: int = 60, held_out: int = 6, shards: int = 2) -> None:
    """A mix of `texts`, one token a byte."""
    tokenizer = byte_tokenizer()

    def encoded(documents: list[str]) -> list[tuple[list[int], int, str]]:
        return [
            ([*tokenizer.encode(text).ids, 256], len(text.encode()), ("sea", "land")[number % 2])
            for number, text in enumerate(documents)
        ]

    write_mix(workspace, encoded(texts(count)), encoded(texts(held_out, seed=1)), shards=shards)
