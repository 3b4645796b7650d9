"""A swarm over a small workspace: the design, the pool, the runs, the table; killed, frozen, on Ray, by the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from curate.mixtures.config import MixConfig
from curate.mixtures.domains import Counted, Size, counted
from curate.mixtures.runs import read_runs
from curate.mixtures.stage import STAGE
from curate.mixtures.swarm import RESULTS, Cluster, measured_tokens, pack_pool, plan_swarm, train_swarm
from curate.mixtures.swarm_config import SwarmConfig
from curate.mixtures.swarm_design import DESIGN, SwarmDesign, by_domain, decide, keep_design
from curate.pipeline.commands_mix_swarm import swarm as command
from curate.pipeline.documents import DOCUMENT, TableWriter
from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import open_runner, upstream_shards
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from support import Inline

LETTERS = {"land": "abcd", "sea": "wxyz", "sky": "mnop"}
DOCUMENTS = {"land": 60, "sea": 40, "sky": 20}
PROXY = {
    "size": "tiny", "layers": 1, "width": 16, "heads": 2, "ffn": 32, "sequence_length": 32, "batch_size": 4, "steps": 6,
    "lr": 0.01, "device": "cpu",
}  # fmt: skip
MIX = {"by": ["topic"], "tokenizer": {"vocab_size": 300}, "validation": 0.2}
SWARM = {"runs": 4, "replicates": 2, "max_repeats": None, "proxy": PROXY}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def write_documents(workspace: Workspace) -> None:
    """What classify leaves: two shards of documents, a topic of its own letters each, and the manifest."""
    random = np.random.default_rng(0)
    rows = [
        {"id": f"{topic}-{number}", "snapshot": "S", "topic": topic, "text": text}
        for topic, letters in LETTERS.items()
        for number in range(DOCUMENTS[topic])
        for text in [" ".join("".join(random.choice(list(letters), 4)) for _ in range(40))]
    ]
    schema, entries = DOCUMENT.append(pa.field("topic", pa.string())), []
    for part in range(2):
        name, own = f"classify/docs/S/{part}.parquet", rows[part::2]
        with workspace.create(name) as output, TableWriter(output, schema) as table:
            table.write_rows(own)
        docs = {"path": name, "sha256": output.sha256, "bytes": output.size}
        counts = Counts(records=len(own), kept=len(own)).to_json()
        entries.append({"key": f"S/{part}", "rows": len(own), "counts": counts, "read": {}, "docs": docs})
    counts = Counts(records=len(rows), kept=len(rows)).to_json()
    manifest = {"schema_version": 1, "stage": "classify", "finished": True, "complete": True, "shards": entries}
    workspace.write_json("classify/manifest.json", manifest | {"steps": [], "failed": [], "counts": counts})


def recipe_of(**changes: Any) -> Recipe:
    sections = {
        "mix": MixConfig.model_validate(MIX),
        "swarm": SwarmConfig.model_validate(SWARM | changes),
        "pretrain": PretrainConfig(),
    }
    return Recipe(RecipeHead(seed=5), sections)


def prepare(
    workspace: Workspace, recipe: Recipe, name: str = "swarm", frozen: dict[str, float] | None = None
) -> tuple[Workspace, SwarmDesign]:
    """Tokenises, counts, decides and packs: all but the training."""
    own, display = Workspace(f"{workspace.url}/{name}"), open_display(as_json=True)
    with open_runner(workspace, recipe, Inline, display) as runner:
        runner.run(STAGE, upstream_shards(workspace, "classify"), until="count")
    design = plan_swarm(workspace, own, recipe, Inline, display, frozen)
    pack_pool(workspace, own, recipe, design, Inline, display)
    return own, design


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SwarmDesign]:
    """A workspace with a swarm that may begin."""
    folder = tmp_path_factory.mktemp("swarm") / "w"
    write_documents(Workspace(folder))
    return folder, prepare(Workspace(folder), recipe_of())[1]


@pytest.fixture(scope="module")
def undisturbed(
    prepared: tuple[Path, SwarmDesign], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, list[dict[str, Any]]]:
    """The swarm as it runs in one go, and its events."""
    own = Workspace(shutil.copytree(prepared[0] / "swarm", tmp_path_factory.mktemp("whole") / "swarm"))
    events: list[dict[str, Any]] = []
    train_swarm(own, recipe_of().section("swarm"), prepared[1], progress=events.append)
    return own, events


@pytest.fixture
def fresh(prepared: tuple[Path, SwarmDesign], tmp_path: Path) -> Workspace:
    """A copy of the swarm in which nothing has run."""
    return Workspace(shutil.copytree(prepared[0] / "swarm", tmp_path / "swarm"))


def table_of(swarm: Workspace) -> Any:
    """The results without what a clock decides."""
    with swarm.open(RESULTS) as stream:
        return pq.read_table(stream).drop_columns("seconds")


def silent(event: dict[str, Any]) -> None:
    pass


def train_again(swarm: Workspace, progress: Callable[[dict[str, Any]], None], cluster: Cluster | None) -> None:
    """The swarm of `prepared` in another process, which decides the design anew."""
    recipe, table = recipe_of(), counted(swarm)
    assert table is not None
    design = decide(recipe.section("swarm"), recipe.section("mix"), table.buckets, 5)
    train_swarm(swarm, recipe.section("swarm"), design, progress=progress, cluster=cluster)


def drive(swarm: Workspace, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own, in which this module is `this` and the swarm is `place`."""
    head = f"""
        import importlib, os, signal, torch
        torch.set_num_threads(1)
        import test_swarm_design_run as this
        place = this.Workspace({swarm.url!r})
    """
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(":")]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)], check=False, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(here), "CURATE_RAY_CODE": "image"},
    )  # fmt: skip


