"""docs/dedup.md against the code: every key with its default, the curves, the memory, and examples that run."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from dedup_runs import run_dedup
from pydantic import BaseModel

from curate.pipeline.cli import main
from curate.pipeline.recipe import load_recipe
from curate.pipeline.session import sections
from curate.pipeline.stage import Done, Planning
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.config import CURVE, DedupConfig, MinHashConfig, probability
from curate.stages.dedup.stage import BYTES_A_DOCUMENT, scopes

DOCS = Path(__file__).parents[3] / "docs" / "dedup.md"
TEXT = DOCS.read_text("utf-8")


def table(head: str) -> list[list[str]]:
    """The cells of the rows of the table that begins so."""
    lines = TEXT[TEXT.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a section with its default; of a part that is off by default the part and its own."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        part = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        default = field.get_default(call_default_factory=True)
        if part is None or default is None:
            yield prefix + name, default
        if part is not None:
            yield from keys(part, f"{prefix}{name}.")


def written(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"`{default}`" if isinstance(default, str) else f"{default:,}" if default >= 10_000 else str(default)


def test_every_key_stands_there_with_its_default_and_no_other() -> None:
    shown: dict[str, str] = {}
    for cells in table("| key | default |"):
        names = [name.strip("`") for name in cells[0].split(", ")]
        section = names[0].rpartition(".")[0]
        full = [name if "." in name or not section else f"{section}.{name}" for name in names]
        shown |= dict(zip(full, [cells[1]] if len(full) == 1 else cells[1].split(", "), strict=True))
    assert shown == {name: written(default) for name, default in keys(DedupConfig)}


def test_the_curves_are_those_of_the_parameters() -> None:
    rows = table("| | bands x rows |")
    assert len(rows) >= 7
    for named, size, *shares in rows:
        given = dict(part.split(": ") for part in re.findall(r"`([^`]+)`", named))
        minhash = MinHashConfig.model_validate(given)
        assert size == f"{minhash.bands} x {minhash.rows}"
        assert shares == [f"{100 * probability(s, minhash.bands, minhash.rows):.1f}" for s in CURVE]


def test_the_readme_shows_what_its_command_prints() -> None:
    readme = (DOCS.parents[1] / "README.md").read_text("utf-8")
    found = re.search(r"\$ curate (recipes show .*) \| tail -1\n\s+(.*), …\n", readme)
    assert found is not None
    shown = CliRunner().invoke(main, shlex.split(found[1])).output.splitlines()[-1]
    assert shown.startswith(found[2])


def test_the_parts_of_a_large_snapshot_are_those_that_the_stage_plans() -> None:
    said = re.search(
        r"A snapshot of ([\d,]+) pages .* has (\d+) parts of keys and (\d+) of clusters.* take ([\d.]+) GB", TEXT
    )
    assert said is not None
    pages = int(said[1].replace(",", ""))
    shards = tuple(Done(f"s/{n:05d}", {}, {"records": pages // 1000}, {}) for n in range(1000))
    planning = Planning("dedup", "bands", DedupConfig(memory_mb=4096), 0, (), {"signatures": shards})
    (scope,) = scopes(planning)
    assert (scope.key_parts, scope.cluster_parts) == (int(said[2]), int(said[3]))
    assert said[4] == f"{((512 << 20) + BYTES_A_DOCUMENT * pages) / 1e9:.1f}"


def test_the_recipe_shown_is_one(tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert shown
    for number, text in enumerate(shown):
        (tmp_path / f"{number}.yaml").write_text(text)
        assert load_recipe(str(tmp_path / f"{number}.yaml"), sections()).section("dedup") != DedupConfig()


def test_the_examples_in_python_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(code, str(DOCS), "exec"), {})
        shown = capsys.readouterr().out.splitlines()
        said = [re.search(r"# .*?(\[[^\]]*\]|\d\.\d)", line) for line in code.splitlines() if line.startswith("print")]
        assert len(shown) == len(said)
        for line, claim in zip(shown, said, strict=True):
            assert claim is None or line == claim[1]


def test_the_commands_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = " ".join(f"word{'abcdefgh'[n % 8]}{'xyz'[n % 3] * n}" for n in range(40))
    run_dedup(Workspace("W"), {"s/a": [{"id": "a", "text": text}]}, DedupConfig())
    Path("page.txt").write_text(text)
    Path("pages.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": text}).encode()))
    commands = [line for line in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)[0].splitlines() if line]
    assert len(commands) == 3
    for command in commands:
        words, _, given = command.removeprefix("curate ").partition(" < ")
        shown = CliRunner().invoke(main, shlex.split(words), input=Path(given).read_bytes() if given else None)
        assert shown.exit_code == 0, shown.output
