"""`curate classifier train` and `distil`: what makes a model, its card and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from curate.pipeline.classifier_options import (
    checked_settings,
    columns,
    command_line,
    data_option,
    encoder_option,
    loaded,
    model_file,
    naming,
    note,
    sample_option,
    seed_option,
    settings_option,
    wanted,
)
from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.options import guarded, json_option, say

if TYPE_CHECKING:
    from curate.classifiers.model import Classifier


@click.command()
@click.argument("kind", metavar="KIND")
@data_option
@click.option("--output", "-o", required=True, metavar="FILE", help="The model: .safetensors, .bin or .ftz.")
@click.option(
    "--target", type=click.Choice(["labels", "regression"]), default="labels", show_default=True,
    help="Learn labels, or numbers.",
)  # fmt: skip
@click.option("--positive", metavar="LABEL", help="Give this label's probability alone, as a score.")
@columns("text", "label", "url", "group", "weight", "confidence")
@naming
@settings_option
@sample_option
@seed_option
@json_option
@guarded
def train(
    kind: str, data: tuple[str, ...], output: str, target: Literal["labels", "regression"], positive: str | None,
    name: str | None, version: str, max_mb: float | None, autotune: bool, licence: str | None, settings: tuple[str, ...],
    sample: int | None, seed: int, as_json: bool, **named: str | None,
) -> None:  # fmt: skip
    """Train a classifier of a KIND: linear, fasttext or embedding.

    A fifth of the sites is kept out, always the same one, and the model is judged on it. Writes the model and, beside it,
    its card (.md) and scores (.json). The same data and settings give the same model, byte by byte.
    """
    from curate.classifiers import cards, kinds, labelled
    from curate.pipeline.classifier_lines import score_lines

    chosen = checked_settings(kind, settings, max_mb, autotune)
    if positive is not None:
        chosen["positive"] = positive
    if "seed" not in chosen:
        chosen["seed"] = seed
    path = model_file(kind, output, chosen.get("max_mb") is not None)
    asked = wanted(named, "text", "label", "url", "group", "weight", "confidence")
    held = labelled.read_examples(data, asked, target=target, sample=sample, seed=seed)
    note(held.tally.lines())
    seen, unseen = held.examples.part(kept_out=False), held.examples.part(kept_out=True)
    if not len(seen):
        raise CurateError("every page is of a site that is kept out: give pages of more sites")
    if target == "labels" and positive is not None and positive not in set(seen.labels):
        raise UsageError(f"--positive: no text has the label {positive!r}{nearest(positive, set(seen.labels))}")
    if not as_json:
        sites = len(set(seen.groups)), len(set(unseen.groups))
        note(
            [f"{len(seen):,} texts of {sites[0]:,} sites to learn from, {len(unseen):,} of {sites[1]:,} sites kept out"]
        )
    model = kinds.fit(kind, seen, chosen, name=name or path.stem, version=version)
    model.save(path)
    result = _judged_examples(model, unseen)
    scores = {each["name"]: each["value"] for each in result["scores"]} if result else {}
    kept_out = {"texts_kept_out": result["pages"]} if result else {}
    facts = cards.facts_of(model, path, held.tally, kinds.settings(kind, chosen).model_dump(), kept_out | scores)
    cards.write(path, facts, data=data, command=command_line(), licence=licence)
    say(
        as_json, facts, f"{path}: {facts['bytes']:,} bytes, SHA-256 {model.fingerprint}",
        *(score_lines(result["scores"]) if result else []),
        f"card: {path.with_suffix('.md')}",
        f"next: {_evaluate_command(path, data, named, chosen)}",
    )  # fmt: skip


def _evaluate_command(
    path: Path, data: Sequence[str], named: Mapping[str, str | None], chosen: Mapping[str, Any]
) -> str:
    """What judges the model on the same data."""
    import shlex

    from curate.classifiers.encoders import NAMES

    given = [part for pattern in data for part in ("--data", pattern)]
    given += [part for role, name in named.items() if name for part in (f"--{role}", name)]
    if chosen.get("encoder") not in (None, *NAMES):
        given += ["--encoder", str(chosen["encoder"])]
    return shlex.join(["curate", "classifier", "evaluate", str(path), *given])


def _judged_examples(model: Classifier, examples: Any) -> dict[str, Any] | None:
    """The model's scores on texts of sites that it has not seen; None where these cannot show any."""
    from curate.classifiers.evaluate import measure
    from curate.classifiers.judged import gather, question
    from curate.classifiers.labelled import Row

    labels = examples.labels or examples.targets
    rows = [
        Row(text, label, group, "", weight, confidence)
        for text, label, group, weight, confidence in zip(
            examples.texts, labels, examples.groups, examples.weights, examples.confidence, strict=True
        )
    ]
    try:
        found: dict[str, Any] = measure(gather(model, rows, question(model)))
    except CurateError as error:  # the model is made all the same
        note([f"the sites kept out cannot judge it: {error}"])
        return None
    return found


