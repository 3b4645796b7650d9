"""`curate classifier`: judge and apply classifiers, list those that ship; with `train` and `distil` beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.pipeline.classifier_options import (
    columns,
    data_option,
    encoder_option,
    loaded,
    note,
    sample_option,
    seed_option,
    wanted,
)
from curate.pipeline.commands_classifier_train import distil, train
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import guarded, json_option, say

if TYPE_CHECKING:
    from curate.classifiers.rows import Tally


@click.group()
def classifier() -> None:
    """Train, evaluate and apply classifiers; list those that ship."""


classifier.add_command(train)
classifier.add_command(distil)


# --- evaluate ---------------------------------------------------------------------------------------------------------


@classifier.command()
@click.argument("model", metavar="MODEL")
@data_option
@columns("text", "label", "url", "group", "language", "weight", "confidence")
@click.option("--positive", metavar="LABEL", help="The label that the score stands for.")
@click.option(
    "--precision", type=click.FloatRange(0, 1), metavar="SHARE", help="Find the threshold with this precision."
)
@click.option("--recall", type=click.FloatRange(0, 1), metavar="SHARE", help="Find the threshold with this recall.")
@click.option("--kept", type=click.FloatRange(0, 1), metavar="SHARE", help="Find the threshold that keeps this share.")
@click.option("--threshold", type=float, help="Show what this threshold gives [default: the one found, or one half].")
@click.option(
    "--from", "levels", type=float, multiple=True, help="A page counts as wanted from this number on; repeatable."
)
@click.option("--all-sites", is_flag=True, help="Not only the sites that are kept out of training.")
@click.option(
    "--min-pages", type=click.IntRange(1), default=10, show_default=True, help="List sites of at least so many."
)
@click.option("--bootstrap", type=click.IntRange(0), default=200, show_default=True, help="Draws for the intervals.")
@click.option(
    "--output", "-o", "outputs", multiple=True, metavar="FILE",
    help="Page (.html) or numbers (.json); repeatable [default: NAME-evaluation.html].",
)  # fmt: skip
@encoder_option
@sample_option
@seed_option
@json_option
@guarded
def evaluate(
    model: str, data: tuple[str, ...], positive: str | None, precision: float | None, recall: float | None,
    kept: float | None, threshold: float | None, levels: tuple[float, ...], all_sites: bool, min_pages: int,
    bootstrap: int, outputs: tuple[str, ...], encoder: str | None, sample: int | None, seed: int, as_json: bool,
    **named: str | None,
) -> None:  # fmt: skip
    """Judge a MODEL (a name, a file or NAME#LABEL) on labelled texts.

    Only pages of the sites that `train` keeps out are looked at, so that no page of training is among them.
    """
    import json

    from curate.classifiers import judged, labelled
    from curate.classifiers.evaluate import measure
    from curate.classifiers.rows import Tally
    from curate.pipeline.classifier_lines import judgement_lines
    from curate.pipeline.workspace import Workspace

    for output in outputs:
        if Path(output).suffix not in (".html", ".json"):
            raise UsageError(f"--output {output}: the page is a .html file, the numbers are a .json file")
    judge, label = loaded(model, encoder)
    asked = judged.question(judge, positive or label or None)
    if levels and asked.kind != "regression":
        raise UsageError("--from goes with numbers: this model is asked about labels")
    columns_asked = wanted(
        named, "text", "label", "url", "group", "language", "weight", "confidence",
        optional=("language", "url") if all_sites else ("language",),
    )  # fmt: skip
    tally = Tally()
    rows = labelled.read_rows(
        data, columns_asked, tally, target="regression" if asked.kind == "regression" else "labels",
        part="all" if all_sites else "kept_out", sample=sample, seed=seed,
    )  # fmt: skip
    try:
        answers = judged.gather(judge, rows, asked)
    except CurateError as error:
        said = "; ".join(tally.lines())
        raise type(error)(f"{error}{f' ({said})' if said else ''}") from None
    goals = {
        name: value
        for name, value in (("precision", precision), ("recall", recall), ("kept", kept))
        if value is not None
    }
    result = measure(
        answers, goals=goals, threshold=threshold, at=levels, min_pages=min_pages, draws=bootstrap, seed=seed
    )
    result |= {"data": tally.to_json(), "all_sites": all_sites, "files": [*data]}
    written = outputs or (f"{Path(model.replace('#', '-')).stem or 'model'}-evaluation.html",)
    for output in written:
        path = Path(output)
        if path.suffix == ".html":
            from curate.report.judgement import page

            content = page(result).encode()
        else:
            content = (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode()
        Workspace(str(path.parent)).write_bytes(path.name, content)
    say(
        as_json,
        result | {"written": [*written]},
        *judgement_lines(result, tally.lines()),
        *(f"written: {name}" for name in written),
    )


# --- score ------------------------------------------------------------------------------------------------------------


@classifier.command()
@click.argument("model", metavar="MODEL")
@click.argument("files", nargs=-1, required=True, metavar="FILE …")
@columns("text", "id")
@click.option("--url", metavar="COLUMN", help="Column of the URL [default: url, where there is one].")
@click.option("--output", "-o", metavar="FILE", help=".jsonl (.gz, .zst) or .parquet [default: JSONL, printed].")
@click.option("--probabilities", is_flag=True, help="The probability of every label, too.")
@encoder_option
@json_option
@guarded
def score(
    model: str, files: tuple[str, ...], text: str | None, id: str | None, url: str | None, output: str | None,
    encoder: str | None, probabilities: bool, as_json: bool,
) -> None:  # fmt: skip
    """Score the texts of JSONL or Parquet FILES with a MODEL: a row out for every row in, in order.

    A row without text is scored as an empty one; a line that cannot be read gets no score. Both are said in `problem`.
    """
    import os
    import sys

    from curate.classifiers import scoring
    from curate.classifiers.rows import Columns, Tally, raw_rows
    from curate.pipeline.inputs import format_by_name

    if output is not None and format_by_name(output) not in ("jsonl", "parquet"):
        raise UsageError(f"--output {output}: scores are written as .jsonl (.gz, .zst) or .parquet")
    if output is None and as_json:
        raise UsageError("--json says what was done: give the scores a file with --output")
    judge, _ = loaded(model, encoder)
    asked = Columns(
        text=text or "text", id=id or "id", url=url or "url",
        optional=frozenset(role for role, name in (("id", id), ("url", url)) if name is None),
    )  # fmt: skip
    tally = Tally()
    names = scoring.schema(judge, probabilities)
    rows = scoring.score(judge, raw_rows(files, asked, tally), tally, probabilities)
    if output is None:
        try:
            scoring.write_jsonl(sys.stdout, names.names, rows)
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has what it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        note([f"{tally.rows:,} rows, {tally.used:,} scored", *_without_ids(tally)])
        return
    scoring.write(Path(output), names, rows)
    facts = {"output": output, "rows": tally.rows, "scored": tally.used, **tally.to_json()}
    say(as_json, facts, f"{output}: {tally.rows:,} rows, {tally.used:,} scored", *_without_ids(tally))


def _without_ids(tally: Tally) -> list[str]:
    """What is to be known of the rows; that there are no ids or URLs is plain to see."""
    return [line.replace("left out", "not scored") for line in tally.lines() if not line.startswith("no column")]


# --- list, show -------------------------------------------------------------------------------------------------------


@classifier.command("list")
@json_option
@guarded
def list_them(as_json: bool) -> None:
    """List the classifiers by name, with kind, output and one line of description."""
    from dataclasses import asdict

    from curate.classifiers import list_models

    found = list_models()
    width = max(len(item.source) for item in found)
    lines = (f"{item.source:{width}}  {item.kind:9}  {item.output:5}  {item.description}" for item in found)
    say(as_json, {"classifiers": [asdict(item) for item in found]}, *lines)


@classifier.command()
@click.argument("name", metavar="NAME|FILE")
@json_option
@guarded
def show(name: str, as_json: bool) -> None:
    """Print a classifier's card: data, licence, date, command, scores; for a heuristic its definition.

    Of a model file of your own, the card that lies beside it, or what the model says of itself.
    """
    from curate.classifiers import card, cards, resolve
    from curate.pipeline.tables import printable_lines

    reference = resolve(name)
    text = card(name) if reference.kind != "file" else cards.read(Path(reference.source))
    say(as_json, {"name": name, "card": text}, printable_lines(text.rstrip("\n")))
