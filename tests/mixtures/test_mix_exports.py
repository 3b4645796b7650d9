from __future__ import annotations

import datetime
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from megatron_reader import read_megatron

from curate.mixtures import rows as row_format
from curate.mixtures import stage, texts
from curate.mixtures.config import MixConfig
from curate.mixtures.rows import TEXT, JsonLines
from curate.mixtures.stage import STAGE
from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.documents import DOCUMENT, TableWriter
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import StageResult, open_runner
from curate.pipeline.stage import File, Shard
from curate.pipeline.status import leftovers
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenSet
from support import Dying, Inline, KilledError, Noting, rows, run_stage

SCORED = DOCUMENT.append(pa.field("quality", pa.float32())).append(pa.field("topic", pa.string()))
HOSTILE = [
    "\0\x1b[31m",
    "a\u2028b\u2029c\x85d\r\n",
    "\U0010ffff\ufffe\ufeff",
    "�",
    '"\\"</script>{',
    "---\na: [b",
    "e\u0301 ‮x",
    "\ufffd",
]
SMALL: dict[str, Any] = {"tokenizer": {"vocab_size": 300}, "validation": 0.1, "shard_tokens": 2_000}
ALL = ["megatron", "jsonl", "parquet", "datasets"]


def documents(count: int = 60) -> list[dict[str, Any]]:
    """Documents of 1 to 100 hostile words; a fifth of them in a second snapshot too, under the same id."""
    random = np.random.default_rng(1)
    made: list[dict[str, Any]] = []
    for number in range(count):
        words = random.choice([*HOSTILE, "alpha", "beta", "東京", "naïve"], int(random.integers(1, 100)))
        made.append(
            {
                "id": f"doc-{number:03d}",
                "snapshot": "CC-1",
                "url": f"https://example.org/{number}" if number % 4 else None,
                "date": datetime.datetime(2024, 1, 1, 0, 0, number % 60, 7000, datetime.UTC) if number % 3 else None,
                "text": " ".join(words),
                "language": "en" if number % 2 else None,
                "language_score": 0.1,
                "topic": ("science", "sport", None)[number % 3],
                "quality": (0.3, float("nan"), None)[number % 3],
            }
        )
        if number % 5 == 0:
            made.append(made[-1] | {"snapshot": "CC-2"})
    return made


def put(
    place: Workspace, docs: Sequence[dict[str, Any]], count: int, schemas: Sequence[pa.Schema] = (SCORED,)
) -> list[Shard]:
    parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, row in enumerate(docs):
        parts[f"{row['snapshot']}/part-{number % count}"].append(row)
    found = []
    for number, (key, own) in enumerate(sorted(parts.items())):
        name = f"classify/docs/{key}.parquet"
        with place.create(name) as output, TableWriter(output, schemas[number % len(schemas)]) as table:
            table.write_rows(own)
        found.append(Shard(key, File(name, output.sha256, output.size), len(own)))
    return found


