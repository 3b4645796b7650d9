"""The page on a classifier: drawn to scale, whole by itself, hostile names shown as text."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from curate.classifiers.evaluate import measure
from curate.classifiers.judged import Judged, Question
from curate.report.charts import Series, Threshold, plane
from curate.report.judgement import page

HOSTILE = '<script>alert("x")</script>‮'


def judged(asked: Question, sites: tuple[str, ...] = ("a.com", "b.com", "c.com")) -> Judged:
    chance, count = np.random.default_rng(0), 90
    wanted = np.arange(count) % 2.0 if asked.kind == "binary" else np.arange(count) % 3.0
    values = (wanted + chance.random(count)) / 3
    if asked.kind == "labels":
        values = np.eye(3)[wanted.astype(int)] * 0.5 + chance.random((count, 3)) / 4
    numbers = np.arange(count)
    about = {"name": HOSTILE, "version": "1", "kind": "linear", "output": "label", "labels": list(asked.labels),
             "scale": list(asked.scale), "fingerprint": "f" * 64}  # fmt: skip
    return Judged(
        asked, wanted, values.astype(np.float32), sites, numbers % len(sites), ("", HOSTILE), numbers % 2,
        np.ones(count), np.ones(count), 1.0, about,
    )  # fmt: skip


QUESTIONS = {
    "binary": Question("binary", HOSTILE, probability=True),
    "labels": Question("labels", labels=(HOSTILE, "b", "c"), probability=True),
    "regression": Question("regression", scale=(0.0, 2.0)),
}


def result(kind: str, **more: Any) -> dict[str, Any]:
    found = measure(judged(QUESTIONS[kind]), draws=20, **more)
    return found | {"all_sites": False, "files": [HOSTILE], "data": None}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_the_page_is_whole_and_shows_hostile_names_as_text(kind: str) -> None:
    html = page(result(kind, goals={"precision": 0.9}))
    assert "<script" not in html and "‮" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r'(?:src|href)="(?!#)', html)
    assert html.count("<svg") >= 5
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", html.split("</style>")[1])
    assert html == page(result(kind, goals={"precision": 0.9}))


def test_a_site_is_shown_from_so_many_pages_on() -> None:
    few = page(result("binary", min_pages=31))
    assert "No site has 31 pages" in few and "a.com" not in few
    assert "a.com" in page(result("binary", min_pages=30))


def test_a_goal_out_of_reach_is_said() -> None:
    found = result("binary", goals={"precision": 1.1})
    assert found["chosen"][0]["threshold"] is None
    assert "none gives it" in page(found)


def test_a_plane_is_drawn_to_scale() -> None:
    chart = plane([Series("", ((0.0, 0.0), (0.5, 1.0), (1.0, 1.0)))], title="t", x_label="x", y_label="y", diagonal=True,
                  limit=Threshold(0.5))  # fmt: skip
    (points,) = re.findall(r'points="([^"]+)"', chart)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points.split())
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.2) and y1 == y2 < y0
    (limit,) = (float(x) for x in re.findall(r'class="limit" x1="([\d.]+)"', chart))
    assert limit == pytest.approx(x1, abs=0.1)


def test_dots_have_areas_like_their_sizes() -> None:
    chart = plane(
        [Series("", ((0.1, 0.1), (0.9, 0.9)), dots=True)], title="t", x_label="x", y_label="y", sizes=[1, 100]
    )
    small, large = (float(radius) for radius in re.findall(r' r="([\d.]+)"', chart))
    assert small < large / 2
