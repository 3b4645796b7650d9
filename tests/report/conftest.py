"""A synthetic workspace, written with the pipeline's own writers: what the report reads, without running the stages."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from curate.pipeline.documents import DOCUMENT, LEDGER, TableWriter
from curate.pipeline.ledger import Counts, FailedRule, ShardWriter
from curate.pipeline.workspace import Workspace

SIGNALS = pa.struct(
    [
        ("word_count", pa.int32()),
        ("mean_word_length", pa.float32()),
        ("duplicate_line_char_fraction", pa.float32()),
        ("stop_words", pa.int32()),
        ("lorem_ipsum", pa.int32()),
    ]
)
RULES = (
    ("word_count", "min", 50.0),
    ("mean_word_length", "max", 10.0),
    ("duplicate_line_char_fraction", "max", 0.2),
    ("stop_words", "min", 2.0),
    ("lorem_ipsum", "is", 0.0),
)
SNAPSHOTS = ("CC-MAIN-2024-10", "CC-MAIN-2025-30")
LANGUAGES = (
    ("en",) * 12 + ("de",) * 4 + ("fr",) * 3 + ("es",) * 3 + ("ru",) * 2 + ("zh", "ja", "ar", "pt", "pl", "cs", "fi")
)
TOPICS = (
    "science_math_and_technology",
    "health",
    "politics",
    "food_and_dining",
    "games",
    "sports_and_fitness",
    "literature",
)
TEXT = (
    "The harbour was quiet in the morning, and the boats lay side by side along the wall.\n\n"
    "Nobody had told the keeper that the bridge would open at nine; he found out from the fish market, as always. "
    "There were four of them in the boat, and each had brought a book and a piece of bread.\n"
)
FIELDS = {
    "filter": [("signals", SIGNALS)],
    "dedup": [("duplicates", pa.int32())],
    "classify": [
        pa.field("quality", pa.float32(), metadata={"classifier": "quality", "kind": "linear", "version": "1"}),
        pa.field("math", pa.float32(), metadata={"classifier": "math", "kind": "linear", "version": "1"}),
        pa.field("edu", pa.float32(), metadata={"classifier": "heuristic_lesson", "kind": "heuristic", "version": "1"}),
        pa.field("topic", pa.string(), metadata={"classifier": "topic", "kind": "linear", "version": "2"}),
    ],
}

BUCKETS = {"science_math_and_technology/19": 1.1, "food_and_dining/3": 1.6}

Page = dict[str, Any]


def page(snapshot: str, shard: int, row: int) -> Page:
    """One record with everything that any stage measures of it; the same for the same place."""
    draw = random.Random(f"{snapshot}/{shard}/{row}")
    words = int(math.exp(draw.gauss(5.9, 1.1)))
    unique = "".join(draw.choice("0123456789abcdef") for _ in range(12))
    return {
        "id": f"{draw.getrandbits(32):08x}-5c1e-4b7a-9d2f-{unique}",
        "url": f"https://{draw.choice(('news', 'blog', 'shop', 'wiki'))}.example.org/{draw.choice(TOPICS)}/{row}?page={shard}",
        "date": datetime(2024, 2, 20 + row % 9, tzinfo=UTC),
        "snapshot": snapshot,
        "source": f"{snapshot}/warc-{shard:05}.warc.gz",
        "offset": row * 4096,
        "title": f"The harbour in the morning, part {row}",
        "text": TEXT,
        "language": draw.choice(LANGUAGES),
        "language_score": 0.9,
        "signals": {
            "word_count": words,
            "mean_word_length": max(1.0, draw.gauss(5.2, 1.9)) if draw.random() < 0.97 else 40.0,
            "duplicate_line_char_fraction": min(draw.expovariate(14), 1.0),
            "stop_words": max(0, min(int(draw.gauss(6, 2.4)), 8)) if words > 20 else 1,
            "lorem_ipsum": int(draw.random() < 0.02),
        },
        "duplicates": 1 if draw.random() < 0.8 else int(draw.paretovariate(0.9)) + 1,
        "quality": draw.betavariate(4, 3),
        "math": draw.betavariate(0.6, 9),
        "edu": max(0.0, draw.gauss(1.6, 0.9)),
        "topic": TOPICS[min(int(draw.expovariate(0.5)), len(TOPICS) - 1)],
        "draw": draw.random(),
    }


def failed_rules(found: Page) -> list[FailedRule]:
    """The rules that a page fails, in the recipe's order."""
    failed = []
    for name, bound, threshold in RULES:
        value = found["signals"][name]
        if value < threshold if bound == "min" else value > threshold if bound == "max" else value != threshold:
            failed.append(FailedRule(name, float(value), bound, threshold))
    return failed


