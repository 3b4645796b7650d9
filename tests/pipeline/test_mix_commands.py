"""`curate mix` and the commands below it, as a user calls them: in the order of the work, each says what comes next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from curate.pipeline.cli import main
from curate.pipeline.documents import DOCUMENT, TableWriter
from curate.pipeline.ledger import Counts
from curate.pipeline.workspace import Workspace
from support import Inline

LETTERS = {"land": "abcd", "sea": "wxyz", "sky": "mnop"}
SETTINGS = ["--set", "mix.tokenizer.vocab_size=300", "--set", "mix.validation=0.1"]


def curate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def facts_of(result: Result, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    found: dict[str, Any] = next(event for event in events if event["event"] == "result")
    return found


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What classify leaves: documents of three topics and two qualities; tasks run in this process."""
    import curate.pipeline.commands_mix as commands
    import curate.pipeline.commands_mix_buckets as buckets

    for module in (commands, buckets):
        monkeypatch.setattr(module, "chosen_engine", lambda *given: Inline)
    place = Workspace(tmp_path / "W")
    random = np.random.default_rng(0)
    rows = [
        {"id": f"{topic}-{number}", "snapshot": "S", "topic": topic, "rank": number % 4, "text": text}
        for topic, letters in LETTERS.items()
        for number in range(40)
        for text in [" ".join("".join(random.choice(list(letters), 4)) for _ in range(40))]
    ]
    schema = DOCUMENT.append(pa.field("topic", pa.string())).append(pa.field("rank", pa.int32()))
    with place.create("classify/docs/S/0.parquet") as output, TableWriter(output, schema) as table:
        table.write_rows(rows)
    docs = {"path": "classify/docs/S/0.parquet", "sha256": output.sha256, "bytes": output.size}
    counts = Counts(records=len(rows), kept=len(rows)).to_json()
    shard = {"key": "S/0", "rows": len(rows), "counts": counts, "read": {}, "docs": docs}
    manifest = {"schema_version": 1, "stage": "classify", "finished": True, "complete": True, "shards": [shard]}
    place.write_json("classify/manifest.json", manifest | {"steps": [], "failed": [], "counts": counts})
    return tmp_path / "W"


