from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mix_documents import SMALL, documents, write_shards

from curate.mixtures.config import MixConfig, parse_budget
from curate.mixtures.explain import explain, explain_lines
from curate.mixtures.stage import STAGE
from curate.mixtures.tokenizer import DocumentTokenizer, train_tokenizer
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenSet, read_tokens_json
from support import rows, run_stage


@pytest.fixture
def mix(tmp_path: Path) -> Callable[..., Workspace]:
    numbers = iter(range(100))

    def run(
        config: dict[str, Any], docs: Sequence[dict[str, Any]] | None = None, shards: int = 2, seed: int = 7
    ) -> Workspace:
        workspace = Workspace(tmp_path / f"w{next(numbers)}")
        made = write_shards(workspace, documents(120) if docs is None else docs, shards)
        run_stage(STAGE, MixConfig.model_validate(SMALL | config), made, workspace, seed)
        return workspace

    return run


def tokens_json(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = workspace.read_json("mix/tokens.json")
    return found


def copies(workspace: Workspace, part: str) -> list[dict[str, Any]]:
    """Every row of the index of one part, with its token ids."""
    data = tokens_json(workspace)
    found = []
    for shard in (data if part == "tokens" else data["validation"])["shards"]:
        with workspace.open(f"mix/{shard['name']}.bin") as stream:
            content = stream.read()
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        ids = np.frombuffer(content, data["dtype"])
        own = rows(workspace, f"mix/{shard['name']}.idx.parquet")
        assert [row["start"] for row in own] == np.cumsum([0, *(row["tokens"] for row in own)])[:-1].tolist()
        assert len(ids) == sum(row["tokens"] for row in own) == shard["tokens"]
        found += [row | {"ids": ids[row["start"] : row["start"] + row["tokens"]]} for row in own]
    return found


def encoder(workspace: Workspace) -> DocumentTokenizer:
    with workspace.open("mix/tokenizer.json") as stream:
        return DocumentTokenizer(stream.read())


@pytest.mark.parametrize("budget", [1, 100, 1_000, "10k", "33k", 33_333])
def test_the_mix_has_exactly_the_budget_and_only_its_last_document_is_cut(
    mix: Callable[..., Workspace], budget: int | str
) -> None:
    workspace = mix({"budget": budget})
    wanted = parse_budget(budget)
    data = tokens_json(workspace)
    assert data["tokens"] == wanted == sum(shard["tokens"] for shard in data["shards"])
    found = copies(workspace, "tokens")
    eos = data["eos"]
    assert all((row["ids"] == eos).sum() == 1 and row["ids"][-1] == eos for row in found[:-1])
    texts = {(row["id"], row["snapshot"]): row["text"] for row in documents(120)}
    tokenizer = encoder(workspace)
    for row in found[:-1]:
        assert tokenizer.decode(row["ids"]) == texts[row["id"], row["snapshot"]]
        assert row["bytes"] == len(texts[row["id"], row["snapshot"]].encode())
    last = found[-1]
    cut = data.get("cut_document")
    if cut is None:
        assert last["ids"][-1] == eos
    else:
        assert (cut["id"], cut["snapshot"], cut["tokens"]) == (last["id"], last["snapshot"], len(last["ids"]))
        assert cut["whole"] > cut["tokens"]
        whole = texts[last["id"], last["snapshot"]].encode()
        assert last["bytes"] <= len(whole)
        assert whole.startswith(tokenizer.decode(last["ids"]).rstrip("�").encode())


@pytest.mark.parametrize("budget", [1, 100, "10k", 33_333, None])
def test_the_manifests_tokens_times_repeats_less_what_is_cut_add_up_to_the_budget(
    mix: Callable[..., Workspace], budget: int | str | None
) -> None:
    workspace = mix({"budget": budget, "max_repeats": 5})
    data = tokens_json(workspace)
    manifest = rows(workspace, "mix/manifest.parquet")
    train = [row for row in manifest if row["split"] == "train"]
    wanted = data["tokens"] if budget is None else parse_budget(budget)
    assert sum(row["tokens"] * row["repeats"] - row["cut"] for row in train) == wanted
    shortened = {(row["id"], row["snapshot"]): row["tokens"] - row["cut"] for row in manifest if row["cut"]}
    cut = data.get("cut_document")
    assert shortened == ({} if cut is None else {(cut["id"], cut["snapshot"]): cut["tokens"]})
    held = [row for row in manifest if row["split"] == "validation"]
    assert sum(row["tokens"] * row["repeats"] - row["cut"] for row in held) == data["validation"]["tokens"]


def test_explaining_where_there_is_no_mix_names_the_workspace_plainly(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        explain(Workspace(tmp_path))
    assert str(caught.value) == f"{tmp_path} has no mix/tokens.json: run `curate mix` first"


def test_the_trainer_reads_what_the_mix_wrote(mix: Callable[..., Workspace]) -> None:
    workspace = mix({"budget": "20k"})
    assert read_tokens_json(workspace).tokens == 20_000
    tokens = TokenSet(workspace)
    assert len(tokens.window(0, 20_000)) == 20_000
    assert len(tokens.shards) > 2
    assert TokenSet(workspace, "validation").tokens > 0


def test_the_whole_pool_is_the_budget_where_none_is_given(mix: Callable[..., Workspace]) -> None:
    workspace = mix({"budget": None})
    found = copies(workspace, "tokens")
    held = {row["id"] for row in copies(workspace, "validation")}
    assert Counter((row["id"], row["snapshot"]) for row in found) == Counter(
        {(row["id"], row["snapshot"]): 1 for row in documents(120) if row["id"] not in held}
    )
    assert "cut_document" not in tokens_json(workspace)
    assert all(
        bucket.repeats == 1 and bucket.share == pytest.approx(bucket.natural_share) for bucket in explain(workspace)
    )


def test_held_out_documents_are_never_in_training_in_any_snapshot(mix: Callable[..., Workspace]) -> None:
    workspace = mix({"budget": "40k", "validation": 0.2})
    held = {row["id"] for row in copies(workspace, "validation")}
    assert 8 <= len(held) <= 45
    assert held.isdisjoint({row["id"] for row in copies(workspace, "tokens")})
    assert tokens_json(workspace)["validation"]["documents"] == sum(row["id"] in held for row in documents(120))


def test_a_small_validation_share_holds_out_one_document_and_none_of_nothing_else(
    mix: Callable[..., Workspace],
) -> None:
    assert len({row["id"] for row in copies(mix({"validation": 0.00001}), "validation")}) == 1
    assert copies(mix({"validation": 0}), "validation") == []
    assert copies(mix({"validation": 0.5}, documents(2)[1:2]), "validation") == []


def test_only_so_much_of_the_held_out_text_is_written(mix: Callable[..., Workspace]) -> None:
    workspace = mix({"validation": 0.4, "validation_tokens": 1_000})
    assert 0 < tokens_json(workspace)["validation"]["tokens"] <= 1_000
    assert tokens_json(workspace)["tokens"] < tokens_json(mix({"validation": 0.01}))["tokens"] * 0.8


def test_buckets_get_the_weights_asked_for_and_the_manifest_names_every_document(mix: Callable[..., Workspace]) -> None:
    weights = {"science": 0.5, "unknown": 0.5}
    workspace = mix({"budget": "30k", "weights": weights, "max_repeats": 5})
    data = tokens_json(workspace)
    assert data["buckets"]["sport"]["tokens"] == 0
    assert data["buckets"]["science"]["share"] == pytest.approx(0.5, abs=0.02)
    counted: Counter[tuple[str, str]] = Counter()
    tokens: Counter[str] = Counter()
    for row in copies(workspace, "tokens"):
        assert row["repeat"] == counted[row["id"], row["snapshot"]]
        counted[row["id"], row["snapshot"]] += 1
        tokens[row["bucket"]] += row["tokens"]
    manifest = rows(workspace, "mix/manifest.parquet")
    assert {(row["id"], row["snapshot"]): row["repeats"] for row in manifest if row["split"] == "train"} == dict(
        counted
    )
    assert max(counted.values()) <= 5
    assert {name: bucket["tokens"] for name, bucket in data["buckets"].items() if bucket["tokens"]} == dict(tokens)
    topics = {row["id"]: row["topic"] or "unknown" for row in documents(120)}
    assert all(row["bucket"] == topics[row["id"]] for row in manifest)
    assert {row["split"] for row in manifest} == {"train", "validation"}


def test_other_shards_or_another_order_of_documents_give_the_same_tokens(mix: Callable[..., Workspace]) -> None:
    config = {"budget": "30k", "tokenizer": {"vocab_size": 400, "sample_bytes": 20_000}}
    first, again = mix(config, shards=1), mix(config, list(reversed(documents(120))), shards=5)
    for name in (
        "tokens.json",
        "tokenizer.json",
        "tokens/00000.bin",
        "tokens/00000.idx.parquet",
        "validation/00000.bin",
    ):
        assert Path(first.path(f"mix/{name}")).read_bytes() == Path(again.path(f"mix/{name}")).read_bytes(), name


@pytest.mark.parametrize("budget", [1, "10k", 33_333, None])
def test_packed_by_bucket_every_file_holds_one_bucket_and_the_mix_is_the_same(
    mix: Callable[..., Workspace], budget: int | str | None
) -> None:
    by_bucket, shuffled = mix({"budget": budget, "layout": "by-bucket"}), mix({"budget": budget})
    data = tokens_json(by_bucket)
    named: dict[str, list[str]] = defaultdict(list)
    for shard in data["shards"]:
        assert {row["bucket"] for row in rows(by_bucket, f"mix/{shard['name']}.idx.parquet")} == {shard["bucket"]}
        named[shard["bucket"]].append(shard["name"])
    assert all(names == sorted(names) for names in named.values())
    assert {name: values["tokens"] for name, values in data["buckets"].items() if values["tokens"]} == {
        bucket: end - begin for bucket, ((begin, end),) in TokenSet(by_bucket).buckets().items()
    }
    found, expected = (
        Counter((row["id"], row["snapshot"], row["repeat"], row["bytes"], row["ids"].tobytes()) for row in each)
        for each in (copies(by_bucket, "tokens"), copies(shuffled, "tokens"))
    )
    assert found == expected
    assert data["validation"] == tokens_json(shuffled)["validation"]


def test_packed_by_bucket_the_mix_does_not_depend_on_the_shards_it_was_made_from(
    mix: Callable[..., Workspace],
) -> None:
    config = {"budget": "30k", "tokenizer": {"vocab_size": 400, "sample_bytes": 20_000}, "layout": "by-bucket"}
    first, again = mix(config, shards=1), mix(config, list(reversed(documents(120))), shards=5)
    assert tokens_json(first) == tokens_json(again)
    assert len({shard["bucket"] for shard in tokens_json(first)["shards"]}) == 3


def test_another_seed_gives_another_mix(mix: Callable[..., Workspace]) -> None:
    first, other = mix({"budget": "30k"}, seed=1), mix({"budget": "30k"}, seed=2)
    assert tokens_json(first)["shards"][0]["sha256"] != tokens_json(other)["shards"][0]["sha256"]
    ids = [{row["id"] for row in copies(each, "validation")} for each in (first, other)]
    assert ids[0] != ids[1]


def test_every_document_of_the_pool_is_kept_or_dropped_with_a_reason(tmp_path: Path) -> None:
    from curate.pipeline.ledger import Counts
    from curate.pipeline.stage import Context, Planning, load

    workspace = Workspace(tmp_path)
    docs = documents(60)
    docs[5]["text"] = ""
    docs[7]["text"] = None
    made = write_shards(workspace, docs, 2)
    config = MixConfig.model_validate(SMALL | {"budget": 3_000})
    before: dict[str, Any] = {}
    found: dict[str, Counts] = {}
    from curate.pipeline.stage import Done

    for step in STAGE.steps:
        done = []
        for task in step.plan(Planning("mix", step.name, config, 7, tuple(made), before)):
            context = Context(task, config, 7, workspace)
            found[step.name] = load(step.run)(context)
            assert found[step.name].balanced()
            done.append(Done(task.key, context.written, found[step.name].to_json(), task.params))
        before[step.name] = tuple(done)
    counts = found["allocate"]
    assert counts.records == len(docs)
    assert counts.dropped["empty"] == 2 and counts.dropped["validation"] > 0 and counts.dropped["not_selected"] > 0
    assert counts.kept == sum(row["split"] == "train" for row in rows(workspace, "mix/manifest.parquet"))


def test_several_columns_and_binned_numbers_make_buckets(mix: Callable[..., Workspace]) -> None:
    workspace = mix({"by": ["language", "quality"], "bins": {"quality": [0.3, 0.7]}})

    def band(quality: float | None) -> str:
        if quality is None:
            return "unknown"
        return "<0.3" if quality < 0.3 else "0.3-0.7" if quality < 0.7 else ">=0.7"

    expected = {f"{row['language']}/{band(row['quality'])}" for row in documents(120)}
    assert set(tokens_json(workspace)["buckets"]) == expected
    assert set(tokens_json(mix({"by": []}))["buckets"]) == {"all"}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"budget": "10M"}, "too small for a budget of 10,000,000"),
        ({"budget": "10k", "weights": {"sciense": 1}}, "did you mean 'science'"),
        ({"by": ["topics"]}, "did you mean 'topic'"),
        ({"by": ["quality"]}, r"mix\.bins\.quality"),
        ({"by": ["date"]}, "makes no buckets"),
        ({"by": ["topic"], "bins": {"topic": [0.5]}}, "holds no numbers"),
        ({"tokenizer": {"path": "no/such/file.json"}}, r"no/such/file\.json"),
        ({"weights": "no/such/weights.json"}, r"no/such/weights\.json"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(mix: Callable[..., Workspace], config: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        mix(config)
    assert "\n" not in str(caught.value)


def test_a_pool_without_documents_or_without_text_is_refused(mix: Callable[..., Workspace]) -> None:
    with pytest.raises(UsageError, match="no documents"):
        mix({}, [])
    with pytest.raises(UsageError, match="nothing to draw from"):
        mix({}, [row | {"text": ""} for row in documents(5)])


def test_a_given_tokenizer_is_copied_and_large_vocabularies_take_four_bytes(
    mix: Callable[..., Workspace], tmp_path: Path
) -> None:
    data = json.loads(train_tokenizer(iter([row["text"] for row in documents(20)]), 400))
    data["model"]["vocab"] |= {f"filler{number}": 400 + number for number in range(70_000)}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(data))
    workspace = mix({"budget": "10k", "tokenizer": {"path": str(path)}})
    assert Path(workspace.path("mix/tokenizer.json")).read_bytes() == path.read_bytes()
    result = tokens_json(workspace)
    assert (result["dtype"], result["vocab_size"]) == ("uint32", 70_400)
    assert result["tokenizer"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    texts = {(row["id"], row["snapshot"]): row["text"] for row in documents(120)}
    tokenizer = encoder(workspace)
    for row in copies(workspace, "tokens")[:-1]:
        assert tokenizer.decode(row["ids"]) == texts[row["id"], row["snapshot"]]
    small = tokens_json(mix({"budget": "10k"}))
    assert small["dtype"] == "uint16" and small["vocab_size"] <= 400


def test_the_explanation_adds_up_and_prints_no_control_characters(mix: Callable[..., Workspace]) -> None:
    docs = [row | {"topic": "evil\x1b[31m\nname"} if row["topic"] is None else row for row in documents(120)]
    workspace = mix({"budget": "60k", "max_repeats": 4}, docs)
    buckets = explain(workspace)
    assert sum(bucket.share for bucket in buckets) == pytest.approx(1)
    assert sum(bucket.tokens for bucket in buckets) == 60_000
    assert sum(bucket.natural_share for bucket in buckets) == pytest.approx(1)
    lines = explain_lines(workspace)
    assert len(lines) >= 4 and all(line.isprintable() for line in lines)


def test_both_parts_carry_each_document_s_language_empty_where_it_is_not_known(mix: Callable[..., Workspace]) -> None:
    docs = [row | {"language": None if row["id"].endswith("7") else row["language"]} for row in documents(120)]
    workspace = mix({"budget": "20k"}, docs)
    expected = {(row["id"], row["snapshot"]): row["language"] or "" for row in docs}
    assert tokens_json(workspace)["schema_version"] == 2
    for part in ("tokens", "validation"):
        found = copies(workspace, part)
        assert {row["language"] for row in found} >= {"de", "en"}
        assert [row["language"] for row in found] == [expected[row["id"], row["snapshot"]] for row in found]
