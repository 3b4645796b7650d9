"""`curate annotate`: labels for pages from a prompted language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.pipeline.errors import Incomplete, UsageError
from curate.pipeline.options import guarded, json_option, say

if TYPE_CHECKING:
    from curate.classifiers.annotate import Annotation, Budget, Model, Standing
    from curate.classifiers.annotate_pages import Pages
    from curate.classifiers.annotate_prompt import Prompt
    from curate.pipeline.progress import Display

OUTPUTS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")


@dataclass(frozen=True)
class Ask:
    """What the options say of the model."""

    endpoint: str | None
    model: str | None
    key_env: str | None
    concurrency: int | None
    timeout: float
    temperature: float
    seed: int
    request: Mapping[str, Any]


@click.command()
@click.option("--input", "-i", "inputs", multiple=True, metavar="GLOB|URL", help="JSONL or Parquet; repeatable.")
@click.option("--workspace", "-w", metavar="DIR|URL", help="Or the pages that a stage of this workspace kept.")
@click.option("--stage", metavar="NAME", help="Which stage [default: the last that has run].")
@click.option(
    "--output", "-o", required=True, metavar="FILE", help="Labels: .parquet, .jsonl, .jsonl.gz or .jsonl.zst."
)
@click.option(
    "--prompt", "-p", "prompt_name", metavar="FILE|NAME",
    help="Prompt file, or edu, edu_short, math, quality, topic [default: edu; embedded: edu_short].",
)  # fmt: skip
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible, http://host:port/v1 [default: the embedded model].")
@click.option("--model", metavar="NAME", help="The endpoint's name for its model.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable that holds the endpoint's key.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1024), help="Questions at a time [default: 8]; embedded: threads."
)
@click.option("--timeout", type=click.FloatRange(0.1), default=120.0, show_default=True, help="Seconds for an answer.")
@click.option("--tries", type=click.IntRange(1, 20), default=3, show_default=True,
              help="Answers to a question at most, until one has the form asked for.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True)
@click.option("--request", multiple=True, metavar="KEY=VALUE", help="Another field of the request; repeatable.")
@click.option("--price-in", type=click.FloatRange(0), metavar="X", help="Price of a million tokens of prompts.")
@click.option("--price-out", type=click.FloatRange(0), metavar="X", help="Price of a million tokens of answers.")
@click.option("--budget", type=click.FloatRange(0), metavar="X", help="Never spend more, by these prices.")
@click.option("--budget-tokens", metavar="N", help="Never use more tokens, in and out: 500k, 10M.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Take N of the pages, by a hash of their ids.")
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 1000), default=0, show_default=True)
@click.option("--journal", metavar="FILE", help="Where answers are kept as they come [default: OUTPUT.journal].")
@click.option("--no-text", is_flag=True, help="Leave the texts out of the output.")
@click.option("--text", metavar="COLUMN", help="Column of the text [default: text].")
@click.option("--url", metavar="COLUMN", help="Column of the URL [default: url, where there is one].")
@click.option("--id", metavar="COLUMN", help="Column of the id [default: id, else a hash of the text].")
@json_option
@guarded
def annotate(
    inputs: tuple[str, ...], workspace: str | None, stage: str | None, output: str, prompt_name: str | None,
    endpoint: str | None, model: str | None, key_env: str | None, concurrency: int | None, timeout: float, tries: int,
    temperature: float, request: tuple[str, ...], price_in: float | None, price_out: float | None, budget: float | None,
    budget_tokens: str | None, sample: int | None, seed: int, journal: str | None, no_text: bool, text: str | None,
    url: str | None, id: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Label pages by asking a language model, as FineWeb-Edu did.

    Asks an endpoint, or a small embedded model whose labels are weak. Stopped or killed at any moment, the same command
    again pays for nothing twice. A page's text is sent to the endpoint.
    """
    from curate.classifiers import annotate as work
    from curate.classifiers.annotate_journal import Journal
    from curate.classifiers.annotate_pages import Pages

    path = _output(output)
    prompt = _prompt(prompt_name, endpoint)
    spend = _budget(price_in, price_out, budget, budget_tokens)
    patterns = _patterns(inputs, workspace, stage)
    ask = Ask(endpoint, model, key_env, concurrency, timeout, temperature, seed, _fields(request))
    kept_in = Path(journal) if journal else path.with_name(path.name + ".journal")
    if path.absolute() == kept_in.absolute() or any(_finds(pattern, path) for pattern in patterns):
        raise UsageError(f"--output {output}: this is the input or the journal: give a file of its own")
    answering, workers, stop, warnings = _model(ask, prompt)
    source = Pages(patterns, text, url, id, sample, seed)
    with Journal(kept_in) as kept:
        run = work.Annotation(prompt, answering, kept, tries=tries, workers=workers, budget=spend, stop=stop)
        display = _display(as_json)
        try:
            _ask(run, source, display, warnings)
        finally:
            display.close()
        summary = _write(run, source, path, with_text=not no_text)
        _tell(run, source, summary, path, as_json)


