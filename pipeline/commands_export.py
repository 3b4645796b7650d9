"""`curate export`: a checkpoint as a folder for other programs."""

from __future__ import annotations

import click

from curate.pipeline.errors import CurateError
from curate.pipeline.options import guarded, json_option, say, workspace_option

checkpoint_option = click.option(
    "--checkpoint", metavar="NAME",
    help="A step, a fine-tuning run's name (or name/step), or a checkpoint's folder [default: the newest of pretraining].",
)  # fmt: skip


@click.command()
@workspace_option
@click.option(
    "--format", "kind", type=click.Choice(["hf"]), default="hf", show_default=True, help="hf: for transformers."
)
@checkpoint_option
@click.option("--output", "-o", required=True, metavar="DIR", help="A folder that is new or empty.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
    help="Of the weights in the file.",
)  # fmt: skip
@json_option
@guarded
def export(workspace: str, kind: str, checkpoint: str | None, output: str, dtype: str, as_json: bool) -> None:
    """Write a checkpoint as a folder that transformers loads.

    A causal model becomes LlamaForCausalLM, a masked one EuroBertForMaskedLM, a classifier the same family's
    …ForSequenceClassification; with its tokenizer and a model card.
    """
    from curate.pipeline.workspace import Workspace

    try:
        from curate.pretrain.export import export_hf
    except ImportError as error:
        raise CurateError(f"curate export needs PyTorch: pip install 'curate-web[train]' ({error})") from error

    facts = export_hf(Workspace(workspace), output, checkpoint=checkpoint, dtype=dtype) | {"format": kind}
    size = sum(facts["files"].values())
    say(
        as_json,
        facts,
        f"export: {facts['architecture']} with {facts['parameters']:,} parameters ({dtype}) of {facts['checkpoint']}",
        f"        {size:,} bytes in {output}: {', '.join(facts['files'])}",
        f'next: python -c \'from transformers import pipeline; print(pipeline("{facts["pipeline"]}", "{output}")'
        f'("{facts["prompt"]}"))\'',
    )
