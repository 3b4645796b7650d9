"""`curate mix upsample`: how often pages of each quality are repeated, for a ratio or for the topics of a workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.errors import UsageError
from curate.pipeline.options import Real, guarded, json_option, say

if TYPE_CHECKING:
    from curate.mixtures.upsample import Curve

RANKS = 20
"""Vigintiles, as `classify` scores them."""


@click.command()
@click.argument("ratios", nargs=-1, type=Real(min=0, min_open=True), metavar="[RATIO]...")
@click.option("--workspace", "-w", metavar="DIR|URL", help="The curves of its domains, for a budget.")
@click.option(
    "--budget", metavar="TOKENS", help="Tokens in the mix, as 10B [default: the recipe's; else all there are]."
)
@click.option(
    "--weights", metavar="FILE", help="Shares of the domains [default: the swarm's weights.json; else natural]."
)
@click.option(
    "--floor", type=Real(min=0, max=1, max_open=True), help="Share of the worst pages left out [default: 0.4]."
)
@click.option(
    "--top", type=Real(min=0, max=1, min_open=True), help="Share of the best pages that --most holds for [0.05]."
)
@click.option("--most", type=Real(min=0, min_open=True), help="Repeats of the best pages at most [default: 7].")
@json_option
@guarded
def upsample(
    ratios: tuple[float, ...], workspace: str | None, budget: str | None, weights: str | None, floor: float | None,
    top: float | None, most: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Show how often good pages are repeated.

    RATIO is tokens wanted / tokens there are: f(x) = C (x - a)^p e^(λ (x - a)) of the quality percentile x, 0 below a
    (OLMo 3). With -w, the ratio of each domain follows from its weight, the budget and its tokens in `mix/buckets.json`.
    """
    from curate.mixtures.upsample import FLOOR, MOST, TOP, fit_curve, largest_ratio

    given = {"floor": floor, "top": top, "most": most}
    if workspace is None:
        if budget or weights:
            raise UsageError(
                "--budget and --weights go with a workspace (-w W); without one give ratios, as in 0.5 1 2"
            )
        wanted: Mapping[str, float] = {f"{ratio:g}": ratio for ratio in ratios}
        if not wanted:
            raise UsageError("give a ratio of tokens wanted to tokens there are, as in 0.5 1 2, or a workspace (-w W)")
        shape = {"floor": FLOOR, "top": TOP, "most": MOST}
    else:
        if ratios:
            raise UsageError("give ratios or a workspace, not both")
        wanted, shape = _of_workspace(workspace, budget, weights)
    shape |= {name: value for name, value in given.items() if value is not None}
    largest = largest_ratio(shape["floor"], b=shape["top"], most=shape["most"])
    curves = {
        name: fit_curve(ratio, a=shape["floor"], b=shape["top"], most=shape["most"]) for name, ratio in wanted.items()
    }
    facts = {
        **shape,
        "largest_ratio": largest,
        "curves": {name: curve.to_json() | {"rates": _rates(curve)} for name, curve in curves.items()},
    }
    say(as_json, facts, *upsample_lines(curves, largest))


def _rates(curve: Curve) -> list[float]:
    rates: list[float] = curve.rates([rank / RANKS for rank in range(RANKS + 1)]).tolist()
    return rates


def _of_workspace(workspace: str, budget: str | None, weights: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Tokens wanted / tokens there are of each domain with a weight, and the shape that `mix.upsample` gives the curve."""
    from curate.mixtures.config import parse_budget, read_weights
    from curate.mixtures.domains import counted, domain_tokens
    from curate.mixtures.upsample import FLOOR, MOST, TOP
    from curate.pipeline import session
    from curate.pipeline.errors import nearest
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    table = counted(place)
    if table is None:
        raise UsageError(f"{workspace} has no counted buckets: run `curate mix buckets -w {workspace}` first")
    mix = session.workspace_recipe(place, None).section("mix")
    curve = mix.upsample
    shape = {"floor": FLOOR, "top": TOP, "most": MOST}
    if curve is not None:
        shape = {"floor": curve.floor, "top": curve.top, "most": min(curve.most, mix.max_repeats)}
    tokens = domain_tokens(table, [name for name in table.by if curve is None or name != curve.by])
    try:
        wanted = parse_budget(budget) if budget else mix.budget or sum(tokens.values())
        shares = read_weights(weights) if weights else place.read_json("swarm/weights.json") or tokens
    except ValueError as error:
        raise UsageError(str(error)) from None
    whole = sum(shares.values())
    found = {}
    for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0])):
        if share > 0 and not tokens.get(name):
            raise UsageError(f"the pool has no tokens of {name!r}{nearest(name, tuple(tokens))}")
        if share > 0:
            found[name] = share / whole * wanted / tokens[name]
    return found, shape


def upsample_lines(curves: Mapping[str, Curve], largest: float) -> list[str]:
    """The curves, then the rates by vigintile, then what could not be had as asked."""
    from curate.pipeline.tables import grid, printable

    rows = [
        [
            name, f"{curve.ratio:.3f}", f"{curve.a:.2f}", f"{curve.p:.3f}", f"{curve.rate:.3f}", f"{curve.scale:.3f}",
            f"{curve.top:.3f}",
        ]
        for name, curve in curves.items()
    ]  # fmt: skip
    lines = grid(("domain", "ratio", "a", "p", "λ", "C", f"best {_percent(curves)}"), rows)
    lines += ["", "repeats by vigintile of quality, the worst first:"]
    width = min(max(map(len, curves)), 40)
    for name, curve in curves.items():
        lines.append(f"{printable(name):<{width}}  " + " ".join(map(_short, _rates(curve))))
    lowered = [name for name, curve in curves.items() if curve.lowered]
    lines += [_lowered(name, curves[name], largest) for name in lowered]
    if not lowered:
        lines.append(f"up to {largest:.3f} times the tokens there are can be had with this floor")
    return lines


def _percent(curves: Mapping[str, Curve]) -> str:
    shares: Sequence[Any] = [curve.b for curve in curves.values()]
    return f"{shares[0]:.0%}" if shares else ""


def _short(rate: float) -> str:
    return "   0" if rate == 0 else f"{rate:.2f}"


def _lowered(name: str, curve: Curve, largest: float) -> str:
    return (
        f"note: {name}: {curve.ratio:.3f} times its tokens cannot be had with a floor of {curve.asked:g} (at most "
        f"{largest:.3f}): the floor is {curve.a:.3f}. To keep the floor, cap its share (`curate mix solve --max-repeats "
        f"{largest:.2f}`, or --cap)"
    )
