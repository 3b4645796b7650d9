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


def minhash(**given: object) -> MinHashConfig:
    return MinHashConfig.model_validate(given)


@pytest.mark.parametrize("permutations", [64, 112, 128, 256])
@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.75, 0.8, 0.9, 0.95])
def test_a_threshold_chooses_as_datasketch_does(threshold: float, permutations: int) -> None:
    lsh = pytest.importorskip("datasketch").MinHashLSH(threshold=threshold, num_perm=permutations)
    chosen = minhash(threshold=threshold, permutations=permutations)
    assert (chosen.bands, chosen.rows) == (lsh.b, lsh.r)
    assert chosen.permutations == lsh.b * lsh.r <= permutations


def test_a_threshold_alone_stays_within_112_permutations() -> None:
    assert (minhash(threshold=0.75).bands, minhash(threshold=0.75).rows) == (11, 10)


@pytest.mark.parametrize(("preset", "bands", "rows"), [("fineweb", 14, 8), ("redpajama", 9, 13), ("dolma3", 26, 11)])
def test_a_preset_is_what_was_published(preset: str, bands: int, rows: int) -> None:
    chosen = minhash(preset=preset)
    assert (chosen.bands, chosen.rows, chosen.permutations) == (bands, rows, bands * rows)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": 0.75, "bands": 14, "rows": 8}, "bands: 14 and threshold: 0.75"),
        ({"threshold": 0.75, "rows": 8}, "rows: 8 and threshold: 0.75"),
        ({"preset": "dolma3", "bands": 14}, "bands: 14 and preset: dolma3"),
        ({"preset": "dolma3", "threshold": 0.8}, "threshold: 0.8 and preset: dolma3"),
        ({"permutations": 128}, "permutations: 128, but bands x rows is 112"),
        ({"preset": "redpajama", "permutations": 128}, "permutations: 128, but bands x rows is 117"),
    ],
)
def test_two_ways_to_say_bands_and_rows_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MinHashConfig.model_validate(wrong)


@pytest.mark.parametrize(
    "given", [{}, {"threshold": 0.75}, {"threshold": 0.9, "permutations": 256}, {"preset": "dolma3"}, {"bands": 3}]
)
def test_the_resolved_recipe_reads_as_itself(given: dict[str, object]) -> None:
    config = MinHashConfig.model_validate(given)
    again = MinHashConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert again.fingerprint() == config.fingerprint()


def test_null_takes_bands_and_rows_out_of_a_recipe_that_has_them() -> None:
    written = minhash(bands=14, rows=8).model_dump(mode="json")
    assert minhash(**written | {"threshold": 0.75, "bands": None, "rows": None}).bands == 11


def test_a_resolved_recipe_takes_other_bands_and_rows() -> None:
    assert minhash(**minhash().model_dump(mode="json") | {"rows": 9}).permutations == 126


def test_a_preset_decides_by_its_bands_and_rows_alone() -> None:
    assert minhash(preset="fineweb").fingerprint() == minhash().fingerprint()
    assert minhash(preset="dolma3").fingerprint() == minhash(bands=26, rows=11).fingerprint()
    for other in (
        {"threshold": 0.75},
        {"hash_bits": 64},
        {"ngram_of": "characters"},
        {"preset": "dolma3"},
        {"seed": 2},
    ):
        assert minhash(**other).fingerprint() != minhash().fingerprint()


def test_the_curve_is_finewebs() -> None:
    """P(s) as FineWeb publishes it: 56, 77, 92 and 98.8 % at .70, .75, .80 and .85."""
    curve = minhash().curve()
    assert [round(curve[s], 2) for s in (0.7, 0.75, 0.8)] == [0.56, 0.77, 0.92]
    assert curve[0.85] == pytest.approx(0.988, abs=5e-4)
    assert list(curve) == [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    text = minhash().curve_text()
    assert text.startswith("14 bands x 8 rows; ")
    assert "0.75: 77.2 %" in text


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.0}, {"threshold": 0}, {"preset": "finewb"}, {"hash_bits": 16}, {"ngram_of": "letters"},
        {"threshold": 0.8, "permutations": 2000},
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