def test_the_design_is_written_with_exact_shares_before_anything_is_trained(prepared: tuple[Path, SwarmDesign]) -> None:
    own = Workspace(prepared[0] / "swarm")
    told, counts = own.read_json(DESIGN), own.read_json("mix/buckets.json")
    tokens = {name: row["tokens"] for name, row in counts["buckets"].items()}
    assert [row["domain"] for row in told["domains"]] == ["land", "sea", "sky"]
    assert [row["prior"] for row in told["domains"]] == [tokens[name] / sum(tokens.values()) for name in sorted(tokens)]
    assert [row["kind"] for row in told["runs"]] == ["replicate"] * 2 + ["design"] * 4
    assert [row["seed"] for row in told["runs"]] == [5, 6, 5, 5, 5, 5]
    assert own.list("swarm/runs") == []


def test_the_pool_holds_of_each_domain_what_a_run_may_ask_for(prepared: tuple[Path, SwarmDesign]) -> None:
    packed = Workspace(prepared[0] / "swarm").read_json("mix/tokens.json")
    sizes = {name: row["tokens"] for name, row in packed["buckets"].items()}
    assert sizes == pytest.approx(dict.fromkeys(LETTERS, 6 * 4 * 32), abs=64)  # whole documents
    assert {shard["bucket"] for shard in packed["shards"]} == set(LETTERS)
    assert not (prepared[0] / "swarm" / "mix" / "steps" / "tokenize").exists()


def test_the_table_holds_every_run_with_its_losses_by_domain(
    prepared: tuple[Path, SwarmDesign], undisturbed: tuple[Workspace, list[dict[str, Any]]]
) -> None:
    design, (own, events) = prepared[1], undisturbed
    runs = read_runs(own.path(RESULTS))
    assert runs.domains == ("land", "sea", "sky")
    assert runs.kinds == design.kinds
    np.testing.assert_allclose(runs.weights, design.weights, rtol=1e-14)
    table = table_of(own)
    assert {"loss/land", "bits_per_byte/sky"} <= set(table.column_names)
    assert table.column("tokens").to_pylist() == [6 * 4 * 32] * 6
    assert np.isfinite(np.array(table.column("bits_per_byte/sea"))).all()
    told = [event for event in events if event["event"] == "run"]
    assert len(told) == 6
    assert "left" in told[0]["line"]
    assert told[0]["run"] == "replicate-00"