# --- distil ------------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--teacher", required=True, metavar="MODEL", help="The slow classifier: a name, a file or NAME#LABEL.")
@click.option("--student-kind", required=True, metavar="KIND", help="linear, fasttext or embedding.")
@data_option
@click.option("--output", "-o", required=True, metavar="FILE", help="The student: .safetensors, .bin or .ftz.")
@columns("text", "label", "url", "group")
@click.option("--positive", metavar="LABEL", help="The label of the data that a score stands for.")
@click.option("--answers", metavar="FILE", help="Keep the teacher's answers here (.jsonl); none is asked for twice.")
@encoder_option
@naming
@settings_option
@sample_option
@seed_option
@json_option
@guarded
def distil(
    teacher: str, student_kind: str, data: tuple[str, ...], output: str, positive: str | None, answers: str | None,
    encoder: str | None, name: str | None, version: str, max_mb: float | None, autotune: bool, licence: str | None,
    settings: tuple[str, ...], sample: int | None, seed: int, as_json: bool, **named: str | None,
) -> None:  # fmt: skip
    """Let a slow teacher label pages, and a fast student learn them.

    The data needs no labels; with --label COLUMN, teacher and student are both judged by them. Measured on sites that the
    student has not seen. Writes the student and, beside it, its card (.md) and the report (.json).
    """
    from curate.classifiers import cards, judged, kinds, labelled
    from curate.classifiers.distil import distil as teach
    from curate.classifiers.distil import flat
    from curate.classifiers.rows import Tally
    from curate.pipeline.classifier_lines import distilled_lines

    chosen = checked_settings(student_kind, settings, max_mb, autotune)
    chosen.setdefault("seed", seed)
    path = model_file(student_kind, output, chosen.get("max_mb") is not None)
    slow, label = loaded(teacher, encoder)
    positive = positive or label or None
    gold = bool(named["label"])
    asked = judged.question(slow, positive)
    columns_asked = wanted(named, "text", *(["label"] if gold else []), "url", "group")
    tally = Tally()
    rows = list(
        labelled.read_rows(
            data, columns_asked, tally, target="regression" if asked.kind == "regression" else "labels", sample=sample,
            seed=seed, need_label=False,
        )
    )  # fmt: skip
    note(tally.lines())
    done = teach(
        slow, student_kind, rows, chosen, name=name or path.stem, version=version, positive=positive,
        progress=(lambda number, whole: None) if as_json else _progress, answers=None if answers is None else Path(answers),
    )  # fmt: skip
    done.student.save(path)
    report = done.report
    used = kinds.settings(student_kind, chosen).model_dump()
    facts = cards.facts_of(done.student, path, tally, used, flat(report)) | {"distilled": report}
    origin = f"Distilled from `{slow.name}`, version {slow.version}."
    cards.write(path, facts, data=data, command=command_line(), licence=licence, note=origin)
    say(as_json, facts, *distilled_lines(report), f"{path}: {facts['bytes']:,} bytes, SHA-256 {done.student.fingerprint}",
        f"card: {path.with_suffix('.md')}")  # fmt: skip


def _progress(done: int, whole: int) -> None:
    import sys

    if sys.stderr.isatty():
        click.echo(f"\rthe teacher has labelled {done:,} of {whole:,} pages", err=True, nl=done == whole)
