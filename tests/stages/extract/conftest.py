"""WARC files made record by record, and the stage run on a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `archive` and for engines by import path

from archive import Shelf

from curate.pipeline.workspace import Workspace


@pytest.fixture
def shelf(tmp_path: Path) -> Any:
    """Puts bytes into a file, runs extract on it, and shows what became of every record."""
    return Shelf(Workspace(tmp_path / "workspace"), tmp_path)
