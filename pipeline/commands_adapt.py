"""`curate finetune` and `curate predict`: a trained model made to do one thing, and doing it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from curate.pipeline.commands_export import checkpoint_option
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import Real, guarded, json_option, say, workspace_option

device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@workspace_option
@click.option("--name", required=True, help="Of the run: its folder is pretrain/finetune/NAME in the workspace.")
@checkpoint_option
@click.option("--input", "input_column", metavar="COLUMN", help="Of the inputs [default: input].")
@click.option("--output", "output_column", metavar="COLUMN", help="Of the outputs [default: output].")
@click.option("--text", "text_column", metavar="COLUMN", help="Of the texts that have labels [default: text].")
@click.option("--label", "label_column", metavar="COLUMN", help="Of the labels: makes a classifier.")
@click.option(
    "--template", metavar="TEXT",
    help="How an input and its output become one text, \\n a new line [default: '{input}\\n{output}'].",
)  # fmt: skip
@click.option("--train", type=click.Choice(["all", "head"]), default="all", show_default=True, help="What learns.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Passes over the rows.")
@click.option("--lr", type=Real(0), help="Highest learning rate [default: a tenth of pretraining's; 1e-3 for a head].")
@click.option("--warmup", type=Real(0, 1), default=0.1, show_default=True, help="Part of the steps.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Rows in a step at most.")
@click.option(
    "--batch-tokens", type=click.IntRange(1), default=16_384, show_default=True, help="Tokens in a step at most."
)
@click.option("--max-length", type=click.IntRange(8), help="Tokens of a row at most [default: as pretrained].")
@click.option(
    "--validation", type=Real(0, 1, max_open=True), default=0.1, show_default=True,
    help="Part of the rows that is held out to score.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--checkpoint-every", type=click.IntRange(1), default=100, show_default=True, help="Steps.")
@device_option
@click.option(
    "--tracker", "trackers", type=click.Choice(["tensorboard", "wandb"]), multiple=True,
    help="Where the log is shown as well; repeatable.",
)  # fmt: skip
@click.option("--restart", is_flag=True, help="Throw an earlier run of this name away first.")
@json_option
@guarded
def finetune(
    files: tuple[str, ...], workspace: str, name: str, checkpoint: str | None, restart: bool, as_json: bool, **options: Any
) -> None:  # fmt: skip
    """Train a checkpoint further on rows of (input, output) or (text, label).

    FILEs are JSONL (plain, .gz, .zst) or Parquet. With --label COLUMN the model gets a head that gives labels, for `curate
    predict`; otherwise it learns to write the output after the input, for `curate generate`. The same command goes on where
    it stopped.
    """
    from curate.pipeline.lock import driver_lock
    from curate.pipeline.progress_training import TrainingDisplay
    from curate.pipeline.workspace import Workspace

    try:
        from curate.pretrain import finetune as tuning
        from curate.pretrain.examples import Template
    except ImportError as error:
        raise CurateError(f"curate finetune needs PyTorch: pip install 'curate-web[train]' ({error})") from error

    columns, task = _columns(options)
    if task == "labels" and options["template"]:
        raise UsageError("--template goes with inputs and outputs, not with --label")
    if options["lr"] is not None and not 0 < options["lr"] <= 1:
        raise UsageError(f"--lr {options['lr']}: a learning rate lies above 0 and is at most 1")
    template = Template.of(options.pop("template") or Template().text).text
    config = tuning.FinetuneConfig.model_validate(
        options
        | {"task": task, "columns": columns, "checkpoint": checkpoint, "template": template}
        | {"trackers": list(options["trackers"])}
    )
    place = Workspace(workspace)
    with driver_lock(place), TrainingDisplay(f"finetune {name}", as_json=as_json) as display:
        result = tuning.finetune(place, name, files, config, progress=display.show, restart=restart)
    use = "predict FILE" if task == "labels" else "generate PROMPT"
    say(
        as_json,
        result,
        display.done,
        f"next: curate {use} --workspace {workspace} --checkpoint {name}",
        f"also: curate export --workspace {workspace} --checkpoint {name} --output DIR",
    )


def _columns(options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """The columns, and the task that they make; takes them out of the options."""
    given = {role: options.pop(f"{role}_column") for role in ("input", "output", "text", "label")}
    if given["label"]:
        if given["input"] or given["output"]:
            raise UsageError("--label makes a classifier of --text: leave out --input and --output")
        return _different({"text": given["text"] or "text", "label": given["label"]}), "labels"
    if given["text"]:
        raise UsageError("--text goes with --label COLUMN; outputs are learnt from --input and --output")
    return _different({"input": given["input"] or "input", "output": given["output"] or "output"}), "outputs"


def _different(columns: dict[str, str]) -> dict[str, str]:
    """UsageError where one column is both what is read and what is learnt."""
    (first, column), (second, other) = columns.items()
    if column == other:
        raise UsageError(f"--{first} and --{second} are the same column, {column!r}")
    return columns


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@workspace_option
@click.option("--checkpoint", required=True, metavar="NAME", help="Of the fine-tuning run that made the classifier.")
@click.option("--text", metavar="COLUMN", help="Of the texts [default: text].")
@click.option("--id", "identity", metavar="COLUMN", help="Written with each row [default: id, else file and line].")
@click.option("--output", "-o", metavar="FILE", help="Where to write JSONL [default: standard output].")
@click.option("--scores", is_flag=True, help="The chances of all labels, not only the likeliest's.")
@device_option
@json_option
@guarded
def predict(
    files: tuple[str, ...], workspace: str, checkpoint: str, text: str | None, identity: str | None, output: str | None,
    scores: bool, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Label texts with a classifier that `curate finetune --label` made: a row out for every row in, in order.

    A row without text and a line that cannot be read get no label, and their `problem`.
    """
    from curate.pipeline.workspace import Workspace

    try:
        from curate.pretrain.examples import Rejected
        from curate.pretrain.predict import predict_rows
        from curate.pretrain.trained import open_trained
    except ImportError as error:
        raise CurateError(f"curate predict needs PyTorch: pip install 'curate-web[train]' ({error})") from error
    from curate.classifiers.rows import Columns

    if output is None and as_json:
        raise UsageError("--json says what was done: give the labels a file with --output")
    trained = open_trained(Workspace(workspace), checkpoint, device)
    optional = frozenset({"id"} if identity is None else ())
    columns = Columns(text=text or "text", id=identity or "id", optional=optional)
    rejected = Rejected()
    rows = predict_rows(trained, files, columns, rejected, scores)
    if output is None:
        _echo(rows)
    else:
        _write(Path(output), rows)
        say(as_json, {"output": output, **rejected.counts()}, f"predict: {output}")
    if not as_json:
        for line in rejected.lines():
            click.echo(line, err=True)


def _echo(rows: Iterable[dict[str, Any]]) -> None:
    import json

    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=False))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """The file appears when it is whole."""
    import json

    from curate.pipeline.workspace import Workspace

    with Workspace(path.absolute().parent).create(path.name) as stream:
        for row in rows:
            stream.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
