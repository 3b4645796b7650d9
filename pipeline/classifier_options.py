"""What the commands of `curate classifier` share: options, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.errors import UsageError

if TYPE_CHECKING:
    from curate.classifiers.model import Classifier
    from curate.classifiers.rows import Columns

AUTOTUNE_TRIALS = 20


def columns(*roles: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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
encoder_option = click.option(
    "--encoder", metavar="FOLDER",
    help="Sentence encoder of an embedding model [default: the one of that name installed, or beside the model's file].",
)  # fmt: skip
naming_options = (
    click.option("--name", help="Name that the model goes by [default: the file's]."),
    click.option("--version", default="1", show_default=True, help="Version of the model."),
    click.option("--max-mb", type=float, metavar="N", help="Quantise to at most N million bytes (fasttext)."),
    click.option("--autotune", is_flag=True, help=f"Try {AUTOTUNE_TRIALS} settings first, take the best (fasttext)."),
    click.option("--license", "licence", metavar="TEXT", help="Licence of the data, for the card."),
)


def naming(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(naming_options):
        command = option(command)
    return command


def wanted(given: Mapping[str, str | None], *roles: str, optional: Sequence[str] = ("language", "id")) -> Columns:
    """The columns that the options name; `optional`: those that may be missing where no option names them."""
    from curate.classifiers.rows import Columns

    defaults = {"text": "text", "label": "label", "url": "url", "language": "language", "id": "id"}
    names: dict[str, Any] = {}
    for role in roles:
        name = given.get(role) or defaults.get(role)
        if role == "url" and given.get("group") and not given.get("url"):
            continue
        names[role] = name
    return Columns(**names, optional=frozenset(role for role in optional if role in roles and not given.get(role)))


def checked_settings(kind: str, given: Sequence[str], max_mb: float | None, autotune: bool) -> dict[str, Any]:
    """KEY=VALUE as YAML reads the value, and the options that are settings of some kinds alone; checked."""
    import yaml

    from curate.classifiers import kinds

    found: dict[str, Any] = {}
    for item in given:
        key, equals, said = item.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {item!r}: give key=value, as in --set min_documents=3")
        try:
            found[key.strip()] = yaml.safe_load(said) if said else None
        except yaml.YAMLError as error:
            raise UsageError(f"--set {item!r}: {error}") from None
    known = kinds.settings_class(kind).model_fields
    for option, setting, value in (
        ("--max-mb", "max_mb", max_mb),
        ("--autotune", "trials", AUTOTUNE_TRIALS if autotune else None),
    ):
        if value is not None:
            if setting not in known:
                raise UsageError(f"{option} goes with fasttext; {kind} has the settings {', '.join(sorted(known))}")
            found.setdefault(setting, value)
    kinds.settings(kind, found)
    return found


def model_file(kind: str, output: str, quantised: bool) -> Path:
    """The model's file; UsageError for a name that its kind does not have."""
    path = Path(output)
    ending = (".ftz" if quantised else ".bin") if kind == "fasttext" else ".safetensors"
    if path.suffix != ending:
        why = "; a quantised model (--max-mb) is .ftz, a plain one .bin" if kind == "fasttext" else ""
        raise UsageError(f"--output {output}: a {kind} model is a {ending} file{why}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {path.parent}")
    for beside in (path.with_suffix(".md"), path.with_suffix(".json")):  # the card and the scores
        if beside.exists() and not path.exists():
            raise UsageError(
                f"--output {output}: {beside} is there already, where the model's card would go, and no "
                "model beside it: give another name"
            )
    return path


def loaded(model: str, encoder: str | None) -> tuple[Classifier, str]:
    """The classifier, and the one label that `name#label` asks for."""
    from curate.classifiers import load, resolve

    return load(model, encoder=encoder), resolve(model).label


def command_line() -> str:
    """This command, as it was given."""
    import shlex
    import sys

    return shlex.join(["curate", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "curate" else "curate classifier …"


def note(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line, err=True)