def test_killed_half_way_the_swarm_goes_on_and_ends_in_the_same_table(
    fresh: Workspace, prepared: tuple[Path, SwarmDesign], undisturbed: tuple[Workspace, list[dict[str, Any]]]
) -> None:
    done = drive(
        fresh,
        f"""
        trained, begun = importlib.import_module("curate.pretrain.swarm"), []
        real = trained.step
        def step(run, batch):
            begun.append(1)
            if len(begun) == {2 * PROXY["steps"] + 3}:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(run, batch)
        trained.step = step
        this.train_again(place, this.silent, None)
        """,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert table_of(fresh).num_rows == 2
    events: list[dict[str, Any]] = []
    train_swarm(fresh, recipe_of().section("swarm"), prepared[1], progress=events.append)
    assert len([event for event in events if event["event"] == "run"]) == 4
    assert table_of(fresh).equals(table_of(undisturbed[0]))


def test_more_runs_are_added_to_those_that_there_are(
    prepared: tuple[Path, SwarmDesign], undisturbed: tuple[Workspace, list[dict[str, Any]]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(prepared[0], tmp_path / "w", ignore=shutil.ignore_patterns("lock.json")))
    shutil.copytree(Path(undisturbed[0].root) / "swarm", folder / "swarm" / "swarm", dirs_exist_ok=True)
    more = recipe_of(runs=5)
    own, design = prepare(Workspace(folder), more)
    events: list[dict[str, Any]] = []
    runs = train_swarm(own, more.section("swarm"), design, progress=events.append)
    assert [event["run"] for event in events if event["event"] == "run"] == ["design-00004"]
    np.testing.assert_array_equal(runs.weights[:6], prepared[1].weights)


def test_runs_of_another_design_are_not_mixed_with_these(fresh: Workspace) -> None:
    recipe = recipe_of(sampling="regmix")
    table = fresh.read_json("mix/buckets.json")["buckets"]
    sizes = {
        name: Size(row["documents"], row["tokens"], row["bytes"], row["held_out_tokens"]) for name, row in table.items()
    }
    with pytest.raises(UsageError, match=r"another design \(sampling differ.*--swarm another name"):
        keep_design(fresh, decide(recipe.section("swarm"), recipe.section("mix"), sizes, 5))


SIZES = {name: Size(100, 100_000, 400_000, 2_000) for name in ("a", "b", "c", "d")}


def decided(sizes: dict[str, Size], frozen: dict[str, float] | None = None, **changes: Any) -> SwarmDesign:
    recipe = recipe_of(**changes)
    return decide(recipe.section("swarm"), recipe.section("mix"), sizes, 0, frozen)


def test_a_frozen_mix_of_everything_is_refused() -> None:
    with pytest.raises(UsageError, match="--freeze names every domain"):
        decided(SIZES, dict.fromkeys(SIZES, 1.0))


def test_a_frozen_mix_is_one_domain_and_its_runs_keep_its_proportions() -> None:
    found = decided(SIZES, {"a": 3, "b": 1}, runs=8)
    assert len(found.domains) == 3
    assert found.frozen == {"a": 0.75, "b": 0.25}
    place = next(number for number, name in enumerate(found.domains) if name not in SIZES)
    for mixture, row in zip(found.mixtures(), found.weights, strict=True):
        assert sum(mixture.values()) == pytest.approx(1)
        assert mixture.get("a", 0) == pytest.approx(0.75 * row[place])
        assert mixture.get("b", 0) == pytest.approx(0.25 * row[place])
        for name in ("c", "d"):
            assert mixture.get(name, 0) == pytest.approx(row[found.domains.index(name)])
    assert found.prior[place] == pytest.approx(0.5)
    assert set(found.buckets) == set(SIZES)


def test_what_the_frozen_mix_left_out_stays_left_out() -> None:
    found = decided(SIZES, {"a": 3, "b": 0}, runs=8)
    assert len(found.domains) == 3
    assert all("b" not in mixture for mixture in found.mixtures())


@pytest.mark.parametrize(
    ("sizes", "changes", "said"),
    [
        ({"e": Size(1, 20, 80, 2_000)}, {}, r"too few tokens to train on.*e \(20\).*swarm\.exclude"),
        ({"e": Size(50, 20_000, 80_000, 0)}, {}, r"no document is held out of e: .*mix\.validation"),
        ({}, {"exclude": ["x"]}, "there is no domain 'x'"),
        ({}, {"exclude": ["a", "b", "c"]}, "nothing to weigh"),
    ],
)
def test_a_domain_that_cannot_be_trained_on_or_measured_is_named(
    sizes: dict[str, Size], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        decided(SIZES | sizes, **changes)
    if "e" in sizes:
        assert "e" not in decided(SIZES | sizes, exclude=["e"]).domains


def test_a_domain_that_validation_does_not_come_upon_is_named_before_any_run(
    fresh: Workspace, prepared: tuple[Path, SwarmDesign]
) -> None:
    needed, read = measured_tokens(fresh, 1 << 40)
    assert read == {name: size.held_out for name, size in prepared[1].buckets.items()}
    assert measured_tokens(fresh, 1)[1].keys() == {min(needed, key=lambda name: needed[name])}
    least = max(needed.values())
    late = max(needed, key=lambda name: needed[name])
    short = SwarmConfig.model_validate(SWARM | {"proxy": PROXY | {"eval_tokens": least - 1}})
    with pytest.raises(UsageError, match=rf"have none of {late}.*eval_tokens to {least}"):
        train_swarm(fresh, short, prepared[1], progress=silent)
    assert fresh.list("swarm/runs") == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rnus": 3}, "rnus"),
        ({"proxy": {"widht": 3}}, "widht"),
        ({"proxy": {"mixture": {"a": 1}}}, "the swarm gives each run its own"),
        ({"proxy": {"seed": 1}}, "the recipe's seed"),
        ({"proxy": {"epochs": 1}}, "equally long"),
        ({"proxy": {"objective": "masked"}}, "causal"),
    ],
)
def test_the_section_refuses_what_it_does_not_know_or_decides_itself(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SwarmConfig.model_validate(given)


def test_a_proxy_is_olmo_3s_where_nothing_else_is_said() -> None:
    assert (SwarmConfig().proxy.size, SwarmConfig().proxy.tokens) == ("olmo2-30m", 3_000_000_000)
    changed = SwarmConfig.model_validate({"proxy": {"layers": 2}}).proxy
    assert (changed.size, changed.layers, changed.tokens) == ("olmo2-30m", 2, 3_000_000_000)
    short = SwarmConfig.model_validate({"proxy": {"size": "tiny", "tokens": "1M"}})
    assert (short.proxy.tokens, short.run_tokens) == (1_000_000, 1_000_448)
    assert SwarmConfig.model_validate(short.model_dump(mode="json")) == short


def proxies() -> list[int]:
    """Processes of the swarm's actors, at work or idle."""
    titles = ((int(path.parent.name), path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    found = []
    for pid, path in titles:
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::_Proxy"):
                found.append(pid)
    return found


class Killing:
    """Kills a worker of Ray once, when the first run is told of."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "run" and not self.killed:
            self.killed = proxies()[:1]
            faults.kill(self.killed[0])
        print(event["line"])


@pytest.mark.slow
@pytest.mark.ray
def test_on_ray_with_an_actor_killed_the_table_is_the_same(
    fresh: Workspace, undisturbed: tuple[Workspace, list[dict[str, Any]]], ray_address: str
) -> None:
    done = drive(
        fresh,
        f"""
        show = this.Killing()
        this.train_again(place, show, this.Cluster({ray_address!r}, 2, 3))
        assert show.killed
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "a worker died" in done.stdout
    assert table_of(fresh).equals(table_of(undisturbed[0]))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("body", "said", "tried"),
    [
        ("os._exit(1)", "1 runs were given up after 2 attempts each: run 4: ", 2),
        ("raise this.UsageError('no such mix')", "UsageError: no such mix", 1),
    ],
)
def test_on_ray_a_run_is_tried_so_often_and_what_it_refuses_ends_the_swarm(
    fresh: Workspace, ray_address: str, body: str, said: str, tried: int
) -> None:
    done = drive(
        fresh,
        f"""
        swarm_ray = importlib.import_module("curate.mixtures.swarm_ray")
        class Failing:
            def __init__(self, place, on_gpu): self.place = place
            def ready(self): return 0
            def train(self, given, file):
                import os
                from curate.pipeline.errors import UsageError
                os.write(os.open(self.place + "/tried", os.O_CREAT | os.O_APPEND | os.O_WRONLY), b".")
                {body.replace("this.", "")}
        swarm_ray._Proxy = Failing
        swarm_ray.train_on_ray(
            place, [(3, this.PretrainConfig(device="cpu"), "swarm/runs/x.json")], gpus=1, attempts=2, workers=1,
            address={ray_address!r}, progress=print, finished=print,
        )
        """,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert len((Path(fresh.root) / "tried").read_bytes()) == tried


def invoke(*arguments: str) -> Result:
    """The command, in this process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(command, list(arguments))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_command_says_what_it_will_do_does_it_and_names_what_follows(tmp_path: Path) -> None:
    write_documents(Workspace(tmp_path / "w"))
    (tmp_path / "recipe.yaml").write_text(json.dumps({"seed": 5, "mix": MIX, "swarm": SWARM}))
    given = ("-w", str(tmp_path / "w"), "--recipe", str(tmp_path / "recipe.yaml"), "--workers", "1")
    planned = invoke(*given, "--runs", "3", "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "5 runs: 3 mixtures (natural, sparse) and 2 replicates" in planned.output
    assert (
        f"next: curate mix swarm {shlex.join(['--workspace', given[1], '--runs', '3', *given[2:]])}\n" in planned.output
    )
    assert "warning: 9 runs at least are needed to solve: give --runs 7, or more" in planned.output
    assert not (tmp_path / "w" / "swarm" / DESIGN).exists()
    done = invoke(*given, "--runs", "3")
    assert done.exit_code == 0, done.output
    assert "next: curate mix tasks" in done.output
    assert "warning: few held-out tokens are read of " in done.output
    assert "run 5/5" in done.output
    runs = read_runs(str(tmp_path / "w" / "swarm" / RESULTS))
    assert len(runs.names) == 5


def test_an_earlier_mix_of_finer_buckets_is_summed_by_domain() -> None:
    sizes = {f"{topic}/{language}": Size(1, 10, 40, 1) for topic in ("a", "b") for language in ("de", "en")}
    mix = MixConfig.model_validate({"by": ["topic", "language"]})
    weights = {"a/de": 0.5, "a/en": 0.25, "b/de": 0.25}
    assert by_domain(weights, Counted(("topic", "language"), sizes), mix, ["topic"]) == {"a": 0.75, "b": 0.25}
    assert by_domain({"a": 1.0}, Counted(("topic", "language"), sizes), mix, ["topic"]) == {"a": 1.0}
