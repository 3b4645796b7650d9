"""The two passes of the shuffle against the mix written plainly: every document in memory, one sort, one loop."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mix_documents import SMALL, documents, write_shards

from curate.mixtures import scatter, stage
from curate.mixtures.config import MixConfig
from curate.mixtures.hashing import HELD_ORDER, JITTER, SHUFFLE, SPACE, remix
from curate.mixtures.stage import STAGE
from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenWriter
from support import rows, run_stage


def mixed(key: int, purpose: int) -> int:
    return int(remix(np.array([key % SPACE], np.uint64), purpose)[0])


def places(key: int, times: int) -> list[int]:
    """Where the copies of a document stand on the circle of all keys: (u + j + v) / times of the way around."""
    start, step = mixed(key, SHUFFLE), SPACE // times
    jitter = [mixed(start + copy, JITTER) // (2 * times) if times > 1 else 0 for copy in range(times)]
    return sorted((start // times + copy * step + jitter[copy]) % SPACE for copy in range(times))


def pool(place: Workspace, dtype: str) -> list[dict[str, Any]]:
    """Every document with its bucket and ids."""
    found = []
    for name in place.list("mix/steps/tokenize", ".parquet"):
        with place.open(name.replace(".parquet", ".bin")) as stream:
            ids = np.frombuffer(stream.read(), dtype)
        buckets = rows(place, name.replace("tokenize", "buckets"))
        for row, named in zip(rows(place, name), buckets, strict=True):
            found.append(row | named | {"ids": ids[row["start"] : row["start"] + row["tokens"]]})
    return found


def order(place: Workspace, docs: list[dict[str, Any]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The copies of the training part in order, the cut one last."""
    manifest = {(row["id"], row["snapshot"]): row for row in rows(place, "mix/manifest.parquet")}
    cut = facts.get("cut_document", {"id": None, "snapshot": None})
    copies = []
    for doc in docs:
        row = manifest.get((doc["id"], doc["snapshot"]), {"split": ""})
        if row["split"] == "train" and (doc["id"], doc["snapshot"]) != (cut["id"], cut["snapshot"]):
            copies += [(spot, number, doc) for number, spot in enumerate(places(doc["key"], row["repeats"]))]
        elif row["split"] == "train":
            last, times = doc, row["repeats"]
            copies += [(number * (SPACE // times), number, doc) for number in range(times - 1)]
    found = [doc | {"repeat": number} for _, number, doc in sorted(copies, key=lambda copy: copy[0])]
    if cut["id"] is not None:
        ids = last["ids"][: cut["tokens"]]
        with place.open("mix/tokenizer.json") as stream:
            size = DocumentTokenizer(stream.read()).text_bytes(ids)
        found.append(last | {"repeat": times - 1, "ids": ids, "bytes": size})
    return found


def held(place: Workspace, docs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {
        (row["id"], row["snapshot"]) for row in rows(place, "mix/manifest.parquet") if row["split"] == "validation"
    }
    own = [doc | {"repeat": 0} for doc in docs if (doc["id"], doc["snapshot"]) in names]
    return sorted(own, key=lambda doc: mixed(doc["key"], HELD_ORDER))


def written(copies: list[dict[str, Any]], shard_tokens: int, dtype: str) -> list[tuple[bytes, bytes]]:
    """The two files of each shard: one ends with the document that fills it."""
    files: list[list[dict[str, Any]]] = []
    done = 0
    for copy in copies:
        if not files or done // shard_tokens > (done - len(files[-1][-1]["ids"])) // shard_tokens:
            files.append([])
        files[-1].append(copy)
        done += len(copy["ids"])
    found = []
    for own in files:
        ids, index = io.BytesIO(), io.BytesIO()
        writer = TokenWriter(ids, index, dtype)
        for copy in own:
            names = ("id", "snapshot", "bytes", "bucket", "repeat", "language")
            writer.add(copy["ids"], **{name: copy[name] for name in names})
        writer.close()
        found.append((ids.getvalue(), index.getvalue()))
    return found


@pytest.mark.parametrize(
    ("config", "small"),
    [
        ({"budget": "50k", "max_repeats": 5, "weights": {"science": 0.7, "unknown": 0.3}}, False),
        ({"budget": "50k", "max_repeats": 5, "weights": {"science": 0.7, "unknown": 0.3}}, True),
        ({"budget": 33_333, "layout": "by-bucket"}, True),
        ({"budget": None}, False),
    ],
)
def test_the_files_are_those_of_a_plain_shuffle_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], small: bool
) -> None:
    if small:
        monkeypatch.setattr(stage, "GROUP_BYTES", 20_000)
        monkeypatch.setattr(scatter, "BLOCK_BYTES", 7_000)
        monkeypatch.setattr(scatter, "PIECE_BYTES", 2_000)
    place = Workspace(tmp_path)
    shards = write_shards(place, documents(70), 4)
    run_stage(STAGE, MixConfig.model_validate(SMALL | config), shards, place, 7)
    facts = place.read_json("mix/tokens.json")
    docs = pool(place, facts["dtype"])
    copies = order(place, docs, facts)
    parts = defaultdict(list)
    for copy in copies:
        parts[copy["bucket"] if config.get("layout") == "by-bucket" else ""].append(copy)
    expected = [file for name in sorted(parts) for file in written(parts[name], SMALL["shard_tokens"], facts["dtype"])]
    for folder, files in (
        ("tokens", expected),
        ("validation", written(held(place, docs), SMALL["shard_tokens"], facts["dtype"])),
    ):
        names = place.list(f"mix/{folder}", ".bin")
        found = [
            tuple(
                Path(place.path(name.removesuffix(".bin") + suffix)).read_bytes() for suffix in (".bin", ".idx.parquet")
            )
            for name in names
        ]
        assert found == files


def test_in_an_object_store_the_files_are_the_same(tmp_path: Path) -> None:
    made = []
    for place in (Workspace(tmp_path), Workspace(f"memory://{tmp_path.name}")):
        config = MixConfig.model_validate(SMALL | {"budget": "20k"})
        run_stage(STAGE, config, write_shards(place, documents(40), 3), place, 7)
        names = [name for name in place.list("mix") if "/steps/" not in name]
        made.append({name: read(place, name) for name in names})
    assert made[0] == made[1]


def read(place: Workspace, name: str) -> bytes:
    with place.open(name) as stream:
        return stream.read()