# --- what the options mean --------------------------------------------------------------------------------------------


def _output(output: str) -> Path:
    path = Path(output)
    if not path.name.endswith(OUTPUTS):
        raise UsageError(f"--output {output}: give a name that ends in {', '.join(OUTPUTS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {path.parent}")
    return path


def _patterns(inputs: tuple[str, ...], workspace: str | None, stage: str | None) -> list[str]:
    """The files to read: those named, or the current ones of a stage."""
    if bool(inputs) == bool(workspace):
        raise UsageError("give --input FILE … or --workspace W, one of the two")
    if workspace is None:
        if stage:
            raise UsageError("--stage goes with --workspace")
        return list(inputs)
    from curate.pipeline.errors import nearest
    from curate.pipeline.markers import read_manifest
    from curate.pipeline.workspace import Workspace

    place = Workspace(workspace)
    stages = ("classify", "dedup", "filter", "extract")
    if stage is not None and stage not in stages:
        raise UsageError(f"--stage {stage}: no such stage{nearest(stage, stages)}")
    for name in (stage,) if stage else stages:
        manifest = read_manifest(place, name)
        if manifest and manifest.get("finished"):
            return [
                f"{workspace.rstrip('/')}/{entry['docs']['path']}" for entry in manifest["shards"] if "docs" in entry
            ]
    raise UsageError(f"{workspace} has no finished stage {stage or ''}".rstrip() + ": `curate run` first")


def _finds(pattern: str, path: Path) -> bool:
    """Whether a pattern finds a local file, once it is there: the labels of one run would be pages of the next."""
    if "://" in pattern and not pattern.startswith("file://"):
        return False
    from fnmatch import fnmatch

    whole, name = path.absolute(), Path(pattern.removeprefix("file://")).expanduser().absolute()
    if name == whole:
        return True
    if name.is_dir():  # of a folder, files with hidden names are left out
        inside = whole.parts[len(name.parts) :] if whole.is_relative_to(name) else ()
        return bool(inside) and not any(part.startswith((".", "_")) for part in inside)
    if "**" in pattern:
        return fnmatch(str(whole), str(name).replace("**/", "*"))
    return any(each.match(str(name)) for each in (whole, *whole.parents))


def _prompt(name: str | None, endpoint: str | None) -> Prompt:
    from curate.classifiers.annotate_embedded import MOST_CHARACTERS, check_prompt
    from curate.classifiers.annotate_prompt import load_prompt

    prompt = load_prompt(name or ("edu" if endpoint else "edu_short"))
    if endpoint is not None:
        return prompt
    check_prompt(prompt)
    return prompt.limited(MOST_CHARACTERS)


