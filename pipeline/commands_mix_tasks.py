"""`curate mix tasks`: which tasks the swarm's runs can decide on."""

from __future__ import annotations

from typing import Any

import click

from curate.pipeline.commands_mix_solve import MEASURES, first_measure, places, read
from curate.pipeline.options import Real, guarded, json_option, say

TASKS = "tasks.json"


@click.command()
@click.option("--workspace", "-w", metavar="DIR|URL", help="Folder or URL of the swarm's workspace.")
@click.option("--swarm", default="swarm", show_default=True, metavar="NAME", help="Folder of the swarm below it.")
@click.option("--runs", "runs_file", metavar="FILE", help="Runs from elsewhere: CSV or Parquet, a run a row.")
@click.option("--losses", metavar="FILE", help="Their losses, where they lie in a file of their own (RegMix's tables).")
@click.option(
    "--measure", metavar="NAME", help=f"What counts: {', '.join(MEASURES)} [default: the first that the runs have]."
)
@click.option("--clusters", type=click.IntRange(1), help="Families of tasks [default: as their silhouettes say].")
@click.option("--cut", type=Real(min=0), help="Ward distance below which tasks are one family.")
@json_option
@guarded
def tasks(clusters: int | None, cut: float | None, **options: Any) -> None:
    """Tell which tasks carry signal.

    Families of tasks that rank the runs alike (Ward), and for each task the spread across mixtures over the noise across
    seeds. Writes W/swarm/tasks.json, which `curate mix solve --tasks signal` reads.
    """
    from curate.mixtures.tasks import study
    from curate.pipeline.errors import UsageError

    if clusters is not None and cut is not None:
        raise UsageError("--clusters and --cut both say how many families there are: give one")
    _, swarm = places(options)
    runs = read(swarm, options)
    measure = options["measure"] or first_measure(runs)
    found = study(runs.select(measure), clusters=clusters, cut=cut)
    facts = found.to_json() | {"measure": measure}
    lines = found.lines()
    if swarm is not None:
        swarm.write_json(TASKS, facts)
        name = f"{options['workspace']}/{options['swarm']}"
        only = " --tasks signal" if found.signal and len(found.signal) < len(found.tasks) else ""
        flag = "" if options["swarm"] == "swarm" else f" --swarm {options['swarm']}"
        lines.append(f"tasks: {name}/{TASKS}")
        lines.append(f"next: curate mix solve --workspace {options['workspace']}{flag} --budget 10B{only}")
    say(options["as_json"], facts, *lines)
