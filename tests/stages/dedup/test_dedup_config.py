"""What the section `dedup:` of a recipe may say, and that reading it is light."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from curate.stages.dedup.config import DedupConfig, MinHashConfig


def test_the_defaults_are_fineweb() -> None:
    config = DedupConfig()
    assert (config.minhash.bands, config.minhash.rows, config.minhash.ngram, config.minhash.seed) == (14, 8, 5, 1)
    assert (config.exact, config.scope, config.keep) == (True, "snapshot", "first")
    assert config.minhash.permutations == 112


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": 0}, {"rows": 0}, {"ngram": 0}, {"bands": 200, "rows": 200}, {"treshold": 0.8}, {"seed": -1},
    ],
)  # fmt: skip
def test_wrong_minhash_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MinHashConfig.model_validate(wrong)


@pytest.mark.parametrize("wrong", [{"keep": "best"}, {"scope": "world"}, {"memory_mb": 1}, {"minhashes": {}}])
def test_wrong_dedup_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DedupConfig.model_validate(wrong)


def test_memory_changes_the_cut_and_not_the_output() -> None:
    assert DedupConfig(memory_mb=64).fingerprint() == DedupConfig().fingerprint()
    assert DedupConfig(keep="newest").fingerprint() != DedupConfig().fingerprint()


def test_the_command_line_imports_no_kernel() -> None:
    code = "import sys, curate.stages.dedup.stage; print({'numba', 'numpy', 'xxhash', 'pyarrow.compute'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