@pytest.fixture
def mix(tmp_path: Path) -> Callable[..., Workspace]:
    numbers = iter(range(100))

    def run(docs: Sequence[dict[str, Any]] | None = None, shards: int = 2, **config: Any) -> Workspace:
        place = Workspace(tmp_path / f"w{next(numbers)}")
        made = put(place, documents() if docs is None else docs, shards)
        run_stage(STAGE, MixConfig.model_validate({**SMALL, **config}), made, place, 7)
        return place

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A mix with repeats and a cut copy, in every format."""
    place = Workspace(tmp_path_factory.mktemp("whole"))
    config = {"budget": 20_001, "weights": {"science": 3, "unknown": 2}, "export": ALL, "shard_tokens": 5_000}
    run_stage(STAGE, MixConfig.model_validate(SMALL | config), put(place, documents(), 3), place, 7)
    return place


def exports(place: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = place.read_json("mix/exports.json")
    return found


def lines(place: Workspace, name: str) -> list[dict[str, Any]]:
    with place.open(name) as stream:
        data = zstandard.ZstdDecompressor().stream_reader(stream).read()
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def copies(place: Workspace, kind: str, part: str) -> list[dict[str, Any]]:
    """The rows of all files of a part, in the order of the list."""
    read = lines if kind == "jsonl" else rows
    return [row for file in exports(place)["formats"][kind][part]["files"] for row in read(place, file["path"])]


def packed(place: Workspace, part: str) -> list[dict[str, Any]]:
    """The rows of the token index of a part."""
    return [row for shard in TokenSet(place, part).shards for row in rows(place, f"mix/{shard.name}.idx.parquet")]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_texts_are_those_of_the_documents_in_the_order_of_the_mix_with_repeats(whole: Workspace, kind: str) -> None:
    assert_in_order(whole, kind)
    assert max(row["repeat"] for row in copies(whole, kind, "train")) >= 2
    assert sum(row["tokens"] for row in copies(whole, kind, "train")) == 20_001


def test_packed_by_bucket_texts_lie_as_the_tokens_do(mix: Callable[..., Workspace]) -> None:
    place = mix(budget=9_000, export=["jsonl"], layout="by-bucket")
    assert_in_order(place, "jsonl")
    for file in exports(place)["formats"]["jsonl"]["train"]["files"]:
        assert {row["bucket"] for row in lines(place, file["path"])} == {file["bucket"]}


def assert_in_order(place: Workspace, kind: str) -> None:
    docs = {(row["id"], row["snapshot"]): row for row in documents()}
    same, own = ("id", "snapshot", "bucket", "repeat", "tokens"), ("url", "language", "topic")
    for part, folder in (("train", "tokens"), ("validation", "validation")):
        found, index = copies(place, kind, part), packed(place, folder)
        assert found
        assert [[row[name] for name in same] for row in found] == [[row[name] for name in same] for row in index]
        for row in found:
            doc = docs[row["id"], row["snapshot"]]
            assert [row[name] for name in own] == [doc[name] for name in own]
            assert row["text"] == doc["text"] or row["cut"]


def test_only_the_last_copy_is_cut_and_its_text_is_that_of_its_tokens(whole: Workspace) -> None:
    *others, last = copies(whole, "parquet", "train")
    cut = whole.read_json("mix/tokens.json")["cut_document"]
    assert not any(row["cut"] for row in [*others, *copies(whole, "parquet", "validation")])
    assert (last["tokens"], last["cut"]) == (cut["tokens"], cut["whole"] - cut["tokens"])
    with whole.open("mix/tokenizer.json") as stream:
        encoder = DocumentTokenizer(stream.read())
    assert last["text"] == encoder.decode(TokenSet(whole).window(20_001 - cut["tokens"], cut["tokens"]))
    text = {(row["id"], row["snapshot"]): row["text"] for row in documents()}[last["id"], last["snapshot"]]
    assert text.startswith(last["text"].removesuffix("\ufffd")) and text != last["text"]


def test_json_lines_hold_times_and_numbers_as_json_has_them(whole: Workspace) -> None:
    docs = {(row["id"], row["snapshot"]): row for row in documents()}
    for row in copies(whole, "jsonl", "train"):
        doc = docs[row["id"], row["snapshot"]]
        assert row["date"] == (doc["date"] and f"2024-01-01T00:00:{doc['date'].second:02d}.007Z")
        assert row["quality"] in (None, 0.3) and row["language_score"] == 0.1


def test_parquet_holds_the_columns_that_documents_have_also_where_a_group_of_shards_lacks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "GROUP_BYTES", 1)
    place = Workspace(tmp_path)
    shards = put(place, documents(), 2, (SCORED, DOCUMENT, DOCUMENT, DOCUMENT))
    config = MixConfig.model_validate(SMALL | {"by": ["language"], "export": ["parquet"]})
    run_stage(STAGE, config, shards, place, 7)
    for name in place.list("mix/exports/parquet"):
        with place.open(name) as stream:
            assert pq.read_schema(stream).names == [field for field in TEXT.names if field not in ("math", "edu")]
    found = copies(place, "parquet", "train")
    assert {row["topic"] for row in found} == {"science", "sport", None}
    plain = Workspace(tmp_path / "plain")
    run_stage(STAGE, config, put(plain, documents(), 2, (DOCUMENT,)), plain, 7)
    assert not {"topic", "quality", "math", "edu"} & set(copies(plain, "parquet", "train")[0])


@pytest.mark.parametrize("vocab", [300, 70_000])
def test_megatrons_reader_finds_the_documents_of_the_mix(
    whole: Workspace, mix: Callable[..., Workspace], tmp_path: Path, vocab: int
) -> None:
    data = json.loads(Path(whole.path("mix/tokenizer.json")).read_bytes())
    data["model"]["vocab"] |= {f"filler{number}": number for number in range(len(data["model"]["vocab"]), vocab)}
    (tmp_path / "own.json").write_text(json.dumps(data))
    size = 1_000_000 if vocab > 300 else 2_000
    config = {"tokenizer": {"path": str(tmp_path / "own.json")}, "shard_tokens": size}
    place = mix(budget=10_000, export=["megatron"], **config)
    for part, folder in (("train", "tokens"), ("validation", "validation")):
        tokens, first = TokenSet(place, folder), 0
        for file in exports(place)["formats"]["megatron"][part]["files"]:
            index, ids = (Path(place.path(f"{file['prefix']}.{suffix}")).read_bytes() for suffix in ("idx", "bin"))
            found, sequences, dtype = read_megatron(index, ids)
            assert dtype == (np.uint16 if vocab == 300 else np.int32)
            assert (len(sequences), sum(map(len, found))) == (file["documents"], file["tokens"])
            for own in found:
                assert np.array_equal(own, tokens.window(first, len(own)))
                first += len(own)
        assert first == tokens.tokens


def test_the_list_names_files_as_they_are_and_their_sums(whole: Workspace) -> None:
    place = whole
    data, listed = place.read_json("mix/tokens.json"), exports(place)
    assert listed["tokens"] == 20_001 and set(listed["formats"]) == set(ALL)
    for kind, parts in listed["formats"].items():
        for part, own in (("train", data), ("validation", data["validation"])):
            assert (parts[part]["documents"], parts[part]["tokens"]) == (own["documents"], own["tokens"])
            assert sum(file["tokens"] for file in parts[part]["files"]) == own["tokens"]
            for file in parts[part]["files"]:
                with place.open(f"{file['prefix']}.idx" if kind == "megatron" else file["path"]) as stream:
                    content = stream.read()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


def test_a_mix_without_validation_has_one_part(mix: Callable[..., Workspace]) -> None:
    place = mix(budget=3_000, validation=0, export=ALL)
    for parts in exports(place)["formats"].values():
        assert parts["validation"] == {"documents": 0, "tokens": 0, "files": []} and parts["train"]["files"]
    assert [split["name"] for split in card(place)["dataset_info"]["splits"]] == ["train"]
    assert not [name for name in place.list("mix") if "validation" in name and name.startswith("mix/exports")]


def card(place: Workspace) -> dict[str, Any]:
    folder = exports(place)["formats"]["datasets"]["folder"]
    with place.open(f"{folder}/README.md") as stream:
        _, header, words = stream.read().decode().split("---\n", 2)
    assert "# A mix of" in words
    found: dict[str, Any] = yaml.safe_load(header)
    return found


def test_the_card_says_what_the_parquet_files_hold(whole: Workspace) -> None:
    place = whole
    folder = Path(place.path("mix/exports/parquet"))
    found = card(place)
    (config,) = found["configs"]
    info = found["dataset_info"]
    for files, split in zip(config["data_files"], info["splits"], strict=True):
        tables = [pq.read_table(path) for path in sorted(folder.glob(files["path"]))]
        assert files["split"] == split["name"] and len(tables) > 0
        assert split["num_examples"] == sum(table.num_rows for table in tables)
        for table in tables:
            assert info["features"] == [
                {"name": field.name, "dtype": {"float": "float32"}.get(str(field.type), str(field.type))}
                for field in table.schema
            ]
    assert [split["name"] for split in info["splits"]] == ["train", "validation"]
    assert info["download_size"] == sum(path.stat().st_size for path in folder.glob("*/*.parquet"))


def test_hugging_face_datasets_loads_the_folder(whole: Workspace, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face datasets")
    found = datasets.load_dataset(whole.path("mix/exports/parquet"), cache_dir=str(tmp_path / "cache"))
    for part in ("train", "validation"):
        assert found[part]["text"][:] == [row["text"] for row in copies(whole, "datasets", part)]


def test_other_shards_or_smaller_portions_give_the_same_files(
    mix: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "budget": 15_000,
        "export": ALL,
        "max_repeats": 9,
        "tokenizer": {"vocab_size": 300, "sample_bytes": 9_000},
    }
    first = mix(shards=1, **config)
    monkeypatch.setattr(stage, "GROUP_BYTES", 1)
    monkeypatch.setattr(texts, "HELD_BYTES", 3_000)
    monkeypatch.setattr(texts, "BATCH_BYTES", 2_000)
    again = mix(list(reversed(documents())), shards=4, **config)
    groups = [name for name in again.list("mix/steps/scatter-texts") if name.endswith(".parquet")]
    assert len(groups) >= 4
    assert any(len(rows(again, name)) > len({row["file"] for row in rows(again, name)}) for name in groups)
    names = first.list("mix/exports")
    assert len(names) > 8
    for name in names:
        assert Path(first.path(name)).read_bytes() == Path(again.path(name)).read_bytes(), name


def test_what_another_mix_was_exported_to_is_taken_away_and_what_this_one_was_is_not(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = put(place, documents(), 2)

    def run(**config: Any) -> set[str]:
        run_stage(STAGE, MixConfig.model_validate({**SMALL, **config}), shards, place, 7)
        return {name.removeprefix("mix/") for name in place.list("mix") if "/exports/" in name or name.endswith(".idx")}

    large = run(budget=10_000, export=["megatron", "jsonl"])
    assert {"tokens/00000.idx", "validation/00000.idx", "exports/jsonl/train/00004.jsonl.zst"} <= large
    assert run(budget=10_000, export=["datasets"]) > large
    small = run(budget=3_000, export=["jsonl"])
    assert small and all(name.startswith("exports/jsonl/") for name in small) and small < large
    assert run(budget=2_000) == set()
    assert exports(place)["formats"] == {}


def run(place: Workspace, shards: list[Shard], config: dict[str, Any], engine: Any = Inline) -> StageResult:
    recipe = Recipe(RecipeHead(), {"mix": MixConfig.model_validate(config)})
    with open_runner(place, recipe, engine, open_display(as_json=True, stream=io.StringIO())) as runner:
        return runner.run(STAGE, shards)


def test_a_format_more_writes_that_format_and_nothing_else(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = put(place, documents(), 2)

    def steps(*export: str) -> set[str]:
        ran: list[str] = []
        result = run(place, shards, SMALL | {"budget": 5_000, "export": list(export)}, lambda: Noting(ran))
        assert not result.failed
        return set(ran)

    assert {"tokenize", "finish", "exports"} <= steps()
    assert steps("megatron") == {"megatron", "exports"}
    assert steps("megatron", "jsonl") == {"scatter-texts", "texts", "exports"}
    assert steps("megatron", "jsonl", "datasets") == {"texts", "card", "exports"}
    assert leftovers(place, ["mix"]) == []
    assert steps("megatron", "jsonl", "datasets") == set()
    assert steps("jsonl") == {"exports"}
    unlisted = [name for name in leftovers(place, ["mix"]) if not name.startswith("mix/steps/")]
    assert {name.rpartition(".")[2] for name in unlisted} == {"idx", "parquet", "md"}


def test_killed_within_every_step_it_completes_with_the_same_exports(tmp_path: Path) -> None:
    config = SMALL | {"budget": 5_000, "export": ALL}
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    assert not run(whole, put(whole, documents(), 2), config).failed
    shards, died = put(killed, documents(), 2), set[str]()
    while True:
        before = len(died)
        try:
            result = run(killed, shards, config, lambda: Dying(died))
        except KilledError:
            assert len(died) == before + 1
            continue
        break
    assert not result.failed and {"megatron", "scatter-texts", "texts", "card", "exports"} <= died
    names = [name for name in whole.list("mix") if "/done/" not in name and not name.endswith("manifest.json")]
    assert names == [name for name in killed.list("mix") if "/done/" not in name and not name.endswith("manifest.json")]
    for name in names:
        assert Path(whole.path(name)).read_bytes() == Path(killed.path(name)).read_bytes(), name


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"cannot write 'parket'; did you mean 'parquet'\?"):
        MixConfig.model_validate({"export": ["parket"]})
    with pytest.raises(ValueError, match="valid list"):
        MixConfig.model_validate({"export": 3})
    assert MixConfig.model_validate({"export": ["jsonl", "jsonl"]}).export == MixConfig(export=["jsonl"]).export


def test_json_lines_are_read_by_arrow_too() -> None:
    sink = io.BytesIO()
    table = pa.table({"text": HOSTILE, "tokens": pa.array(range(len(HOSTILE)), pa.int32())})
    with JsonLines(sink, table.schema) as out:
        for batch in table.to_batches():
            out.write(batch)
    import pyarrow.json

    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(sink.getvalue())).read()
    assert pyarrow.json.read_json(io.BytesIO(data)).column("text").to_pylist() == HOSTILE
    assert row_format.WANTED[0] == "id"
