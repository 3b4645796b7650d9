"""What the shipped models are trained on: grades for every format and topic, and what a page stands for on the web."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from curate.classifiers import datasets, load, weak
from curate.classifiers.heuristics import heuristic_prose
from curate.classifiers.model import fold, site
from curate.pipeline.errors import UsageError

FORMATS = ("Knowledge Article", "News Article", "Product Page", "Tutorial")
PROSE = "This is a whole sentence of more than eight plain words. " * 20


def page(row: int, **changes: object) -> dict[str, object]:
    return {
        "url": f"https://site{row}.org/page", "text": f"{PROSE}{row}", "topic": "health", "topic_confidence": "0.9",
        "format": FORMATS[row % len(FORMATS)], "format_confidence": "0.5", **changes,
    }  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an archive of 40 pages."""
    lines = "\n".join(json.dumps(page(row)) for row in range(40)).encode()
    with tarfile.open(tmp_path / "topics.tar.xz", "w:xz") as tar:
        entry = tarfile.TarInfo("topics/topics.jsonl")
        entry.size = len(lines)
        tar.addfile(entry, io.BytesIO(lines))
    return tmp_path


def test_every_format_and_topic_has_its_grade() -> None:
    assert set(weak.QUALITY) == set(weak.TEACHES) == set(weak.WEB_TOKENS)
    assert len(weak.QUALITY) == 24
    assert set(weak.TAUGHT) == set(load("topic").labels)
    for grades in (weak.QUALITY, weak.TEACHES, weak.TAUGHT):
        assert min(grades.values()) == 0
        assert max(grades.values()) == 1
    assert sum(weak.WEB_TOKENS.values()) == pytest.approx(100, abs=0.1)


def test_the_target_of_quality_is_the_formats_grade_times_prose(data: Path) -> None:
    examples = datasets.quality(data)
    prose = heuristic_prose(examples.array)
    grades = [weak.QUALITY[FORMATS[row % 4]] for row in range(40)]
    np.testing.assert_allclose(examples.targets, grades * prose, rtol=1e-6)
    assert set(examples.weights) == {0.5}


def test_the_target_of_education_is_the_formats_times_the_topics_worth(data: Path) -> None:
    examples = datasets.education(data)
    assert examples.targets[:4] == pytest.approx([5 * 1 * 0.8, 5 * 0.3 * 0.8, 5 * 0.05 * 0.8, 5 * 0.8 * 0.8])
    assert np.mean(examples.weights) == pytest.approx(1)


def test_the_pages_of_a_format_stand_together_for_its_share_of_the_webs_tokens() -> None:
    pages = [page(0), page(1), page(1, text=PROSE * 7), page(2)]
    shares = datasets.on_the_web(pages)
    tokens = shares * [len(str(row["text"])) for row in pages]
    assert shares.sum() == pytest.approx(1)
    assert shares[1] == pytest.approx(shares[2])
    expected = [weak.WEB_TOKENS[name] for name in FORMATS[:3]]
    assert tokens[0] / (tokens[1] + tokens[2]) == pytest.approx(expected[0] / expected[1])
    assert tokens[3] / (tokens[1] + tokens[2]) == pytest.approx(expected[2] / expected[1])


@pytest.mark.parametrize("name", ["topics", "quality", "education"])
def test_a_fifth_of_the_sites_is_kept_out_of_every_set(data: Path, name: str) -> None:
    examples = getattr(datasets, name)(data)
    assert examples.groups == [f"site{row}.org" for row in range(40)]
    assert examples.kept_out == [fold(group) == datasets.KEPT_OUT_FOLD for group in examples.groups]
    assert 0 < sum(examples.kept_out) < 20
    assert site("https://site1.org/page") == examples.groups[1]


def test_a_folder_without_the_archive_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no topics\.tar\.xz in "):
        datasets.topics(tmp_path)
