"""`curate classifier`: train, judge and apply classifiers, and list those that ship."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.options import guarded, json_option, say

if TYPE_CHECKING:
    from curate.classifiers.model import Classifier
    from curate.classifiers.rows import Columns, Tally

AUTOTUNE_TRIALS = 20


@click.group()
def classifier() -> None:
    """Train, evaluate and apply classifiers; list those that ship."""


# --- options ----------------------------------------------------------------------------------------------------------


def _columns(*roles: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that name columns."""
    helps = {
        "text": "the text [default: text]",
        "label": "the label or number [default: label]",
        "url": "the URL, whose site the split goes by [default: url]",
        "group": "what the split keeps together, in place of the URL's site",
        "language": "the language [default: language, where there is one]",
        "weight": "how much a row counts",
        "confidence": "how sure the label is, 0 to 1",
        "id": "the id [default: id, where there is one]",
    }

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for role in reversed(roles):
            command = click.option(f"--{role}", metavar="COLUMN", help=f"Column of {helps[role]}.")(command)
        return command

    return decorate


data_option = click.option(
    "--data", "-d", multiple=True, required=True, metavar="GLOB|URL", help="Labelled JSONL or Parquet; repeatable."
)
sample_option = click.option("--sample", type=click.IntRange(1), metavar="N", help="Take N of the rows, drawn evenly.")
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
settings_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the kind; repeatable."
)
naming_options = (
    click.option("--name", help="Name that the model goes by [default: the file's]."),
    click.option("--version", default="1", show_default=True, help="Version of the model."),
    click.option("--max-mb", type=float, metavar="N", help="Quantise to at most N million bytes (fasttext)."),
    click.option("--autotune", is_flag=True, help=f"Try {AUTOTUNE_TRIALS} settings first, take the best (fasttext)."),
    click.option("--license", "licence", metavar="TEXT", help="Licence of the data, for the card."),
)


