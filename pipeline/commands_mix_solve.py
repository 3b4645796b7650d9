"""`curate mix solve`: from the swarm's runs, or runs from elsewhere, to the weights of the mix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.errors import UsageError
from curate.pipeline.options import Real, guarded, json_option, say

if TYPE_CHECKING:
    from curate.mixtures.ground import Ground
    from curate.mixtures.runs import Runs
    from curate.pipeline.workspace import Workspace

RESULTS = "results.parquet"
SOLUTION = "solution.json"
WEIGHTS = "weights.json"
MEASURES = ("bits_per_byte", "task", "loss")
"""What runs are judged by, the first that they have: bits per byte on held-out text of each domain, on the gold answers of
tasks, loss in nats a token (which depends on the tokenizer)."""


@click.command()
@click.option("--workspace", "-w", metavar="DIR|URL", help="Folder or URL of the swarm's workspace.")
@click.option("--swarm", default="swarm", show_default=True, metavar="NAME", help="Folder of the swarm below it.")
@click.option("--runs", "runs_file", metavar="FILE", help="Runs from elsewhere: CSV or Parquet, a run a row.")
@click.option("--losses", metavar="FILE", help="Their losses, where they lie in a file of their own (RegMix's tables).")
@click.option(
    "--available", metavar="FILE", help="CSV domain,tokens [default: the workspace's buckets; else no limit]."
)
@click.option("--prior", metavar="FILE", help="CSV domain,share: the natural mixture [default: by tokens].")
@click.option("--budget", metavar="TOKENS", help="Tokens in the mix, as 10B: how scarce each domain is.")
@click.option(
    "--measure", metavar="NAME", help=f"What counts: {', '.join(MEASURES)} [default: the first that the runs have]."
)
@click.option(
    "--tasks", metavar="NAMES", help="Of these, the ones that count, as a,b; `signal`: those that `tasks` found."
)
@click.option(
    "--kind", type=click.Choice(["auto", "ridge", "log-linear", "gp", "trees"]), default="auto", show_default=True,
    help="The regression; auto: the best cross-validated.",
)  # fmt: skip
@click.option(
    "--aggregate", type=click.Choice(["mean", "worst", "worst-change"]), default="mean", show_default=True,
    help="What of the tasks is made small.",
)  # fmt: skip
@click.option(
    "--max-repeats", type=Real(min=0, min_open=True), help="Repeats of a domain at most [default: the recipe's]."
)
@click.option("--kl", type=Real(min=0), default=0.05, show_default=True, help="Price of leaving the natural mixture.")
@click.option("--floor", "floors", multiple=True, metavar="DOMAIN=SHARE", help="Least share of a domain; repeatable.")
@click.option("--cap", "caps", multiple=True, metavar="DOMAIN=SHARE", help="Largest share of a domain; repeatable.")
@click.option(
    "--bootstrap", type=click.IntRange(0, 10_000), default=50, show_default=True, help="Resamples behind the intervals."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=click.Path(file_okay=False), help="Folder for the two files [default: the swarm's].")
@json_option
@guarded
def solve(**options: Any) -> None:
    """Fit the runs; solve for the best mixture.

    Reads W/swarm/results.parquet, or --runs FILE. Writes solution.json (all that is said here) and weights.json, ready for
    `curate mix --weights`.
    """
    from curate.mixtures.solution import Question, measured, solution
    from curate.mixtures.solution_lines import solution_lines
    from curate.pipeline.workspace import Workspace

    place, swarm = places(options)
    budget = _budget(options["budget"])
    floors, caps = (_shares(options[name], name[:-1]) for name in ("floors", "caps"))
    runs = read(swarm, options)
    measure = options["measure"] or first_measure(runs)
    found, notes = measured(runs, measure, _chosen(options["tasks"], swarm))
    ground = _ground(place, swarm, found, options)
    most, said = _max_repeats(place, options["max_repeats"])
    question = Question(
        budget, options["kind"], most, options["kl"], options["aggregate"], floors, caps, options["bootstrap"],
        options["seed"],
    )  # fmt: skip
    if not options["as_json"]:
        work = f", then {question.bootstrap} times more for the intervals" if question.bootstrap else ""
        click.echo(f"fitting {len(found.tasks):,} tasks of {len(found.names):,} runs{work}", err=True)
    facts, weights = solution(found, ground, question, measure)
    facts["notes"] = [*notes, *facts["notes"], *said]
    shares = _by_bucket(weights, ground, place)
    target = Workspace(options["output"]) if options["output"] else swarm
    if target is None:
        target = Workspace(".")
    target.write_json(SOLUTION, facts)
    target.write_json(WEIGHTS, shares)
    name = options["output"] or (f"{options['workspace']}/{options['swarm']}" if swarm is not None else ".")
    say(options["as_json"], facts, *solution_lines(facts), *_next(options, name, ground, place))


def places(options: dict[str, Any]) -> tuple[Workspace | None, Workspace | None]:
    """The workspace and the swarm's own one below it; neither is needed for runs from elsewhere."""
    from curate.pipeline.workspace import Workspace

    if options["losses"] and not options["runs_file"]:
        raise UsageError("--losses goes with --runs")
    if options["workspace"] is None:
        if options["runs_file"] is None:
            raise UsageError("give a workspace with a finished swarm (-w W), or runs from elsewhere (--runs FILE)")
        return None, None
    return Workspace(options["workspace"]), Workspace(f"{options['workspace'].rstrip('/')}/{options['swarm']}")


