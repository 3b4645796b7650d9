"""The report's part on duplicates: its figures are those of dedup's own reports, and what looks wrong is called out."""

from __future__ import annotations

from typing import Any

import pytest
from report_page import Page, read, whole

SNAPSHOTS = ("CC-MAIN-2024-10", "CC-MAIN-2025-30")


def put(made: Any, **facts: Any) -> dict[str, Any]:
    """A report a snapshot beside a synthetic workspace; the largest cluster is that of its documents."""
    put = {}
    for snapshot in SNAPSHOTS:
        pages = [item for key, found in made.made["dedup"].items() for item in found if key.startswith(snapshot)]
        first = max(pages, key=lambda item: item["duplicates"])
        put[snapshot] = {
            "schema_version": 1,
            "scope": snapshot,
            "documents": 300,
            "clusters": 40,
            "clustered": 100,
            "removed": 60,
            "sizes": [],
            "largest": [{"kept_id": first["id"], "size": first["duplicates"], "least_similarity": 0.4321}],
        } | facts
        made.workspace.write_json(f"dedup/steps/report/{snapshot}.json", put[snapshot])
    return put


def large(**facts: Any) -> dict[str, Any]:
    """Facts of a report with a cluster that looks wrong."""
    cluster = {"kept_id": "k<b>\u202e", "size": 5000, "least_similarity": 0.02}
    return {"documents": 9000, "largest": [cluster], **facts}


def text(page: Page) -> str:
    return " ".join(page.text.split())


def test_each_snapshot_has_its_figures_and_the_largest_cluster_its_least_similarity(synthetic: Any) -> None:
    made = synthetic()
    reports = put(made)
    made.recipe("dedup: {minhash: {threshold: 0.8}}\n")
    _, page = read(made.workspace)
    for snapshot, report in reports.items():
        cells = next(row for row in page.rows if row[0] == snapshot and len(row) == 8 and row[5] == "20.0%")
        assert [whole(cell) for cell in cells[1:5]] == [300, 40, 100, 60]
        assert whole(cells[6]) == report["largest"][0]["size"] and cells[7] == "0.43"
    rows = [row for row in page.rows if row[-1:] in ([report["largest"][0]["kept_id"]] for report in reports.values())]
    assert any(row[1] == "0.43" for row in rows)


def test_what_was_kept_and_what_went_for_which_reason_is_there(synthetic: Any) -> None:
    made = synthetic()
    put(made)
    counts = made.manifest("dedup")["counts"]
    _, page = read(made.workspace)
    share = f"{100 * counts['kept'] / counts['records']:.1f}%"
    assert f"kept{counts['kept']:,} ({share})" in text(page)
    assert f"near_duplicate{counts['dropped']['near_duplicate']:,} (" in text(page)
    assert "pages in clusters200" in text(page)


def test_the_curve_of_the_parameters_is_drawn(synthetic: Any) -> None:
    made = synthetic()
    made.recipe("dedup: {minhash: {preset: dolma3, ngram: 7}}\n")
    _, page = read(made.workspace)
    labels = [attrs.get("aria-label") or "" for tag, attrs in page.elements if tag == "svg"]
    assert any(label.startswith("Pairs that these parameters find.") for label in labels)
    assert "26 bands × 11 rows, shingles of 7 words" in text(page)


def test_without_minhash_no_curve_is_drawn(synthetic: Any) -> None:
    made = synthetic()
    made.recipe("dedup: {minhash: {enabled: false}}\n")
    _, page = read(made.workspace)
    assert "Pairs that these parameters find" not in page.text
    assert "Copies of the same normalised text only." in text(page)


def test_a_cluster_that_looks_wrong_is_called_out_with_advice_and_its_id_is_text(synthetic: Any) -> None:
    made = synthetic()
    put(made, **large())
    made.recipe()
    html, page = read(made.workspace)
    warned = [attrs for tag, attrs in page.elements if tag == "p" and attrs.get("class") == "state bad"]
    assert len(warned) == len(SNAPSHOTS)
    assert "5,000 of 9,000 pages of CC-MAIN-2024-10 are one cluster" in text(page) and "dedup.verify=jaccard" in text(
        page
    )
    assert "k<b>" in page.text and "k<b>" not in html and "\u202e" not in html


def test_what_verification_compared_is_said(synthetic: Any) -> None:
    made = synthetic()
    figures = {"texts": 80, "largest": 71, "threshold": 0.75, "too_large": 3, "left_alone_texts": 12, "max_cluster": 9}
    put(made, verification=figures | {"by": "jaccard"})
    made.recipe()
    _, page = read(made.workspace)
    assert "80 texts compared, the largest cluster of links had 71; taken from 0.75; 3 over max_cluster" in text(page)


@pytest.mark.parametrize("recipe", ["dedup: {scope: nowhere}\n", "dedup: [1]\n", "- a list\n", ""])
def test_a_recipe_that_cannot_be_read_leaves_what_the_documents_say(synthetic: Any, recipe: str) -> None:
    made = synthetic(rows=60)
    made.recipe(recipe)
    _, page = read(made.workspace)
    sizes = [item["duplicates"] for found in made.made["dedup"].values() for item in found]
    assert whole(page.row("1 (no duplicate)")[2]) == sizes.count(1)


def test_a_run_everywhere_is_one_scope(synthetic: Any) -> None:
    made = synthetic()
    put(made)
    made.workspace.write_json(
        "dedup/steps/report/global.json",
        {"schema_version": 1, "scope": "global", **large(), "clusters": 9, "clustered": 50, "removed": 41},
    )
    made.recipe("dedup: {scope: global}\n")
    _, page = read(made.workspace)
    assert whole(page.row("all snapshots")[4]) == 41
    assert "pages of all snapshots are one cluster" in text(page)