def _naming(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(naming_options):
        command = option(command)
    return command


def _wanted(given: Mapping[str, str | None], *roles: str) -> Columns:
    """The columns that the options name; those with a default that may be missing are optional."""
    from curate.classifiers.rows import Columns

    defaults = {"text": "text", "label": "label", "url": "url", "language": "language", "id": "id"}
    names: dict[str, Any] = {}
    optional = set()
    for role in roles:
        name = given.get(role) or defaults.get(role)
        if role == "url" and given.get("group") and not given.get("url"):
            continue
        names[role] = name
        if not given.get(role) and role in ("language", "id"):
            optional.add(role)
    return Columns(**names, optional=frozenset(optional))


def _settings(kind: str, given: Sequence[str], max_mb: float | None, autotune: bool) -> dict[str, Any]:
    """KEY=VALUE as YAML reads the value, and the options that are settings of some kinds alone; checked."""
    import yaml

    from curate.classifiers import kinds

    found: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {item!r}: give key=value, as in --set min_documents=3")
        try:
            found[key.strip()] = yaml.safe_load(value) if value else None
        except yaml.YAMLError as error:
            raise UsageError(f"--set {item!r}: {error}") from None
    known = kinds.settings_class(kind).model_fields
    for option, setting, wanted in (
        ("--max-mb", "max_mb", max_mb),
        ("--autotune", "trials", AUTOTUNE_TRIALS if autotune else None),
    ):
        if wanted is not None:
            if setting not in known:
                raise UsageError(f"{option} goes with fasttext; {kind} has the settings {', '.join(sorted(known))}")
            found.setdefault(setting, wanted)
    kinds.settings(kind, found)
    return found


def _output(kind: str, output: str, quantised: bool) -> Path:
    """The model's file; UsageError for a name that its kind does not have."""
    path = Path(output)
    wanted = ((".ftz",) if quantised else (".bin",)) if kind == "fasttext" else (".safetensors",)
    if path.suffix not in wanted:
        why = "; a quantised model (--max-mb) is .ftz, a plain one .bin" if kind == "fasttext" else ""
        raise UsageError(f"--output {output}: a {kind} model is a {wanted[0]} file{why}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {path.parent}")
    return path


def _loaded(model: str) -> tuple[Classifier, str]:
    """The classifier, and the one label that `name#label` asks for."""
    from curate.classifiers import load, resolve

    return load(model), resolve(model).label


def _command() -> str:
    """This command, as it was given."""
    import shlex
    import sys

    return shlex.join(["curate", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "curate" else "curate classifier …"


def _note(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line, err=True)


# --- train ------------------------------------------------------------------------------------------------------------


@classifier.command()
@click.argument("kind", metavar="KIND")
@data_option
@click.option("--output", "-o", required=True, metavar="FILE", help="The model: .safetensors, .bin or .ftz.")
@click.option(
    "--target", type=click.Choice(["labels", "regression"]), default="labels", show_default=True,
    help="Learn labels, or numbers.",
)  # fmt: skip
@click.option("--positive", metavar="LABEL", help="Give this label's probability alone, as a score.")
@_columns("text", "label", "url", "group", "weight", "confidence")
@_naming
@settings_option
@sample_option
@seed_option
@json_option
@guarded
def train(
    kind: str, data: tuple[str, ...], output: str, target: str, positive: str | None, name: str | None, version: str,
    max_mb: float | None, autotune: bool, licence: str | None, settings: tuple[str, ...], sample: int | None, seed: int,
    as_json: bool, **columns: str | None,
) -> None:  # fmt: skip
    """Train a classifier of a KIND: linear, fasttext or embedding.

    A fifth of the sites is kept out, always the same one, and the model is judged on it. Writes the model and, beside it,
    its card (.md) and scores (.json). The same data and settings give the same model, byte by byte.
    """
    from curate.classifiers import cards, kinds, labelled
    from curate.pipeline.classifier_lines import score_lines

    chosen = _settings(kind, settings, max_mb, autotune)
    if positive is not None:
        chosen["positive"] = positive
    if "seed" not in chosen:
        chosen["seed"] = seed
    path = _output(kind, output, chosen.get("max_mb") is not None)
    wanted = _wanted(columns, "text", "label", "url", "group", "weight", "confidence")
    held = labelled.read_examples(data, wanted, target=_target(target), sample=sample, seed=seed)
    _note(held.tally.lines())
    seen, unseen = held.examples.part(kept_out=False), held.examples.part(kept_out=True)
    if not len(seen):
        raise CurateError("every page is of a site that is kept out: give pages of more sites")
    if target == "labels" and positive is not None and positive not in set(seen.labels):
        raise UsageError(f"--positive: no text has the label {positive!r}{nearest(positive, set(seen.labels))}")
    if not as_json:
        sites = len(set(seen.groups)), len(set(unseen.groups))
        _note(
            [f"{len(seen):,} texts of {sites[0]:,} sites to learn from, {len(unseen):,} of {sites[1]:,} sites kept out"]
        )
    model = kinds.fit(kind, seen, chosen, name=name or path.stem, version=version)
    model.save(path)
    result = _judged_examples(model, unseen)
    scores = {each["name"]: each["value"] for each in result["scores"]} if result else {}
    kept_out = {"texts_kept_out": result["pages"]} if result else {}
    facts = cards.facts_of(model, path, held.tally, chosen, kept_out | scores)
    cards.write(path, facts, data=data, command=_command(), licence=licence)
    say(
        as_json, facts, f"{path}: {facts['bytes']:,} bytes, SHA-256 {model.fingerprint}",
        *(score_lines(result["scores"]) if result else []),
        f"card: {path.with_suffix('.md')}",
        f"next: {_evaluate_command(path, data, columns)}",
    )  # fmt: skip


def _evaluate_command(path: Path, data: Sequence[str], columns: Mapping[str, str | None]) -> str:
    """What judges the model on the same data."""
    import shlex

    named = [part for role, name in columns.items() if name for part in (f"--{role}", name)]
    given = [part for pattern in data for part in ("--data", pattern)]
    return shlex.join(["curate", "classifier", "evaluate", str(path), *given, *named])


def _target(given: str) -> Any:
    return given


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
        _note([f"the sites kept out cannot judge it: {error}"])
        return None
    return found


# --- evaluate ---------------------------------------------------------------------------------------------------------


@classifier.command()
@click.argument("model", metavar="MODEL")
@data_option
@_columns("text", "label", "url", "group", "language", "weight", "confidence")
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
@sample_option
@seed_option
@json_option
@guarded
def evaluate(
    model: str, data: tuple[str, ...], positive: str | None, precision: float | None, recall: float | None,
    kept: float | None, threshold: float | None, levels: tuple[float, ...], all_sites: bool, min_pages: int,
    bootstrap: int, outputs: tuple[str, ...], sample: int | None, seed: int, as_json: bool, **columns: str | None,
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
    loaded, label = _loaded(model)
    asked = judged.question(loaded, positive or label or None)
    if levels and asked.kind != "regression":
        raise UsageError("--from goes with numbers: this model is asked about labels")
    wanted = _wanted(columns, "text", "label", "url", "group", "language", "weight", "confidence")
    tally = Tally()
    rows = labelled.read_rows(
        data, wanted, tally, target="regression" if asked.kind == "regression" else "labels",
        part="all" if all_sites else "kept_out", sample=sample, seed=seed,
    )  # fmt: skip
    try:
        answers = judged.gather(loaded, rows, asked)
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
@_columns("text", "id")
@click.option("--url", metavar="COLUMN", help="Column of the URL [default: url, where there is one].")
@click.option("--output", "-o", metavar="FILE", help=".jsonl (.gz, .zst) or .parquet [default: JSONL, printed].")
@click.option("--probabilities", is_flag=True, help="The probability of every label, too.")
@json_option
@guarded
def score(
    model: str, files: tuple[str, ...], text: str | None, id: str | None, url: str | None, output: str | None,
    probabilities: bool, as_json: bool,
) -> None:  # fmt: skip
    """Score the texts of JSONL or Parquet FILES with a MODEL: a row out for every row in, in order.

    A row without text is scored as an empty one; a line that cannot be read gets no score. Both are said in `problem`.
    """
    import sys

    from curate.classifiers import scoring
    from curate.classifiers.rows import Columns, Tally, raw_rows
    from curate.pipeline.inputs import format_by_name

    if output is not None and format_by_name(output) not in ("jsonl", "parquet"):
        raise UsageError(f"--output {output}: scores are written as .jsonl (.gz, .zst) or .parquet")
    if output is None and as_json:
        raise UsageError("--json says what was done: give the scores a file with --output")
    loaded, _ = _loaded(model)
    columns = Columns(
        text=text or "text", id=id or "id", url=url or "url",
        optional=frozenset(role for role, name in (("id", id), ("url", url)) if name is None),
    )  # fmt: skip
    tally = Tally()
    names = scoring.schema(loaded, probabilities)
    rows = scoring.score(loaded, raw_rows(files, columns, tally), tally, probabilities)
    if output is None:
        scoring.write_jsonl(sys.stdout, names.names, rows)
        _note([f"{tally.rows:,} rows, {tally.used:,} scored", *_without_ids(tally)])
        return
    scoring.write(Path(output), names, rows)
    facts = {"output": output, "rows": tally.rows, "scored": tally.used, **tally.to_json()}
    say(as_json, facts, f"{output}: {tally.rows:,} rows, {tally.used:,} scored", *_without_ids(tally))


def _without_ids(tally: Tally) -> list[str]:
    """What is to be known of the rows; that there are no ids or URLs is plain to see."""
    return [line.replace("left out", "not scored") for line in tally.lines() if not line.startswith("no column")]


# --- distil -----------------------------------------------------------------------------------------------------------


@classifier.command()
@click.option("--teacher", required=True, metavar="MODEL", help="The slow classifier: a name, a file or NAME#LABEL.")
@click.option("--student-kind", required=True, metavar="KIND", help="linear, fasttext or embedding.")
@data_option
@click.option("--output", "-o", required=True, metavar="FILE", help="The student: .safetensors, .bin or .ftz.")
@_columns("text", "label", "url", "group")
@click.option("--positive", metavar="LABEL", help="The label of the data that a score stands for.")
@click.option("--answers", metavar="FILE", help="Keep the teacher's answers here (.jsonl); none is asked for twice.")
@_naming
@settings_option
@sample_option
@seed_option
@json_option
@guarded
def distil(
    teacher: str, student_kind: str, data: tuple[str, ...], output: str, positive: str | None, answers: str | None,
    name: str | None, version: str, max_mb: float | None, autotune: bool, licence: str | None, settings: tuple[str, ...],
    sample: int | None, seed: int, as_json: bool, **columns: str | None,
) -> None:  # fmt: skip
    """Let a slow teacher label pages, and a fast student learn them.

    The data needs no labels; with --label COLUMN, teacher and student are both judged by them. Measured on sites that the
    student has not seen. Writes the student and, beside it, its card (.md) and the report (.json).
    """
    from curate.classifiers import cards, judged, labelled
    from curate.classifiers.distil import distil as teach
    from curate.classifiers.distil import flat
    from curate.classifiers.rows import Tally
    from curate.pipeline.classifier_lines import distilled_lines

    chosen = _settings(student_kind, settings, max_mb, autotune)
    chosen.setdefault("seed", seed)
    path = _output(student_kind, output, chosen.get("max_mb") is not None)
    loaded, label = _loaded(teacher)
    positive = positive or label or None
    gold = bool(columns["label"])
    asked = judged.question(loaded, positive)
    wanted = _wanted(columns, "text", *(["label"] if gold else []), "url", "group")
    tally = Tally()
    rows = list(
        labelled.read_rows(
            data, wanted, tally, target="regression" if asked.kind == "regression" else "labels", sample=sample,
            seed=seed, need_label=False,
        )
    )  # fmt: skip
    _note(tally.lines())
    done = teach(
        loaded, student_kind, rows, chosen, name=name or path.stem, version=version, positive=positive,
        progress=(lambda number, whole: None) if as_json else _progress, answers=None if answers is None else Path(answers),
    )  # fmt: skip
    done.student.save(path)
    report = done.report
    facts = cards.facts_of(done.student, path, tally, chosen, flat(report)) | {"distilled": report}
    note = f"Distilled from `{loaded.name}`, version {loaded.version}."
    cards.write(path, facts, data=data, command=_command(), licence=licence, note=note)
    say(as_json, facts, *distilled_lines(report), f"{path}: {facts['bytes']:,} bytes, SHA-256 {done.student.fingerprint}",
        f"card: {path.with_suffix('.md')}")  # fmt: skip


def _progress(done: int, whole: int) -> None:
    import sys

    if sys.stderr.isatty():
        click.echo(f"\rthe teacher has labelled {done:,} of {whole:,} pages", err=True, nl=done == whole)


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
