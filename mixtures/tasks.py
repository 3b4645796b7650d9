"""Which tasks a swarm can decide on: families of tasks that rank runs alike, and signal to noise of each.

Sources: OLMo 3 report (arXiv 2512.13961), evaluation: Ward clustering of tasks by how models score on them; signal to noise
(Heineman et al. 2025, arXiv 2508.13144): spread across models / noise of one. Here models are the runs of a swarm, and noise
is that of one mixture trained again with other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import chi2, f, false_discovery_control, rankdata

from curate.pipeline.errors import UsageError
from curate.pipeline.tables import grid, printable

if TYPE_CHECKING:
    from curate.mixtures.runs import Runs

Floats = npt.NDArray[np.float64]

LEAST_RATIO = 2.0
"""Spread / noise from which a task carries signal: three quarters of what tells runs apart are then their mixtures."""
LEVEL = 0.05
"""Share of tasks said to carry signal that may be there by chance (false discovery rate, Benjamini and Hochberg 1995)."""
STRUCTURE = 0.25
"""Silhouette below which tasks form one family (Kaufman and Rousseeuw 1990: no substantial structure)."""
NOISE_FACTOR = 2.0
"""The noise is known well enough where its 95 % interval reaches to no more than this times the estimate."""
MOST_FAMILIES = 30
"""Families that are tried for the largest silhouette."""
_COVERAGE = 0.95
_MEASURED = 0.5  # share of the design's runs that must have measured a task


@dataclass(frozen=True)
class Task:
    """One task. Spread and noise are standard deviations, in the units of its losses."""

    task: str
    runs: int
    """Design runs that measured it."""
    mean: float
    spread: float
    """Across the design's runs."""
    noise: float | None
    """Across replicates of one mixture; None where there are none."""
    ratio: float | None
    """Signal to noise: spread / noise; infinite where replicates agree to the last digit."""
    low: float | None
    high: float | None
    """95 % interval of the ratio, by the F distribution: losses taken as normal."""
    p: float | None
    """Of mixtures that change nothing having so much spread: F test of the variance across mixtures / across replicates."""
    adjusted: float | None
    """p adjusted for the number of tasks (Benjamini and Hochberg)."""
    signal: bool | None
    """ratio >= LEAST_RATIO and adjusted <= LEVEL."""
    aggregate: float | None
    """Spearman correlation with the mean of all other tasks, across the design's runs; None for a task that does not vary."""
    family: str | None
    """Its family's name; None where too few runs measured it."""


@dataclass(frozen=True)
class TaskStudy:
    """What a swarm's runs say of its tasks."""

    tasks: tuple[Task, ...]
    """In the order of the runs' columns."""
    families: Mapping[str, tuple[str, ...]]
    """Tasks that rank the runs alike, under the name of the one nearest to all others (medoid); in the order of columns."""
    ranked: int
    """Design runs that measured all clustered tasks: those whose ranks were compared."""
    merges: tuple[tuple[int, int, float, int], ...]
    """Ward's tree, as scipy's `linkage` gives it; leaves are the clustered tasks in order. Distances of d are rank
    correlations of 1 - d²/2."""
    clustered: tuple[str, ...]
    silhouette: float | None
    """Mean silhouette of the families; None for fewer than two."""
    rule: str
    """How the number of families was chosen."""
    replicates: int
    """Runs of mixtures that were trained more than once."""
    freedom: int
    """Degrees of freedom of the noise: replicates less the number of their mixtures."""
    noise_interval: tuple[float, float] | None
    """The true noise / the estimate, 95 % interval (chi-squared)."""
    notes: tuple[str, ...]

    @property
    def signal(self) -> tuple[str, ...]:
        """Tasks that carry signal."""
        return tuple(task.task for task in self.tasks if task.signal)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "thresholds": {"ratio": LEAST_RATIO, "false_discovery_rate": LEVEL},
            "tasks": [
                {name: _finite(value) if isinstance(value, float) else value for name, value in asdict(task).items()}
                for task in self.tasks
            ],
            "families": [{"family": name, "tasks": list(members)} for name, members in self.families.items()],
            "rule": self.rule,
            "silhouette": self.silhouette,
            "ranked_runs": self.ranked,
            "clustered": list(self.clustered),
            "merges": [list(merge) for merge in self.merges],
            "replicates": self.replicates,
            "degrees_of_freedom": self.freedom,
            "noise_interval": self.noise_interval and list(self.noise_interval),
            "signal": list(self.signal),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """A table for a terminal: the families, within them the tasks of the clearest signal first."""
        ranked = sorted(self.tasks, key=lambda task: -(task.ratio or 0.0))
        groups = [[task for task in ranked if task.family == family] for family in [*self.families, None]]
        heads = ("task", "spread", "noise", "signal/noise (95 %)", "p", "with the rest")
        head, *rows = grid(heads, [_cells(task) for group in groups for task in group])
        lines, left = [head], iter(rows)
        for family, group in zip([*self.families, None], groups, strict=True):
            if group and len(self.families) > 1:
                lines.append(f"family {printable(family)}" if family else "in no family: measured by too few runs")
            lines += [next(left) for _ in group]
        judged = [task for task in self.tasks if task.signal is not None]
        if judged:
            lines.append(
                f"{len(self.signal)} of {len(judged)} tasks carry signal (*): spread / noise >= {LEAST_RATIO:g}, and beyond "
                f"chance (F test, at most {LEVEL:.0%} of those marked falsely)"
            )
        return [*lines, f"families: {self.rule}", *self.notes]