def _budget(text: str | None) -> int | None:
    from curate.mixtures.config import parse_budget

    try:
        return None if text is None else parse_budget(text)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None


def _shares(given: tuple[str, ...], option: str) -> dict[str, float]:
    found = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not equals or not name or not 0 <= share <= 1:
            raise UsageError(
                f"--{option} {text}: give domain=share, as in --{option} science=0.05, a share from 0 to 1"
            )
        found[name] = share
    return found


def read(swarm: Workspace | None, options: dict[str, Any]) -> Runs:
    """The swarm's runs, or those from elsewhere."""
    if swarm is not None and not options["runs_file"] and not swarm.exists(RESULTS):
        w = options["workspace"]
        raise UsageError(
            f"{w}/{options['swarm']} has no {RESULTS}: run `curate mix swarm -w {w}` first, or give --runs FILE"
        )
    from curate.mixtures.runs import read_runs

    if options["runs_file"]:
        return read_runs(options["runs_file"], options["losses"])
    assert swarm is not None
    with swarm.open(RESULTS) as stream:  # wherever the workspace lies
        return read_runs(stream)


def first_measure(runs: Runs) -> str:
    """The first of MEASURES that the runs have; else what their columns begin with."""
    prefixes = {name.split("/", 1)[0] for name in runs.tasks}
    return next((name for name in MEASURES if name in prefixes), sorted(prefixes)[0] if prefixes else MEASURES[0])


def _chosen(text: str | None, swarm: Workspace | None) -> list[str]:
    """Names of tasks; `signal` are those that `curate mix tasks` found to carry signal."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if names != ["signal"]:
        return names
    facts = swarm.read_json("tasks.json") if swarm is not None else None
    if facts is None:
        raise UsageError("--tasks signal: there is no tasks.json yet: run `curate mix tasks` first")
    carrying = [str(name) for name in facts["signal"]]
    if not carrying:
        raise UsageError(
            "--tasks signal: no task carries signal at this size: train larger proxies, or more replicates"
        )
    return carrying


def _ground(place: Workspace | None, swarm: Workspace | None, runs: Runs, options: dict[str, Any]) -> Ground:
    from curate.mixtures.domains import counted
    from curate.mixtures.ground import of_files, of_workspace

    table = counted(place) if place is not None else None
    if place is not None and swarm is not None and options["runs_file"] is None:
        for name in ("available", "prior"):
            if options[name]:
                raise UsageError(f"--{name} goes with --runs: the swarm's own design and buckets say it here")
        found = of_workspace(place, swarm, runs.domains, table)
        if found is not None:
            return found
    return of_files(runs.domains, runs.weights.mean(axis=0), options["available"], options["prior"], table)


def _max_repeats(place: Workspace | None, given: float | None) -> tuple[float, list[str]]:
    """Repeats of a domain at most: what is given, or the recipe's, as far as its upsampling curve can give them."""
    from curate.mixtures.upsample import largest_ratio
    from curate.pipeline import session

    if given is not None or place is None or not place.exists(session.RECIPE):
        return given or 4.0, []
    mix = session.workspace_recipe(place, None).section("mix")
    most = float(mix.max_repeats)
    curve = getattr(mix, "upsample", None)
    if curve is None:
        return most, []
    can = largest_ratio(curve.floor, b=curve.top, most=min(curve.most, most))
    return can, [f"a domain is repeated {can:.2f} times at most: more cannot be drawn by the curve of mix.upsample"]


def _by_bucket(weights: dict[str, float], ground: Ground, place: Workspace | None) -> dict[str, float]:
    """Weights by bucket of the mix: those of the domains, spread within each as in the pool where buckets are finer."""
    from curate.mixtures.domains import spread
    from curate.pipeline import session

    if ground.table is None or ground.by is None or place is None:
        return weights
    mix = session.workspace_recipe(place, None).section("mix")
    curve = getattr(mix, "upsample", None)
    return spread(weights, ground.table, ground.by, None if curve is None else curve.by)


def _next(options: dict[str, Any], folder: str, ground: Ground, place: Workspace | None) -> list[str]:
    from curate.pipeline import session

    weights, workspace = f"{folder}/{WEIGHTS}", options["workspace"]
    step = f"curate mix --workspace {workspace or 'W'} --budget {options['budget'] or '10B'} --weights {weights}"
    if place is not None and ground.table is not None:
        by = list(ground.table.by)
        if by != session.workspace_recipe(place, None).section("mix").by:  # counted with `--by` or `--set mix.by=…`
            step += f" --set mix.by='{json.dumps(by)}'"
    lines = [f"solve: {folder}/{SOLUTION}; weights by bucket: {weights}", f"next: {step}"]
    if workspace and options["output"] is None:
        own = options["swarm"] == "swarm"
        flag = "" if own else f" --swarm {options['swarm']}"
        report = f"; curate report --workspace {workspace}" if own else ""
        lines.append(f"also: curate mix explain --workspace {workspace}{flag}{report}")
    return lines
