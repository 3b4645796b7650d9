"""The stage `classify`, in steps of their own, so that another threshold scores no page again. Light.

evaluation      one task          the index of the evaluation sets, where there are any
decontaminate   a task a shard    which pages hold items of them, and what is left of their texts
score           a task a shard    `classify/scores`: what the classifiers say, a row a page, kept or not
spread1 …       see `quantile_steps`: where asked for, the boundaries of percentiles and vigintiles
select          a task a shard    docs and ledger: score and quantile columns, the recipe's bounds

Quantiles are of all pages that come into the stage, whatever becomes of them here: another bound moves none of them.
"""

from __future__ import annotations

from curate.pipeline.stage import File, Planning, Stage, Step, Task
from curate.stages.classify import quantile_steps
from curate.stages.classify.config import COLUMNS, ClassifyConfig
from curate.stages.decontaminate.steps import STEP as EVALUATION
from curate.stages.decontaminate.steps import index_inputs
from curate.stages.planning import finished

_DECIDED = ("ngram", "shortest", "min_matches", "min_share", "weight", "action", "around", "least_chars", "most_cuts")
"""Of `decontaminate`, what is asked of a page; what is looked for stands in the index."""


def plan_decontaminate(planning: Planning) -> list[Task]:
    if planning.config.decontaminate is None:
        return []
    index = index_inputs(planning)
    return [
        Task(
            planning.stage, planning.step, shard.key, {"docs": (shard.file,), **index},
            {"marks": f"{planning.stage}/steps/{planning.step}/{shard.key}.parquet"},
        )
        for shard in planning.shards
    ]  # fmt: skip


def plan_score(planning: Planning) -> list[Task]:
    """Of texts as they are kept: where items of evaluation sets are cut out of them, without these."""
    config: ClassifyConfig = planning.config
    cut = config.decontaminate is not None and config.decontaminate.action == "cut"
    return [
        Task(
            planning.stage, planning.step, shard.key,
            {"docs": (shard.file,), **(_marks(planning, shard.key) if cut else {})},
            {"scores": f"{planning.stage}/scores/{shard.key}.parquet"}, gpus=config.worker_gpus,
        )
        for shard in planning.shards
    ]  # fmt: skip


def plan_select(planning: Planning) -> list[Task]:
    boundaries = quantile_steps.boundaries(planning)
    return [
        Task(
            planning.stage, planning.step, shard.key,
            {
                "docs": (shard.file,),
                "scores": (scored.outputs["scores"],),
                **_marks(planning, shard.key),
                **boundaries,
            },
            {name: f"{planning.stage}/{name}/{shard.key}.parquet" for name in ("docs", "ledger")},
        )
        for shard, scored in zip(
            planning.shards, finished(planning, "score", (shard.key for shard in planning.shards)), strict=True
        )
    ]  # fmt: skip


def _marks(planning: Planning, key: str) -> dict[str, tuple[File, ...]]:
    """A shard's pages that hold items of evaluation sets, where these are looked for."""
    if planning.config.decontaminate is None:
        return {}
    (done,) = finished(planning, "decontaminate", [key])
    return {"marks": (done.outputs["marks"],)}


STAGE = Stage(
    name="classify",
    version=2,
    config=ClassifyConfig,
    steps=(
        EVALUATION,
        Step(
            "decontaminate",
            "curate.stages.classify.contamination:mark_shard",
            plan_decontaminate,
            reads=tuple(f"decontaminate.{name}" for name in _DECIDED),
        ),
        Step("score", "curate.stages.classify.scoring:score_shard", plan_score, reads=COLUMNS),
        *quantile_steps.STEPS,
        Step(
            "select",
            "curate.stages.classify.selecting:select_shard",
            plan_select,
            record_bearing=True,
            reads=("quantiles", "keep"),
        ),
    ),
    after="dedup",
    disk=1.06,
    check="curate.stages.classify.scoring:check",
    closing="curate.stages.decontaminate.steps:closing",
)
