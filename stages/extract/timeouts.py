"""The pages of a shard that took too long, so that a later attempt gives them up at once and writes the same bytes."""

from __future__ import annotations

from curate.pipeline.config import digest
from curate.pipeline.stage import Context
from curate.stages.extract.guarded import Failure

SCHEMA_VERSION = 1


class Timeouts:
    """`extract/timeouts/<key>.json`: the failure of each page by its number, for one input file and one configuration."""

    def __init__(self, context: Context) -> None:
        self._workspace = context.workspace
        self._name = f"{context.task.stage}/timeouts/{context.task.key}.json"
        self._fingerprint = digest([context.config.fingerprint(), context.input("input").fingerprint])
        stored = self._workspace.read_json(self._name) or {}
        known = stored.get("records", {}) if stored.get("fingerprint") == self._fingerprint else {}
        self._known = {int(number): Failure(item["reason"], item["detail"]) for number, item in known.items()}

    def get(self, number: int) -> Failure | None:
        """How a page failed in an earlier attempt; None if it did not."""
        return self._known.get(number)

    def add(self, number: int, failure: Failure) -> None:
        """Writes down a page that took too long, at once: the attempt may not live to its end."""
        self._known[number] = failure
        records = {
            str(page): {"reason": item.reason, "detail": item.detail} for page, item in sorted(self._known.items())
        }
        value = {"schema_version": SCHEMA_VERSION, "fingerprint": self._fingerprint, "records": records}
        self._workspace.write_json(self._name, value)
