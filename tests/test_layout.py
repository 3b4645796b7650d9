"""The house itself: every room is packaged, the links for the type checker are whole, nothing is forgotten."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("pipeline", "stages", "classifiers", "mixtures", "pretrain", "report", "recipes")
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_folder_of_code_is_listed_as_a_package() -> None:
    folders = {
        path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    } | {path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    listed = {name.removeprefix("curate.").replace(".", "/") for name in SETUP["packages"]}
    assert folders == listed


def test_every_package_is_mapped_to_its_folder() -> None:
    expected = {name: name.removeprefix("curate.").replace(".", "/") for name in SETUP["packages"]}
    assert SETUP["package-dir"] == expected


def test_every_room_has_its_link_for_the_type_checker() -> None:
    for room in ROOMS:
        assert (ROOT / "typings" / "curate" / room).resolve() == ROOT / room


def test_a_folder_named_pipeline_in_the_current_folder_does_not_shadow_ours(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    code = "import curate.pipeline.cli, curate.pipeline as p; print(p.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "curate.pipeline"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from curate.pipeline.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'numba', 'pyarrow', 'numpy', 'pydantic', 'trafilatura', 'fasttext', 'sklearn', 'duckdb'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_unpickles_files_or_evaluates_text() -> None:
    banned = re.compile(r"import pickle|from pickle|torch\.load\(|joblib\.load|(?<![._\w])eval\(|marshal\.load")
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert not banned.search(path.read_text("utf-8")), path