def extract(writer: ShardWriter, found: Page) -> bool:
    if found["draw"] < 0.05:
        writer.drop(found, "status_not_200", detail="404")
    elif found["draw"] < 0.15:
        writer.drop(found, "mime_not_html", detail="application/pdf")
    elif found["draw"] < 0.16:
        writer.quarantine(found, "bad_gzip", detail="invalid block type")
    else:
        return True
    return False


def filter_(writer: ShardWriter, found: Page) -> bool:
    failed = failed_rules(found)
    if failed:
        writer.drop(found, failed[0].rule, failed=failed)
    return not failed


def dedup(writer: ShardWriter, found: Page) -> bool:
    if found["draw"] > 0.9:
        writer.drop(found, "near_duplicate", kept_id="0000aaaa-5c1e-4b7a-9d2f-000000000000")
        return False
    return True


def classify(writer: ShardWriter, found: Page) -> bool:
    return True


STAGES: dict[str, Callable[[ShardWriter, Page], bool]] = {
    "extract": extract, "filter": filter_, "dedup": dedup, "classify": classify
}  # fmt: skip


class Synthetic:
    """Writes a workspace: `stages` of it, with `shards` input files of `rows` records a snapshot."""

    def __init__(self, url: str, *, stages: Sequence[str] = tuple(STAGES), shards: int = 2, rows: int = 150) -> None:
        self.workspace = Workspace(url)
        self.made: dict[str, dict[str, list[Page]]] = {}
        self.manifests: list[dict[str, dict[str, Any]]] = []
        pages = {
            f"{snapshot}/warc-{s:05}": [page(snapshot, s, row) for row in range(rows)]
            for snapshot in SNAPSHOTS
            for s in range(shards)
        }
        schema = DOCUMENT
        for stage in stages:
            for field in FIELDS.get(stage, ()):
                schema = schema.append(field if isinstance(field, pa.Field) else pa.field(*field))
            pages = self.run(stage, schema, pages)

    def run(self, stage: str, schema: pa.Schema, pages: dict[str, list[Page]]) -> dict[str, list[Page]]:
        """Writes one stage's documents, ledgers and manifest; gives what it kept."""
        kept: dict[str, list[Page]] = {}
        shards, total = [], Counts()
        for key, found in pages.items():
            docs, ledger = f"{stage}/docs/{key}.parquet", f"{stage}/ledger/{key}.parquet"
            with self.workspace.create(docs) as out, self.workspace.create(ledger) as book:
                with TableWriter(out, schema) as documents, TableWriter(book, LEDGER) as rows:
                    writer = ShardWriter(stage, documents, rows)
                    kept[key] = [item for item in found if STAGES[stage](writer, item)]
                    writer.keep(pa.RecordBatch.from_pylist(kept[key], schema=schema))
                files = {"docs": {"path": docs, "sha256": out.sha256, "bytes": out.size}}
                files["ledger"] = {"path": ledger, "sha256": book.sha256, "bytes": book.size}
            writer.counts.records = len(found)
            writer.counts.seconds.update({"read": 0.5, "work": 1.25, "total": 2.0})
            total += writer.counts
            read = {"docs": self.manifests[-1][key]["docs"]["sha256"]} if self.manifests else {}
            shards.append(
                {"key": key, "read": read, **files, "rows": len(kept[key]), "counts": writer.counts.to_json()}
            )
            if stage == "filter":
                shards[-1]["measures"] = self.measures(key, found)
        self.made[stage] = kept
        self.manifests.append({str(shard["key"]): shard for shard in shards})
        manifest = {
            "schema_version": 1,
            "stage": stage,
            "complete": True,
            "shards": shards,
            "failed": [],
            "counts": total.to_json(),
        }
        self.workspace.write_json(f"{stage}/manifest.json", manifest)
        return kept

    def measures(self, key: str, found: list[Page]) -> dict[str, Any]:
        schema = pa.schema(
            [("id", pa.string()), ("language", pa.string()), *((field.name, field.type) for field in SIGNALS)]
        )
        with self.workspace.create(f"filter/measures/{key}.parquet") as out, TableWriter(out, schema) as table:
            table.write_rows([{"id": item["id"], "language": item["language"], **item["signals"]} for item in found])
        return {"path": f"filter/measures/{key}.parquet", "sha256": out.sha256, "bytes": out.size}

    def manifest(self, stage: str) -> Any:
        return self.workspace.read_json(f"{stage}/manifest.json")

    def recipe(self, text: str = "name: fineweb\ndescription: The published FineWeb recipe.\nseed: 0\n") -> None:
        self.workspace.write_bytes("recipe.yaml", text.encode())

    def mix(self) -> None:
        """`mix/tokens.json` of 24 buckets."""
        sizes = {
            f"{topic}/{vigintile}": 4000 - 137 * i
            for i, (topic, vigintile) in enumerate((t, v) for t in TOPICS[:6] for v in (16, 17, 18, 19))
        }
        total = sum(sizes.values())
        buckets = {
            key: {
                "tokens": n,
                "share": n / total,
                "documents": n // 300,
                "pool_share": 1 / len(sizes),
                "most_repeats": 1 + n // 1500,
            }
            for key, n in sizes.items()
        }
        self.workspace.write_json(
            "mix/tokens.json",
            {
                "schema_version": 1, "dtype": "uint16", "vocab_size": 8192, "tokens": total,
                "bytes": total * 4, "documents": 190,
                "buckets": buckets, "budget": total, "max_repeats": 4.0,
                "validation": {"tokens": 5000, "bytes": 20000, "documents": 12},
            },
        )  # fmt: skip

    def swarm(self) -> None:
        """Two finished proxy runs."""
        for number, loss in enumerate((3.5, 3.25)):
            row = {"validation": {"loss": loss}, "seconds": {"training": 50.0, "validation": 10.0}}
            self.workspace.write_json(f"swarm/runs/{number}.json", row)

    def pretrain(self, steps: int = 900) -> None:
        """A log with a validation every 100 steps, and a result."""
        draw = random.Random(0)
        lines = []
        for step in range(1, steps + 1):
            entry: dict[str, Any] = {
                "step": step,
                "loss": 3.1 + 5.5 * math.exp(-step / 120) + draw.gauss(0, 0.08),
                "tokens": step * 1024, "lr": 3e-3 * min(step / 90, 1.0), "grad_norm": 1.0,
                "tokens_per_second": 9000, "data_wait": 0.002, "mfu": 0.412, "memory_allocated": 12_000_000_000,
            }  # fmt: skip
            lines.append(json.dumps(entry))
            if step % 100 == 0:
                scores = {"loss": 3.25 + 5.4 * math.exp(-step / 120), "bits_per_byte": 1.4}
                buckets = {name: {"loss": 3.0, "bits_per_byte": bits + 80 / step} for name, bits in BUCKETS.items()}
                lines.append(json.dumps({"step": step, "validation": scores | {"buckets": buckets}}))
                piqa = {"accuracy": 0.5 + step / 9000, "primary": "accuracy", "chance": 0.5, "questions": 1838}
                lines.append(json.dumps({"step": step, "tasks": {"piqa/rc_0shot": piqa}}))
        self.workspace.write_bytes("pretrain/log.jsonl", "\n".join(lines).encode() + b"\n")
        self.workspace.write_json(
            "pretrain/result.json",
            {
                "schema_version": 1, "config": {"size": "tiny", "objective": "causal"}, "steps": steps, "tokens": steps * 1024,
                "parameters": {"all": 3_210_240, "without_embeddings": 2_161_664}, "epochs": 3.0, "first_train_loss": 8.9,
                "train_loss": 3.1, "validation": {
                    "loss": 3.25, "bits_per_byte": 1.3877, "tokens": 5000, "bytes": 20000,
                    "buckets": {name: {"loss": 3.0, "bits_per_byte": bits, "tokens": 2500} for name, bits in BUCKETS.items()},
                    "languages": {"en": {"loss": 3.0, "bits_per_byte": 1.3, "tokens": 5000}},
                },
                "checkpoint": "pretrain/checkpoints/00000900",
                "sample": {"prompt": "The", "text": "The harbour was quiet, and the bridge opened at nine for the boats"},
            },
        )  # fmt: skip


@pytest.fixture
def synthetic(tmp_path: Any) -> Callable[..., Synthetic]:
    """Makes a synthetic workspace in a fresh folder: `synthetic(stages=…, shards=…, rows=…)`."""
    return lambda **options: Synthetic(str(tmp_path / "w"), **options)