def study(runs: Runs, *, clusters: int | None = None, cut: float | None = None) -> TaskStudy:
    """What the runs say of their tasks (all columns of `runs.losses`; `runs.select` picks a measure first).

    Families: Ward clustering of the tasks by the standardised ranks that they give to the design's runs; `clusters` of them,
    or those below the distance `cut`, or, without both, as many as have the largest mean silhouette. Raises UsageError where
    there are fewer than three design runs, or none that measured the tasks.
    """
    losses = np.asarray(runs.losses, np.float64)
    kinds = np.asarray(runs.kinds)
    design = losses[kinds == "design"]
    if len(design) < 3 or not len(runs.tasks):
        raise UsageError(
            f"{len(design)} runs of a design and {len(runs.tasks)} tasks: three runs and one task at least"
        )
    measured = np.isfinite(design).sum(axis=0)
    kept = np.flatnonzero(measured >= max(3, _MEASURED * len(design)))
    whole = design[np.all(np.isfinite(design[:, kept]), axis=1)][:, kept]
    if not len(kept) or len(whole) < 3:
        few = sorted(zip(measured.tolist(), runs.tasks, strict=True))[:4]
        raise UsageError(
            f"no three of {len(design)} runs measured the same tasks (least often: "
            f"{', '.join(f'{name} in {count}' for count, name in few)}): train more runs or leave these tasks out"
        )
    groups = _replicates(np.asarray(runs.weights, np.float64)[kinds == "replicate"])
    repeated = losses[kinds == "replicate"]
    names = [runs.tasks[index] for index in kept]
    vectors = _standardised_ranks(whole)
    labels, merges, silhouette, rule = _families(vectors, clusters, cut)
    families = _named(names, vectors, labels)
    family_of = {member: family for family, members in families.items() for member in members}
    aggregate = dict(zip(names, _with_the_rest(whole), strict=True))
    tasks = [
        _task(
            name,
            design[:, index],
            [repeated[group, index] for group in groups],
            aggregate.get(name),
            family_of.get(name),
        )
        for index, name in enumerate(runs.tasks)
    ]
    freedom = sum(len(group) - 1 for group in groups)
    return TaskStudy(
        tasks=_judged(tasks),
        families=families,
        ranked=len(whole),
        merges=merges,
        clustered=tuple(names),
        silhouette=silhouette,
        rule=rule,
        replicates=sum(len(group) for group in groups),
        freedom=freedom,
        noise_interval=noise_interval(freedom) if freedom else None,
        notes=_notes(runs, groups, tasks, len(whole), len(design)),
    )


def noise_interval(freedom: int) -> tuple[float, float]:
    """A standard deviation / its estimate with so many degrees of freedom: 95 % interval, for normal values."""
    tail = (1 - _COVERAGE) / 2
    low, high = np.sqrt(freedom / chi2.ppf([1 - tail, tail], freedom))
    return float(low), float(high)


