"""The card of a model that was trained here: what it is, what it learned from, how good it is. Markdown, beside the model."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.classifiers.datasets import KEPT_OUT_FOLD
from curate.classifiers.model import Classifier
from curate.classifiers.rows import Tally
from curate.pipeline.workspace import Workspace, redact_text


def facts_of(
    model: Classifier, path: Path, tally: Tally, settings: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a model that was just saved, ready for JSON."""
    return {
        "kind": model.kind, "output": model.output, "name": model.name, "version": model.version,
        "sha256": model.fingerprint, "bytes": path.stat().st_size, "labels": list(model.labels),
        "scale": list(model.scale), "settings": dict(settings), "data": tally.to_json(), "scores": dict(scores),
    }  # fmt: skip


def write(
    path: Path,
    facts: Mapping[str, Any],
    *,
    data: Sequence[str],
    command: str,
    licence: str | None = None,
    note: str = "",
) -> None:
    """The card (`.md`) and the facts (`.json`) beside the model."""
    labels, scale = facts["labels"], facts["scale"]
    gives = f"one of {len(labels)} labels" if facts["output"] == "label" else f"a score, {scale[0]:g} to {scale[1]:g}"
    if facts["output"] == "score" and labels:
        gives += f": the probability of `{labels[0]}`"
    tally = facts["data"]
    text = [
        f"# {facts['name']}", "",
        f"A classifier of kind `{facts['kind']}`, version {facts['version']}, that gives {gives}.{' ' + note if note else ''}",
        "", "## Data", "", *(f"- `{redact_text(each)}`" for each in data),
        f"- {tally['rows']:,} rows, {tally['used']:,} used",
        *(f"- {count:,} rows left out: {why}" for why, count in tally["left_out"].items()), "",
        f"One part of five of the sites (`fold(site) == {KEPT_OUT_FOLD}`) was kept out of training.",
        "", "## Licence", "", f"Of the data: {licence or 'not stated'}.",
        "", "## Date", "", f"{_today():%d %B %Y}.".lstrip("0"),
        "", "## Command", "", f"    {redact_text(command)}",
        "", "## Settings", "", *(f"- `{key}`: `{value}`" for key, value in facts["settings"].items()),
        "", "## Scores", "", "On the sites kept out of training.", "", "| score | value |", "|---|---|",
        *(f"| `{name}` | {_number(value)} |" for name, value in facts["scores"].items()),
    ]  # fmt: skip
    if not facts["scores"]:
        text.append("| none: nothing to judge on was kept out | – |")
    place = Workspace(str(path.parent))
    place.write_bytes(path.with_suffix(".md").name, ("\n".join(text) + "\n").encode())
    place.write_bytes(path.with_suffix(".json").name, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())


def read(path: Path) -> str:
    """The card that lies beside a model file; without one, what the model says of itself."""
    from curate.classifiers import embedding, load

    beside = path.with_suffix(".md")
    if beside.is_file():
        return beside.read_text("utf-8", "replace")
    if embedding.is_one(path):  # its encoder need not be there
        return embedding.describe(path) + f"- no card {beside.name} lies beside it\n"
    model = load(str(path))
    lines = [
        f"# {model.name}", "", f"- kind: {model.kind}", f"- version: {model.version}", f"- gives: {model.output}",
        f"- labels: {', '.join(model.labels) or 'none: a number'}", f"- scale: {model.scale[0]:g} to {model.scale[1]:g}",
        f"- SHA-256: {model.fingerprint}", f"- no card {beside.name} lies beside it",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _today() -> datetime.datetime:
    """Now, or the time that SOURCE_DATE_EPOCH says."""
    moment = os.environ.get("SOURCE_DATE_EPOCH", "")
    zone = datetime.UTC
    return datetime.datetime.fromtimestamp(int(moment), zone) if moment.isdigit() else datetime.datetime.now(zone)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.5g}" if isinstance(value, float) else f"{value:,}"