def runs_file(folder: Path, count: int = 30) -> Path:
    """Runs whose losses follow from their weights: bits per byte of each domain fall with its own share, c + exp(a·p)."""
    random = np.random.default_rng(1)
    weights = random.dirichlet(np.ones(3), count)
    weights[:3] = 1 / 3
    names = list(LETTERS)
    losses = 1.0 + 0.5 * np.exp(-np.array([1.0, 2.0, 4.0]) * weights) + random.normal(0, 0.002, weights.shape)
    lines = [",".join(["run", "kind", "seed", *(f"weight/{n}" for n in names), *(f"bits_per_byte/{n}" for n in names)])]
    for number, (shares, row) in enumerate(zip(weights, losses, strict=True)):
        kind = "replicate" if number < 3 else "design"
        cells = [f"{kind}-{number}", kind, str(number), *(repr(float(value)) for value in (*shares, *row))]
        lines.append(",".join(cells))
    path = folder / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_help_lists_the_subcommands_in_the_order_of_the_work() -> None:
    output = curate("mix", "-h").stdout
    names = [line.split()[0] for line in output[output.index("Commands:") :].splitlines()[1:] if line.strip()]
    assert names == ["buckets", "upsample", "swarm", "tasks", "solve", "explain"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mix"], "Missing option '--workspace'"),
        (["mix", "bukcets"], "did you mean 'buckets'"),
        (["mix", "--budget", "1M", "explain", "-w", "W"], "--budget goes behind 'explain'"),
        (["mix", "explain"], "Missing option '--workspace'"),
        (["mix", "explain", "-w", "W"], "neither a mix nor a solution"),
        (["mix", "buckets", "-w", "W"], "run `curate run classify` first"),
        (["mix", "upsample"], "give a ratio"),
        (["mix", "upsample", "8"], "at most 7 times"),
        (["mix", "upsample", "-w", "W"], "run `curate mix buckets -w W` first"),
        (["mix", "solve"], "--runs FILE"),
        (["mix", "solve", "-w", "W"], "run `curate mix swarm -w W` first"),
        (["mix", "solve", "-w", "W", "--losses", "x.csv"], "--losses goes with --runs"),
        (["mix", "solve", "--runs", "x.csv", "--budget", "10GB"], "budget is in tokens"),
        (["mix", "solve", "--runs", "x.csv", "--floor", "a=2"], "give domain=share"),
        (["mix", "tasks", "-w", "W"], "run `curate mix swarm -w W` first"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_what_to_do(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = curate(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_buckets_are_counted_and_nothing_is_mixed(workspace: Path) -> None:
    result = curate("mix", "buckets", "-w", workspace, "--by", "topic", *SETTINGS)
    assert result.exit_code == 0, result.output
    table = json.loads((workspace / "mix/buckets.json").read_text())["buckets"]
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    for topic in LETTERS:
        assert int(lines[topic][2].replace(",", "")) == table[topic]["tokens"]
    assert int(lines["all"][2].replace(",", "")) == sum(row["tokens"] for row in table.values())
    assert "next: curate mix swarm" in result.stdout
    assert not (workspace / "mix/tokens.json").exists()


def test_the_workspace_may_stand_before_the_command(workspace: Path) -> None:
    assert curate("mix", "-w", workspace, "buckets", *SETTINGS).exit_code == 0


def test_weights_of_a_file_are_mixed_and_explained(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps({"land": 3, "sea": 1}))
    result = curate("mix", "-w", workspace, "--budget", "4k", "--weights", tmp_path / "w.json", *SETTINGS)
    assert result.exit_code == 0, result.output
    explained = curate("mix", "explain", "-w", workspace).stdout
    lines = {line.split()[0]: line.split() for line in explained.splitlines() if line}
    assert float(lines["land"][3].rstrip("%")) == pytest.approx(75, abs=2.5)  # documents are whole: one of 4,000 tokens
    assert lines["sky"][3] == "0.00%"
    assert "the last document is cut at the budget" in explained


def test_the_curve_is_that_of_the_paper(capfd: pytest.CaptureFixture[str]) -> None:
    found = facts_of(curate("mix", "upsample", "1", "--json"), capfd)
    rates = found["curves"]["1"]["rates"]
    paper = [0, 0.04, 0.11, 0.24, 0.44, 0.73, 1.12, 1.65, 2.34, 3.22, 4.35, 5.76]  # OLMo 3, appendix A.2.4
    assert np.allclose(rates[8:], paper, atol=0.006)
    assert rates[:8] == [0.0] * 8


def test_a_ratio_that_the_floor_does_not_allow_is_said() -> None:
    assert "cannot be had with a floor of 0.4" in curate("mix", "upsample", "5").stdout


def test_curves_of_a_workspace_follow_from_weights_and_tokens(
    workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    upsample = [
        "--set",
        "mix.by=[topic, rank]",
        "--set",
        "mix.upsample={by: rank, most: 3}",
        "--set",
        "mix.max_repeats=3",
    ]
    mixed = curate("mix", "-w", workspace, "--budget", "6k", *SETTINGS, *upsample)
    assert mixed.exit_code == 0, mixed.output
    table = json.loads((workspace / "mix/buckets.json").read_text())["buckets"]
    tokens = {t: sum(row["tokens"] for name, row in table.items() if name.startswith(t)) for t in LETTERS}
    (tmp_path / "w.json").write_text(json.dumps({"land": 1, "sea": 1}))
    given = ["--budget", "6k", "--weights", tmp_path / "w.json", "--json"]
    found = facts_of(curate("mix", "upsample", "-w", workspace, *given), capfd)
    assert {name: curve["ratio"] for name, curve in found["curves"].items()} == pytest.approx(
        {name: 3000 / tokens[name] for name in ("land", "sea")}
    )
    assert found["most"] == 3


def test_runs_from_elsewhere_are_solved_under_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text("domain,tokens\nland,10M\nsea,1M\nsky,200k\n")
    found = curate(
        "mix", "solve", "--runs", runs_file(tmp_path), "--available", tmp_path / "tokens.csv", "--budget", "8M", "--kind",
        "log-linear", "--bootstrap", 3, "--output", tmp_path / "solved", "--cap", "sea=0.3",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    facts = json.loads((tmp_path / "solved/solution.json").read_text())
    domains = facts["domains"]
    assert sum(row["solved"] for row in domains.values()) == pytest.approx(1)
    assert domains["sky"]["natural"] == pytest.approx(200_000 / 11_200_000)
    assert domains["sky"]["repeats"] == pytest.approx(4)  # of its few tokens as much as four repeats give
    assert domains["sky"]["binding"] == ["repeats"]
    assert domains["sea"]["solved"] == pytest.approx(0.3)
    assert domains["sea"]["binding"] == ["cap"]
    assert all(row["low"] <= row["solved"] + 1e-6 and row["solved"] <= row["high"] + 1e-6 for row in domains.values())
    assert facts["method"] == "exact"
    assert facts["residual"] < 1e-8
    assert facts["replicates"] == 3
    assert facts["held_out"]["spearman"] > 0.9
    verdicts = {name: row["verdict"] for name, row in facts["tasks"].items()}
    assert verdicts["bits_per_byte/sky"] == "better"
    assert "KKT residual" in found.stdout
    assert "at the cap of repeats" in found.stdout
    assert "log-linear Spearman" in found.stdout
    weights = json.loads((tmp_path / "solved/weights.json").read_text())
    assert weights == pytest.approx({name: row["solved"] for name, row in domains.items() if row["solved"]})


def test_without_tokens_nothing_is_scarce_and_that_is_said(tmp_path: Path) -> None:
    given = ["--kind", "ridge", "--bootstrap", 0, "--tasks", "sky", "--output", tmp_path]
    found = curate("mix", "solve", "--runs", runs_file(tmp_path), *given)
    assert found.exit_code == 0, found.output
    assert "tokens are not known: nothing is scarce" in found.stdout
    assert "the mean of the runs' mixtures stands for them" in found.stdout
    facts = json.loads((tmp_path / "solution.json").read_text())
    assert list(facts["tasks"]) == ["bits_per_byte/sky"]
    assert facts["domains"]["sky"]["solved"] > facts["domains"]["sky"]["natural"]
    assert all(row["repeats"] is None for row in facts["domains"].values())


def test_a_solution_is_explained_with_the_mix_and_without_it(workspace: Path, tmp_path: Path) -> None:
    solved = workspace / "swarm"
    given = ["--runs", runs_file(tmp_path), "--kind", "ridge", "--bootstrap", 0, "--budget", "4k", "--output", solved]
    assert curate("mix", "buckets", "-w", workspace, *SETTINGS).exit_code == 0
    found = curate("mix", "solve", "-w", workspace, *given)
    assert found.exit_code == 0, found.output
    counted = json.loads((workspace / "mix/buckets.json").read_text())["buckets"]
    facts = json.loads((solved / "solution.json").read_text())
    assert {name: row["available"] for name, row in facts["domains"].items()} == {
        name: row["tokens"] for name, row in counted.items()
    }
    before = curate("mix", "explain", "-w", workspace)
    assert "next: curate mix --workspace" in before.stdout
    mixed = curate("mix", "-w", workspace, "--budget", "4k", "--weights", solved / "weights.json", *SETTINGS)
    assert mixed.exit_code == 0, mixed.output
    after = curate("mix", "explain", "-w", workspace).stdout
    assert "bits_per_byte/sky" in after
    assert "not of the budget" not in after
    curate("mix", "-w", workspace, "--budget", "2k", "--set", "mix.weights=null", *SETTINGS)
    other = curate("mix", "explain", "-w", workspace).stdout
    assert "the mix is not of the solved weights" in other
    assert "solved for 4,000 tokens, the mix has 2,000" in other


def test_tasks_of_runs_from_elsewhere_are_studied(tmp_path: Path) -> None:
    found = curate("mix", "tasks", "--runs", runs_file(tmp_path))
    assert found.exit_code == 0, found.output
    assert "tasks carry signal" in found.stdout