def replicates_needed(factor: float = NOISE_FACTOR) -> int:
    """Runs of one mixture after which its noise is known to within this factor (upper end of the 95 % interval)."""
    if factor <= 1:
        raise UsageError(f"noise is never known to within a factor of {factor}: give one above 1")
    freedom = 1
    while noise_interval(freedom)[1] > factor:
        freedom += 1
    return freedom + 1


def noise_of(runs: Runs) -> list[tuple[float | None, int]]:
    """By task: the standard deviation of a run, of mixtures trained more than once (None where there are none), and its degrees
    of freedom."""
    repeated = runs.where("replicate")
    groups = _replicates(np.asarray(repeated.weights, np.float64))
    return [_pooled([column[group] for group in groups]) for column in np.asarray(repeated.losses, np.float64).T]


def _pooled(repeated: Sequence[Floats]) -> tuple[float | None, int]:
    """The standard deviation within groups of losses, those not measured (NaN) left out, and its degrees of freedom."""
    groups = [found for group in repeated if len(found := group[np.isfinite(group)]) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None, 0
    return float(np.sqrt(sum(((group - group.mean()) ** 2).sum() for group in groups) / freedom)), freedom


def _replicates(weights: Floats) -> list[npt.NDArray[np.intp]]:
    """Rows of mixtures that were trained at least twice, by mixture."""
    if not len(weights):
        return []
    _, group = np.unique(np.round(weights, 9), axis=0, return_inverse=True)
    groups = [np.flatnonzero(group.ravel() == number) for number in range(int(group.max()) + 1)]
    return [rows for rows in groups if len(rows) > 1]


def _task(name: str, design: Floats, repeated: list[Floats], aggregate: float | None, family: str | None) -> Task:
    """One task; `adjusted` and `signal` are for `_judged`."""
    values = design[np.isfinite(design)]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    mean = float(values.mean()) if len(values) else float("nan")
    ratio = low = high = p = None
    noise, freedom = _pooled(repeated)
    if noise is not None and len(values) > 1:
        ratio = spread / noise if noise > 0 else (float("inf") if spread > 0 else 0.0)
        tail = (1 - _COVERAGE) / 2
        bounds = np.sqrt(f.ppf([1 - tail, tail], len(values) - 1, freedom))
        low, high = (float(bound) for bound in ratio / bounds)
        p = float(f.sf(ratio**2, len(values) - 1, freedom))
    return Task(name, len(values), mean, spread, noise, ratio, low, high, p, None, None, aggregate, family)


def _judged(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks with p adjusted for their number, and whether they carry signal."""
    tested = [task for task in tasks if task.p is not None]
    adjusted = false_discovery_control([task.p for task in tested]) if tested else []
    found = {task.task: float(value) for task, value in zip(tested, adjusted, strict=True)}
    return tuple(
        replace(
            task,
            adjusted=found[task.task],
            signal=(task.ratio or 0.0) >= LEAST_RATIO and found[task.task] <= LEVEL,
        )
        if task.task in found
        else task
        for task in tasks
    )


def _standardised_ranks(losses: Floats) -> Floats:
    """Ranks of the runs by each task, mean 0 and length 1; shape (tasks, runs). Zeros for a task that does not vary."""
    ranks = rankdata(losses, axis=0).T
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    vectors: Floats = centred / np.where(lengths > 0, lengths, 1.0)
    return vectors


def _with_the_rest(losses: Floats) -> list[float | None]:
    """Spearman correlation of each task with the mean of the others; None where one of the two does not vary."""
    count = losses.shape[1]
    if count < 2:
        return [None] * count
    rest = (losses.sum(axis=1, keepdims=True) - losses) / (count - 1)
    own, other = _standardised_ranks(losses), _standardised_ranks(rest)
    vary = np.any(own != 0, axis=1) & np.any(other != 0, axis=1)
    return [float(value) if varies else None for value, varies in zip((own * other).sum(axis=1), vary, strict=True)]


def _families(
    vectors: Floats, clusters: int | None, cut: float | None
) -> tuple[npt.NDArray[np.intp], tuple[tuple[int, int, float, int], ...], float | None, str]:
    """The family of each task, Ward's tree, the silhouette, and how the number was chosen."""
    count = len(vectors)
    if clusters is not None and not 1 <= clusters <= count:
        raise UsageError(f"{clusters} families of {count} tasks: give 1 to {count}")
    if count == 1:
        return np.zeros(1, np.intp), (), None, "one task"
    tree = linkage(vectors, "ward")
    merges = tuple((int(a), int(b), float(height), int(size)) for a, b, height, size in tree)
    distances = squareform(pdist(vectors))

    def labelled(number: int) -> npt.NDArray[np.intp]:
        labels: npt.NDArray[np.intp] = cut_tree(tree, n_clusters=number).ravel()
        return labels

    if clusters is not None:
        number, rule = clusters, f"{clusters}, as asked for"
    elif cut is not None:
        number = 1 + int(np.count_nonzero(tree[:, 2] > cut))
        rule = f"{number}, those below a Ward distance of {cut:g}"
    else:
        tried = {number: _silhouette(distances, labelled(number)) for number in range(2, min(count, MOST_FAMILIES + 1))}
        number = max(tried, key=lambda number: tried[number], default=1)
        rule = f"{number}, the largest mean silhouette"
        if not tried or tried[number] < STRUCTURE:
            number, rule = 1, f"one: no number of them has a mean silhouette of {STRUCTURE:g}"
    labels = labelled(number)
    return labels, merges, _silhouette(distances, labels) if 1 < number < count else None, rule


def _silhouette(distances: Floats, labels: npt.NDArray[np.intp]) -> float:
    """Mean of (b - a) / max(a, b): a to its own cluster, b to the nearest other; 0 for one alone (Rousseeuw 1987)."""
    members = labels[:, None] == np.unique(labels)[None]
    sizes = members.sum(axis=0)
    sums = distances @ members
    own = members.argmax(axis=1)
    rows = np.arange(len(labels))
    inside = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    outside = np.where(members, np.inf, sums / sizes).min(axis=1)
    larger = np.maximum(inside, outside)
    values = np.where((sizes[own] > 1) & (larger > 0), (outside - inside) / np.where(larger > 0, larger, 1.0), 0.0)
    return float(values.mean())


def _named(names: Sequence[str], vectors: Floats, labels: npt.NDArray[np.intp]) -> dict[str, tuple[str, ...]]:
    """Families by their medoid, in the order of their first tasks."""
    families = {}
    for label in dict.fromkeys(labels.tolist()):
        members = np.flatnonzero(labels == label)
        apart = squareform(pdist(vectors[members])).sum(axis=1)
        medoid = int(members[np.round(apart, 12).argmin()])
        families[names[medoid]] = tuple(names[index] for index in members.tolist())
    return families


def _notes(
    runs: Runs, groups: Sequence[npt.NDArray[np.intp]], tasks: Sequence[Task], whole: int, design: int
) -> tuple[str, ...]:
    notes = []
    freedom, needed = sum(len(group) - 1 for group in groups), replicates_needed()
    if not freedom:
        notes.append(
            f"no replicates: what is noise is not known; train one mixture under {needed} seeds or more (swarm.replicates)"
        )
    elif (high := noise_interval(freedom)[1]) > NOISE_FACTOR:
        notes.append(
            f"the noise rests on {freedom + len(groups)} replicates and may be up to {high:.1f} times as large as it seems; "
            f"{needed} replicates bring that to {NOISE_FACTOR:g} (swarm.replicates)"
        )
    if whole < design:
        notes.append(
            f"ranks were compared on {whole} of {design} runs: the others did not measure all tasks or diverged"
        )
    if alike := [task.task for task in tasks if task.noise == 0]:
        notes.append(
            f"replicates agree to the last digit on {', '.join(alike[:4])}: were they trained with different seeds?"
        )
    if still := [task.task for task in tasks if not task.spread]:
        notes.append(f"no mixture changes {', '.join(still[:4])}{' …' if len(still) > 4 else ''}")
    return tuple(notes)


def _cells(task: Task) -> list[str]:
    judged = ["-", "-", "-"]
    if task.noise is not None and task.ratio is not None and task.low is not None and task.high is not None:
        ratio = f"{task.ratio:.1f} ({task.low:.1f} to {task.high:.1f}){'*' if task.signal else ' '}"
        judged = [f"{task.noise:.4f}", ratio, f"{task.p:.1e}"]
    rest = "-" if task.aggregate is None else f"{task.aggregate:+.2f}"
    return [task.task, f"{task.spread:.4f}", *judged, rest]


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None
