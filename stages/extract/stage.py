"""The extract stage: input files in, documents out, a task a file."""

from __future__ import annotations

from importlib.metadata import version

from curate.pipeline.config import source_digest
from curate.pipeline.errors import UsageError
from curate.pipeline.inputs import format_by_name
from curate.pipeline.stage import Planning, Stage, Step, Task, load
from curate.pipeline.workspace import redact
from curate.stages.extract.config import ENGINES, ExtractConfig


def plan(planning: Planning) -> list[Task]:
    """A task a shard: outputs `docs`, `ledger` and `index`; input `input`; params `source`, `format` and `snapshot`.

    Raises UsageError where the user's own engine is not there, before any work.
    """
    for engine in planning.config.engines:
        if ":" in engine:
            try:
                load(engine)
            except UsageError as error:
                raise UsageError(f"extract.engine: {error}") from None
    return [
        Task(
            planning.stage,
            planning.step,
            shard.key,
            inputs={"input": (shard.file,)},
            outputs={name: f"{planning.stage}/{name}/{shard.key}.parquet" for name in ("docs", "ledger", "index")},
            params={
                "source": redact(shard.file.path),
                "format": format_by_name(redact(shard.file.path)) or "warc",
                "snapshot": shard.snapshot,
                "library": ", ".join(map(_library, planning.config.engines)),
            }
            | dict(shard.params),
            memory=planning.config.memory_bytes + (1 << 30),
        )
        for shard in planning.shards
    ]


def _library(engine: str) -> str:
    """The engine's package and version, or its own source's checksum: another version may extract another text."""
    if engine == "curate":
        return engine  # this code, which the stage's version names
    if engine in ENGINES:
        return f"{engine} {version(engine)}"
    return f"{engine} {source_digest(engine.partition(':')[0])}"


STAGE = Stage(
    name="extract",
    version=3,
    config=ExtractConfig,
    steps=(Step("extract", "curate.stages.extract.work:run", plan, record_bearing=True),),
    after=None,
    disk=0.15,
)
