"""`curate generate`: what a checkpoint writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.commands_export import checkpoint_option
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.options import Real, guarded, json_option, print_json, workspace_option

if TYPE_CHECKING:
    from curate.pretrain.examples import Template


@click.command()
@click.argument("prompts", nargs=-1, metavar="[PROMPT]…")
@workspace_option
@checkpoint_option
@click.option(
    "--prompt-file", metavar="FILE",
    help="A text that is one prompt, or .jsonl with `prompt` or `input` on each line; - is standard input.",
)  # fmt: skip
@click.option("--examples", metavar="FILE.jsonl", help="Few-shot examples, `input` and `output` on each line.")
@click.option(
    "--template", metavar="TEXT",
    help="How an input and its output become one text, with {input} and {output}, \\n a new line [default: of a model that was "
    "fine-tuned on outputs its own; with --examples '{input}\\n{output}'; otherwise prompts are read as they stand].",
)  # fmt: skip
@click.option("--raw", is_flag=True, help="Read prompts as they stand, whatever the model was fine-tuned on.")
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, help="Tokens at most.")
@click.option("--temperature", type=Real(0), default=0.8, show_default=True, help="0: the likeliest token.")
@click.option("--top-k", type=click.IntRange(0), default=0, help="Only so many of the likeliest tokens [default: all].")
@click.option(
    "--top-p", type=Real(0, 1, min_open=True), default=1.0, show_default=True,
    help="Only the likeliest tokens with this chance together.",
)  # fmt: skip
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable, \\n is a new line.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Prompts at a time.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--show-prompt", is_flag=True, help="Print what the model reads, too.")
@json_option
@guarded
def generate(
    prompts: tuple[str, ...], workspace: str, checkpoint: str | None, prompt_file: str | None, examples: str | None,
    template: str | None, raw: bool, count: int, temperature: float, top_k: int, top_p: float, stop: tuple[str, ...],
    seed: int, batch_size: int, device: str, show_prompt: bool, as_json: bool,
) -> None:  # fmt: skip
    """Continue PROMPTs, or fill the [MASK]s in them.

    Prompts are arguments, a file or standard input. A causal model continues them, with few-shot examples if some are given;
    a masked model puts words in for every [MASK]. The same seed gives the same text.
    """
    from curate.pipeline.workspace import Workspace

    try:
        from curate.pretrain.examples import SEPARATOR
        from curate.pretrain.sample import Sampling
        from curate.pretrain.trained import open_trained
        from curate.pretrain.write import Writing, fill_masks, write
    except ImportError as error:
        raise CurateError(f"curate generate needs PyTorch: pip install 'curate-web[train]' ({error})") from error

    if raw and (template or examples):
        raise UsageError("--raw reads prompts as they stand: leave out --template and --examples")
    if "" in stop:
        raise UsageError("--stop needs a text before which to end")
    asked = _prompts(prompts, prompt_file)
    trained = open_trained(Workspace(workspace), checkpoint, device)
    if trained.mask is not None and trained.task is None:
        if template or examples or stop:
            raise UsageError("a masked model fills in words: leave out --template, --examples and --stop")
        for filled in [fill_masks(trained, prompt) for prompt in asked]:
            _show_filled(filled, as_json)
        return
    shots = _examples(examples) if examples else []
    form = _template(None if raw else template or trained.finetune.get("template"), bool(shots))
    rendered = [form.prompt(prompt, shots) if form else prompt for prompt in asked]
    stops = tuple(item.replace("\\n", "\n") for item in stop)
    how = Writing(
        count, Sampling(temperature, top_k, top_p), seed, (*stops, SEPARATOR) if shots else stops, batch_size
    )  # fmt: skip
    alone = len(rendered) == 1 and not as_json and sys.stdout.isatty()
    if alone and show_prompt:
        click.echo(_safe(rendered[0]), nl=False)
    results = write(trained, rendered, how, _print if alone else None)
    if alone:
        click.echo()
    for prompt, facts in zip(asked, results, strict=True):
        facts = facts | {"input": prompt, "output": form.output(facts["text"]) if form else facts["text"]}
        if as_json:
            print_json({"event": "result", **facts})
        elif not alone:
            click.echo(_safe(facts["prompt"] + facts["text"] if show_prompt else facts["output"]))
        if facts["unseen"]:
            click.echo(f"note: the model reads {trained.length:,} tokens: of the prompt, the first {facts['unseen']:,} are not "
                       "seen. Give fewer examples or a shorter text", err=True)  # fmt: skip


def _prompts(given: tuple[str, ...], file: str | None) -> list[str]:
    if given and file:
        raise UsageError("give prompts or --prompt-file, not both")
    if given:
        return list(given)
    if file is None and sys.stdin.isatty():
        raise UsageError("no prompt: give one as an argument, with --prompt-file or on standard input")
    if file is None or file == "-":
        return [sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n")]
    if not file.endswith((".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst")):
        try:
            return [Path(file).read_text("utf-8").removesuffix("\n")]
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is no UTF-8 text: {error}") from None
    return [_field(row, ("prompt", "input"), place) for place, row in _rows(file)]


def _examples(file: str) -> list[tuple[str, str]]:
    return [(_field(row, ("input",), place), _field(row, ("output",), place)) for place, row in _rows(file)]


def _rows(file: str) -> list[tuple[str, Any]]:
    """Every line's object and where it stands; none may be missing, for each is asked for by name."""
    import json

    from curate.pipeline.lines import lines

    found = []
    with Path(file).open("rb") as stream:
        for number, line in lines(stream, file):
            try:
                found.append((f"{file}:{number}", json.loads(line or b"")))
            except ValueError as error:
                raise UsageError(f"{file}:{number}: no JSON: {error}") from None
    if not found:
        raise UsageError(f"{file} is empty")
    return found


def _field(row: Any, names: tuple[str, ...], place: str) -> str:
    for name in names:
        if isinstance(row, dict) and isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    raise UsageError(f"{place}: no text in {' or '.join(repr(name) for name in names)}")


def _template(text: str | None, shots: bool) -> Template | None:
    """How prompts are rendered; None: they are read as they stand."""
    from curate.pretrain.examples import TEMPLATE, Template

    return Template.of(text or TEMPLATE) if text is not None or shots else None


def _show_filled(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"event": "result", **facts})
        return
    click.echo(_safe(facts["text"]))
    for number, mask in enumerate(facts["masks"], 1):
        shown = ", ".join(f"{guess['token']!r} {guess['score']:.3f}" for guess in mask)
        click.echo(_safe(f"  mask {number}: {shown}"))


def _print(number: int, text: str) -> None:
    click.echo(_safe(text), nl=False)
    sys.stdout.flush()


def _safe(text: str) -> str:
    """What a model writes may hold control characters, which a terminal must not obey."""
    from curate.pipeline.tables import printable_lines

    return printable_lines(text)
