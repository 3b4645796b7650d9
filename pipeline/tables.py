"""Status and stories as lines of text for a person. Text from pages is shown without control characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.pipeline.progress import duration
from curate.pipeline.status import StageStatus


def status_lines(statuses: Sequence[StageStatus], now: dict[str, Any] | None) -> list[str]:
    """A line a stage, with its reasons below it, and what runs now."""
    lines = []
    for status in statuses:
        counts = status.counts
        share = f" ({counts.kept / counts.records:.1%})" if counts.records else ""
        state = f"{status.shards} shards done" + (f", {len(status.failed)} FAILED" if status.failed else "")
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
        check = "MISMATCH" if status.problems else "in = kept + dropped + quarantined"
        lines.append(f"{'':10}sums: {check}" + ("; out of date, run it again" if status.stale else ""))
    if now is not None:
        left = "" if now.get("seconds_left") is None else f", {duration(now['seconds_left'])} left"
        driver = now["driver"]
        where = f"{now.get('stage', 'starting')}: {now.get('done', 0)} of {now.get('shards', '?')} shards"
        where += f", {now.get('running', 0)} running, {now.get('failed', 0)} failed"
        where += f", {now.get('records_per_second', 0):,.0f} records/s{left}"
        lines.append(f"running   {where} (process {driver['pid']} on {driver['host']})")
    return lines


def story_lines(story: Sequence[dict[str, Any]]) -> list[str]:
    """What `curate why` prints: a heading a stage, then what was measured and decided there."""
    lines = []
    for chapter in story:
        record = chapter["record"]
        lines.append(f"{chapter['stage']}: {chapter['outcome'].upper()} (shard {chapter['shard']})")
        failed = record.get("failed") or []
        if "reason" in record:
            lines.append(f"  reason: {printable(record['reason'])}")
        lines += [
            f"  {printable(rule['rule'])} = {_number(rule['value'])}, {rule['bound']} {_number(rule['threshold'])}"
            for rule in failed
        ]
        if "kept_id" in record:
            lines.append(f"  kept instead: {printable(record['kept_id'])}")
        for name, value in record.items():
            if name not in ("reason", "failed", "kept_id", "value", "threshold", "signals"):
                lines.append(f"  {name}: {printable(value)}")
        signals = {name: value for name, value in (record.get("signals") or {}).items() if value is not None}
        if signals:
            lines.append("  signals: " + ", ".join(f"{name} {_number(value)}" for name, value in signals.items()))
    return lines


def printable(value: Any) -> str:
    """A value on one line, without control characters, which could rewrite a terminal."""
    text = value if isinstance(value, str) else _number(value) if isinstance(value, float) else str(value)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)[:500]


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
