"""Makes the report: one self-contained HTML file from what lies in the workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from curate.pipeline.errors import CurateError
from curate.pipeline.status import mix_is_behind
from curate.pipeline.workspace import Workspace, redact
from curate.report import ablation, duplicates, examples, mixture, results, sections, words
from curate.report.charts import FunnelStep, funnel
from curate.report.facts import STAGES, StageFacts, by_snapshot, check_between, read_ledgers, read_stages

REPORT = "report/index.html"


def build_report(workspace: Workspace, *, progress: Callable[[str], None] = lambda part: None) -> str:
    """Writes `report/index.html` and gives its name in the workspace.

    The same workspace gives the same bytes. `progress` is told what is being read. Raises CurateError where no stage has
    run yet, or where a file that a manifest lists is gone or damaged.
    """
    try:
        html = render("report.html.j2", _collect(workspace, progress))
    except (FileNotFoundError, pa.ArrowException) as error:
        raise CurateError(
            f"the report cannot read a file of {redact(workspace.url)}: {error}; run the stage that writes it again"
        ) from error
    progress("writing the page")
    workspace.write_bytes(REPORT, html.encode())
    return REPORT


def _collect(workspace: Workspace, progress: Callable[[str], None]) -> dict[str, Any]:
    """Everything that the template shows."""
    stages = read_stages(workspace)
    recipe = _recipe(workspace)
    seed = recipe["seed"]
    progress("reading the ledgers")
    check_between(stages)
    read_ledgers(workspace, stages, seed)
    last = stages[-1]
    dedup = next((stage for stage in stages if stage.name == "dedup"), None)
    progress("reading the measured values")
    rules = sections.rules(workspace, stages)
    progress(f"reading the documents that {last.name} kept")
    documents = sections.documents(workspace, stages)
    mixed, trained = results.mix(workspace), results.training(workspace)
    return {
        "recipe": recipe,
        "stages": stages,
        "first": stages[0],
        "last": last,
        "missing": [name for name in STAGES if name not in {stage.name for stage in stages}],
        "headline": _headline(stages, mixed, trained),
        "behind": [*(stage.name for stage in stages if stage.behind), *(["mix"] if mix_is_behind(workspace) else [])],
        "problems": [(stage.name, problem) for stage in stages for problem in stage.problems],
        "failed": _failed(stages),
        "funnel": funnel([FunnelStep(s.name, s.counts.records, s.counts.kept, s.quarantined) for s in stages]),
        "reasons": sections.reasons(stages),
        "rules": rules,
        "snapshots": by_snapshot(stages),
        "documents": documents,
        "clusters": duplicates.duplicates(workspace, dedup, recipe["yaml"]) if dedup else {},
        "quarantined": examples.quarantined(stages),
        "mix": mixed,
        "mixture": mixture.mixture(workspace),
        "ablation": ablation.ablation(workspace),
        "training": trained,
        "dropped_examples": examples.dropped_examples(stages),
        "kept_examples": examples.kept_examples(workspace, last, seed),
        "seconds": _seconds(stages),
    }


def _headline(stages: Sequence[StageFacts], mixed: dict[str, Any], trained: dict[str, Any]) -> list[dict[str, str]]:
    records, kept = stages[0].counts.records, stages[-1].counts.kept
    bits = trained.get("bits")
    return [
        {
            "label": "records in",
            "value": words.count(records),
            "note": f"{words.count(len(stages[0].shards))} input files",
        },
        {
            "label": f"kept after {stages[-1].name}",
            "value": words.count(kept),
            "note": f"{words.share(kept, records)} of all",
        },
        {
            "label": "tokens in the mix",
            "value": words.count(mixed["tokens"]) if mixed else "–",
            "note": "" if mixed else "curate mix makes it",
        },
        {
            "label": "validation bits per byte",
            "value": words.measured(round(bits, 4)) if isinstance(bits, int | float) else "–",
            "note": "" if bits is not None else "curate pretrain measures it",
        },
    ]


def _failed(stages: Sequence[StageFacts]) -> list[dict[str, str]]:
    return [
        {"stage": stage.name, "key": words.clean(shard["key"], 200), "error": words.clean(shard.get("error"), 500)}
        for stage in stages
        for shard in stage.failed
    ]


def _seconds(stages: Sequence[StageFacts]) -> list[dict[str, Any]]:
    """Seconds of work by stage and part, longest part first; `total` is the tasks' own, where they measured it."""
    found = []
    for stage in stages:
        parts = dict(stage.counts.seconds)
        total = parts.pop("total", None)
        if total is not None or parts:
            found.append(
                {
                    "stage": stage.name,
                    "total": sum(parts.values()) if total is None else total,
                    "records": stage.counts.records,
                    "parts": sorted(parts.items(), key=lambda item: (-item[1], item[0])),
                }
            )
    return found


def _recipe(workspace: Workspace) -> dict[str, Any]:
    """The resolved recipe: its name, description and seed, and its text without the secrets of any URL in it."""
    import yaml

    try:
        with workspace.open("recipe.yaml") as stream:
            text = stream.read().decode("utf-8", "replace")
        data = yaml.safe_load(text)
    except FileNotFoundError:
        text, data = "", {}
    except yaml.YAMLError as error:
        raise CurateError(f"recipe.yaml in {redact(workspace.url)} is not valid YAML: {error}") from error
    data = data if isinstance(data, dict) else {}
    return {
        "name": words.clean(data.get("name") or "unnamed", 80),
        "description": words.clean(data.get("description"), 400),
        "seed": data.get("seed") if isinstance(data.get("seed"), int) else 0,
        "text": words.clean(words.without_secrets(text), 200_000, lines=True),
        "yaml": text,
    }


def _template(name: str) -> str:
    return resources.files("curate.report.templates").joinpath(name).read_text("utf-8")


def render(template: str, values: dict[str, Any]) -> str:
    """A page of this house: a template with its values and the style sheet."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": words.count,
        "share": words.share,
        "measured": words.measured,
        "clean": words.clean,
    }
    style = Markup(_template("style.css"))
    return environment.get_template(template).render(values, style=style)
