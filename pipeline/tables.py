"""Status and stories as lines of text for a person. Text from pages is shown without control characters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from curate.pipeline.progress import duration, number_of
from curate.pipeline.status import StageStatus, mix_is_behind
from curate.pipeline.workspace import Workspace

WIDTH = 110
"""Columns after which a list of values goes on in the next line, where the terminal has so many."""
_INDENT = " " * 23
_TAIL_BYTES = 1 << 18
_FOLDED = ("rps_", "ccnet_")
"""Signals that are counted only where a record's story is told: there are many, and few recipes ask for them."""


def width() -> int:
    """Columns that text for a person may take: the terminal's, at most WIDTH; WIDTH where there is no terminal."""
    return max(60, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def status_lines(
    statuses: Sequence[StageStatus], now: dict[str, Any] | None, said: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """A line a stage, with its reasons below it and what there is to say of it, and what runs now."""
    lines = []
    for status in statuses:
        counts = status.counts
        share = f" ({counts.kept / counts.records:.1%})" if counts.records else ""
        state = f"{number_of(status.shards, 'shard')} done" + (
            f", {len(status.failed)} FAILED" if status.failed else ""
        )
        seconds = counts.seconds.get("total", 0.0)
        speed = f", {counts.records / seconds:,.0f} records/s a worker" if seconds else ""
        lines.append(f"{status.stage:9} {state}; {counts.records:,} records in, {counts.kept:,} kept{share}{speed}")
        for outcome, reasons in (("dropped", counts.dropped), ("quarantined", counts.quarantined)):
            lines += [
                f"{'':10}{number:>12,}  {outcome}: {printable(reason)}" for reason, number in reasons.most_common()
            ]
        if counts.ignored:
            ignored = ", ".join(f"{number:,} {printable(kind)}" for kind, number in sorted(counts.ignored.items()))
            lines.append(f"{'':10}not records: {ignored}")
        if counts.cut:
            lines.append(f"{'':10}cut to the limit: {number_of(counts.cut, 'record')}")
        if counts.edits:
            edits = ", ".join(f"{printable(kind)} {number:,}" for kind, number in counts.edits.most_common())
            lines.append(f"{'':10}characters taken out of texts: {edits}")
        lines += [f"{'':10}{line}" for line in (said or {}).get(status.stage, ())]
        check = "SUMS DO NOT MATCH" if status.problems else "sums agree: in = kept + dropped + quarantined"
        if status.verified is not None:
            files, rows = status.verified
            check += f"; verified: {number_of(files, 'file')}, {number_of(rows, 'row')}"
        lines.append(f"{'':10}{check}" + ("; OUT OF DATE, run it again" if status.stale else ""))
    if now is not None:
        left = "" if now.get("seconds_left") is None else f", {duration(now['seconds_left'])} left"
        driver = now["driver"]
        where = f"{now.get('stage', 'starting')}: {now.get('done', 0)} of {now.get('shards', '?')} shards"
        where += f", {now.get('running', 0)} running, {now.get('failed', 0)} failed"
        where += f", {now.get('records_per_second', 0):,.0f} records/s{left}"
        lines.append(f"running   {where} (process {driver['pid']} on {driver['host']})")
    return lines


def extra_lines(workspace: Workspace) -> list[str]:
    """A line each for the mix and the training run, where they exist: tokens and budget, step and validation loss."""
    lines = []
    mix = workspace.read_json("mix/tokens.json")
    if isinstance(mix, dict) and "tokens" in mix:
        held = mix.get("validation", {}).get("tokens", 0)
        budget = f" of a budget of {mix['budget']:,}" if mix.get("budget") is not None else ""
        documents = number_of(mix.get("documents", 0), "document")
        line = f"{mix['tokens']:,} tokens{budget} in {documents}; {held:,} held out for validation"
        lines.append(
            f"{'mix':9} {line}" + ("; OUT OF DATE, run `curate mix` again" if mix_is_behind(workspace) else "")
        )
    result = workspace.read_json("pretrain/result.json")
    last = _training(workspace, result if isinstance(result, dict) else None)
    if last:
        lines.append(f"{'pretrain':9} {last}")
    return lines


def _training(workspace: Workspace, result: dict[str, Any] | None) -> str:
    """Where the training run stands: by its result, else by the end of its log; empty where there is neither."""
    if result is not None:
        step, state, scores = result.get("steps"), "done", result.get("validation")
    else:
        entries = list(_log_end(workspace))
        step = max((entry["step"] for entry in entries if isinstance(entry.get("step"), int)), default=None)
        state = "not finished"
        scores = next((entry["validation"] for entry in reversed(entries) if entry.get("validation")), None)
    if step is None:
        return ""
    loss = f"validation loss {scores['loss']:.4f}" if scores else "no validation yet"
    bits = f", {scores['bits_per_byte']:.3f} bits per byte" if scores and scores.get("bits_per_byte") else ""
    return f"{state}: step {step:,}, {loss}{bits}"


def _log_end(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """The last entries of `pretrain/log.jsonl`; a line cut by the reading or by a crash is passed over."""
    name = "pretrain/log.jsonl"
    if not workspace.exists(name):
        return
    with workspace.open(name) as stream:
        stream.seek(max(workspace.size(name) - _TAIL_BYTES, 0))
        tail = stream.read()
    for line in tail.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def story_lines(story: Sequence[dict[str, Any]]) -> list[str]:
    """What `curate why` prints: each record once, then a line a stage with what that stage added or decided."""
    lines: list[str] = []
    for chapters in _by_record(story):
        records = [chapter["record"] for chapter in chapters]
        known = {name: value for record in reversed(records) for name, value in record.items()}
        place = f"{known['source']}:{known['offset']}" if "source" in known and "offset" in known else ""
        if lines:
            lines.append("")
        lines.append(f"{printable(known.get('id', '(no id)'))}  {printable(known.get('url', '(no URL)'))}")
        for name, value in (
            ("title", known.get("title")),
            ("date", known.get("date")),
            ("source", place or known.get("source")),
            ("shard", chapters[0]["shard"]),
        ):
            if value:
                lines.append(f"  {name:9}{printable(value)}")
        for chapter in chapters:
            outcome = chapter["outcome"] if chapter["outcome"] == "kept" else chapter["outcome"].upper()
            said = list(_said(chapter["stage"], chapter["record"])) or [""]
            lines.append(f"  {chapter['stage']:9}{outcome:12}{said[0]}".rstrip())
            lines += [_INDENT + line for line in said[1:]]
    return lines


def _by_record(story: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The chapters of each record, in order. The mix names no place: its rows go to the record that was kept until then."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for chapter in story:
        record = chapter["record"]
        key = tuple(record.get(name) for name in ("snapshot", "id", "source", "offset"))
        if chapter["stage"] == "mix":
            ends = [other for other in groups if other[:2] == key[:2] and groups[other][-1]["outcome"] == "kept"]
            key = ends[0] if ends else key
        groups.setdefault(key, []).append(chapter)
    return list(groups.values())


def _said(stage: str, record: Mapping[str, Any]) -> Iterator[str]:
    """What a stage decided on a record, and what it added to it, in lines."""
    failed = record.get("failed") or []
    if "reason" in record:
        if record["reason"] != (failed[0]["rule"] if failed else None):
            value = "" if record.get("value") is None else f" {_number(record['value'])}"
            detail = f": {printable(record['detail'])}" if record.get("detail") else ""
            yield f"{printable(record['reason'])}{value}{detail}"
        yield from (_rule(rule, record) for rule in failed)
    if record.get("kept_id") and record["kept_id"] != record.get("id"):
        yield f"page kept: {printable(record['kept_id'])}  {printable(record.get('kept_url', ''))}".rstrip()
    yield from _wrapped(_added(stage, record))
    spans = record.get("spans") or record.get("contaminated_spans")
    if spans:
        found = [f"{printable(span['kind'])} {span['start']}–{span['stop']}" for span in spans]
        yield from _wrapped(found, "found at characters: ")
    if stage == "filter" and record.get("signals"):
        named = {rule["rule"] for rule in failed}
        rest = {name: value for name, value in record["signals"].items() if name not in named and value is not None}
        folded = [name for name in rest if name.startswith(_FOLDED)]
        rest = {name: value for name, value in rest.items() if name not in folded}
        said = [f"{printable(name)} {_number(value)}" for name, value in rest.items() if value]
        yield from _wrapped(said, "also measured: " if named else "measured: ")
        others = [f"{number_of(len(folded), 'signal')} of RedPajama v2"] if folded else []
        others += [f"{zeros} that are 0"] if (zeros := len(rest) - len(said)) else []
        if others:
            yield from _wrapped([*others[:-1], f"{others[-1]} (--json has them all)"], "and ")


def _rule(rule: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    name, bound, threshold = printable(rule["rule"]), rule["bound"], rule["threshold"]
    if threshold is None:  # the language itself, whose value is the model's score
        return f"{name} {printable(record.get('language', ''))} ({_number(rule['value'])}) is not one that is wanted"
    limit = f"is {'true' if threshold else 'false'}" if bound == "is" else f"{bound} {_number(threshold)}"
    return f"{name} {_number(rule['value'])}, {limit}"


def _added(stage: str, record: Mapping[str, Any]) -> list[str]:
    """The columns that a stage fills, in words."""
    if stage == "extract":
        names = ("engine", "truncated", "robots", "license")
        found = [f"{name} {printable(record[name])}" for name in names if record.get(name)]
        found += ["has math"] if record.get("has_math") else []
        return found + ([f"declares language {printable(record['language'])}"] if record.get("language") else [])
    if stage == "filter":
        if not record.get("language"):
            return []
        return [f"language {printable(record['language'])} ({_number(record.get('language_score'))})"]
    if stage == "dedup" and "duplicates" in record:
        copies = record["duplicates"] - 1
        return [f"stands for {number_of(copies, 'copy', 'copies')} more" if copies else "no copy"]
    if stage == "classify":
        return _scores(record)
    if stage == "mix":
        return _mixed(record)
    return []


def _scores(record: Mapping[str, Any]) -> list[str]:
    """The scores of a page and where they stand among all; what a rule named is not said twice."""
    from curate.pipeline.documents import QUANTILES, SCORES

    named = {rule["rule"] for rule in record.get("failed") or []}
    found = []
    for name in (*SCORES, "topic"):
        if record.get(name) is None or name in named:
            continue
        number = record.get("topic_score") if name == "topic" else record[name]
        values = [] if name != "topic" or number is None else [_number(number)]
        score = "topic_score" if name == "topic" else name
        values += [f"{part} {record[f'{score}_{part}']}" for part in QUANTILES if f"{score}_{part}" in record]
        value = printable(record[name]) if name == "topic" else _number(number)
        found.append(f"{name} {value}" + (f" ({', '.join(values)})" if values else ""))
    if record.get("contaminated_by"):
        found.append(
            f"holds {_number(record.get('contamination'))} of the n-grams of {printable(record['contaminated_by'])}"
        )
    return found


def _mixed(record: Mapping[str, Any]) -> list[str]:
    found = [f"bucket {printable(record.get('bucket', ''))}"]
    if record.get("split") == "validation":
        found.append("held out for validation")
    else:
        found.append(f"in training {number_of(record.get('repeats', 1), 'time')}")
    found.append(f"{number_of(record.get('tokens', 0), 'token')} each time")
    if record.get("cut"):
        found.append(f"the last {record['cut']:,} left out: the budget ends here")
    return found


def _wrapped(items: Iterable[str], head: str = "") -> Iterator[str]:
    """Items joined by commas, in lines as wide as `width()` (a longer item has a line of its own)."""
    line, most = head, width()
    for item in items:
        if line not in ("", head) and len(_INDENT) + len(line) + len(item) > most:
            yield line.rstrip()
            line = ""
        line += f"{item}, "
    if line != head:
        yield line.removesuffix(", ")


def printable(value: Any) -> str:
    """A value on one line, without control characters, which could rewrite a terminal."""
    text = value if isinstance(value, str) else _number(value) if isinstance(value, float) else str(value)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)[:500]


def printable_lines(text: str) -> str:
    """The same of text that is several lines; line ends and tabs stay."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def grid(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), widest: int = 100
) -> list[str]:
    """Rows in columns below their heads; the columns in `left` are set left, the others right. A column is as wide as its
    widest cell, `widest` at most: a longer cell (a path, a page's text) pushes its own line."""
    cells = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [min(widest, max(map(len, column))) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if number in left else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