def _fields(request: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, the value as YAML reads it; `a.b` is the field b within a."""
    import yaml

    found: dict[str, Any] = {}
    for item in request:
        key, equals, value = item.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UsageError(f"--request {item!r}: give key=value, as in --request top_p=0.9")
        if parts[0] in ("model", "messages", "stream", "n", "max_tokens", "seed", "temperature"):
            raise UsageError(f"--request {parts[0]}: not this field: it is the command's, or the prompt's, own")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--request {item!r}: {error}") from None
        here = found
        for part in parts[:-1]:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise UsageError(f"--request {item!r}: {part} has a value of its own already")
        here[parts[-1]] = read
    return found


def _budget(price_in: float | None, price_out: float | None, money: float | None, tokens: str | None) -> Budget:
    from curate.classifiers.annotate import Budget

    if tokens is not None:
        if money is not None:
            raise UsageError("give --budget or --budget-tokens, one of the two")
        from curate.mixtures.config import parse_budget

        try:
            most = parse_budget(tokens)
        except ValueError as error:
            raise UsageError(f"--budget-tokens: {error}") from None
        return Budget(limit=most, price_in=price_in or 0.0, price_out=price_out or 0.0, in_tokens=True)
    if money is not None and not (price_in or price_out):
        raise UsageError("--budget needs prices: --price-in and --price-out, for a million tokens")
    return Budget(limit=money, price_in=price_in or 0.0, price_out=price_out or 0.0)


def _model(ask: Ask, prompt: Prompt) -> tuple[Model, int, Any, list[str]]:
    """What answers, how many questions at a time, what stops its waits, and what to warn of."""
    import threading

    from curate.classifiers import annotate_endpoint as remote

    stop = threading.Event()
    if ask.endpoint is None:
        for option, value in (("--model", ask.model), ("--key-env", ask.key_env), ("--request", ask.request)):
            if value:
                raise UsageError(f"{option} goes with --endpoint")
        from curate.classifiers.annotate_embedded import Embedded

        assert prompt.head.scale is not None
        weak = "the embedded model has 135M parameters and its scores are weak (docs/annotate.md): try things with it"
        return Embedded(threads=ask.concurrency or 1, scale=prompt.head.scale), 1, stop, [f"note: {weak}"]
    remote.check_url(ask.endpoint)
    if not ask.model:
        raise UsageError("--endpoint needs --model: the endpoint's name for its model")
    key = remote.read_key(ask.key_env)
    warnings = []
    if key and remote.in_the_clear(ask.endpoint):
        warnings.append("warning: the key and the pages cross the network unencrypted: https:// would not do that")
    found = remote.Endpoint(
        ask.endpoint, ask.model, key=key, temperature=ask.temperature, seed=ask.seed, timeout=ask.timeout,
        extra=ask.request, stop=stop,
    )  # fmt: skip
    return found, ask.concurrency or 8, stop, warnings


# --- the run ----------------------------------------------------------------------------------------------------------


def _display(as_json: bool) -> Display:
    from curate.pipeline.progress import open_display

    return open_display(as_json=as_json)


def _ask(run: Annotation, source: Pages, display: Display, warnings: Iterable[str]) -> None:
    """Asks about all pages and shows where that stands."""
    from curate.pipeline.annotate_lines import estimate, spent, spent_line
    from curate.pipeline.progress import StepState

    class Asking(StepState):
        """Pages asked about, with tokens and cost."""

        noun = "pages"

        def reuse(self, done: int) -> None:
            """So many were done before: they say nothing of the speed."""
            self._reused = done

        def to_json(self) -> dict[str, Any]:
            left = self.seconds_left
            return {
                "stage": "annotate", "pages": self.tasks, "done": self.done, "answers": run.standing.answers,
                "malformed": run.standing.malformed, **spent(run),
                "seconds_left": None if left is None else round(left, 1),
            }  # fmt: skip

    for warning in warnings:
        display.event("warning", message=warning)
    if run.journal.damaged:
        display.event(
            "warning", message=f"warning: {run.journal.damaged} damaged lines in {run.journal.path}, asked again"
        )
    display.event("note", message=estimate(run, source))
    state = Asking("annotate", "annotate", source.count, 0)

    def progress(standing: Standing) -> None:
        state.reuse(standing.found)
        state.done = standing.done
        state.failed = standing.problems.total()
        malformed = f", {standing.malformed:,} malformed" if standing.malformed else ""
        state.note = f"{spent_line(run)}{malformed}"
        display.update(state)

    run.ask(source, progress)


def _write(run: Annotation, source: Pages, path: Path, *, with_text: bool) -> dict[str, Any]:
    """Writes the labels; counts them."""
    from collections import Counter
    from itertools import islice

    from curate.classifiers.scoring import write

    found: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    reasons: dict[str, str] = {}

    def batches() -> Iterator[list[dict[str, Any]]]:
        rows = run.rows(source)
        while batch := list(islice(rows, 256)):
            for row in batch:
                if row["problem"] is None:
                    found[f"{row[run.label]:.0f}" if run.label == "score" else row[run.label]] += 1
                else:
                    kind, _, reason = row["problem"].partition(": ")
                    problems[kind] += 1
                    if reason:
                        reasons.setdefault(kind, reason)
            yield batch

    write(path, run.schema(with_text), batches())
    return {
        "labelled": found.total(), "found": dict(sorted(found.items())), "problems": dict(sorted(problems.items())),
        "reasons": reasons,
    }  # fmt: skip


def _tell(run: Annotation, source: Pages, summary: Mapping[str, Any], path: Path, as_json: bool) -> None:
    from curate.classifiers.annotate_endpoint import Endpoint
    from curate.pipeline.annotate_lines import next_step, spent, summary_lines

    facts = {
        "output": str(path), "journal": str(run.journal.path), "pages": source.count, **summary, **spent(run),
        "malformed_answers": run.standing.malformed, "prompt": run.prompt.name, "model": run.model.model,
        "fingerprint": run.fingerprint, "input": source.tally.to_json(),
    }  # fmt: skip
    lines = list(summary_lines(run, source, summary, path))
    left = {name: count for name, count in summary["problems"].items() if name in ("unanswered", "budget", "not asked")}
    worth_learning = isinstance(run.model, Endpoint)  # nobody should train on the embedded one's
    if not left and summary["labelled"] and worth_learning:
        lines.append(next_step(run, path))
    say(as_json, facts, *lines)
    if left:
        why = "the budget is used up: give a larger one and " if "budget" in left else ""
        raise Incomplete(f"{sum(left.values()):,} pages have no answer: {why}run the same command again")
