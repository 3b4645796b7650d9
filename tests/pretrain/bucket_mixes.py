"""Small mixes that are packed by bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mixes import byte_tokenizer, texts, write_mix

from curate.pipeline.workspace import Workspace

ALPHABETS = {"land": "abcd", "sea": "wxyz", "sky": "mnop"}


def bucket_mix(
    workspace: Workspace,
    buckets: Mapping[str, Sequence[Sequence[int]]],
    validation: Sequence[tuple[Sequence[int], int, str]] = (),
    *,
    shards: int = 1,
    eos: int = 256,
    vocab_size: int = 257,
) -> None:
    """Writes each bucket's documents (ids) into `shards` shards of its own; all buckets have equally many documents."""
    documents = [(ids, len(ids), name) for name, own in buckets.items() for ids in own]
    write_mix(workspace, documents, validation, shards=shards * len(buckets), eos=eos, vocab_size=vocab_size)
    facts = workspace.read_json("mix/tokens.json")
    names = [name for name in buckets for _ in range(shards)]
    for shard, name in zip(facts["shards"], names, strict=True):
        shard["bucket"] = name
    workspace.write_json("mix/tokens.json", facts)


def alphabet_mix(workspace: Workspace, count: int = 30, held_out: int = 4) -> None:
    """A bucket an alphabet: what one teaches helps little with another. One token a byte."""
    tokenizer = byte_tokenizer()

    def encoded(name: str, number: int, seed: int) -> list[list[int]]:
        letters = ALPHABETS[name]
        table = str.maketrans({letter: letters[place % 4] for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz")})
        return [[*tokenizer.encode(text.translate(table)).ids, 256] for text in texts(number, seed)]

    held = [(ids, len(ids) - 1, name) for name in ALPHABETS for ids in encoded(name, held_out, 1)]
    bucket_mix(workspace, {name: encoded(name, count, 0) for name in ALPHABETS}, held)
