"""Finished runs of dedup for tests that ask them: in this process, over pages as the filter leaves them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead, RunConfig
from curate.pipeline.runner import open_runner
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.stage import STAGE
from support import Inline


def run_dedup(
    place: Workspace, shards: Mapping[str, Sequence[dict[str, Any]]], config: DedupConfig, *, as_json: bool = True
) -> str:
    """Runs dedup on these pages, leaves the recipe as the command does, and gives what the display showed."""
    files = []
    for key, pages in shards.items():
        with place.create(f"filter/docs/{key}.parquet") as sink:
            pq.write_table(pa.Table.from_pylist(list(pages), schema=DOCUMENT), sink)
        files.append(Shard(key, File(f"filter/docs/{key}.parquet", sink.sha256, sink.size), len(pages)))
    recipe = Recipe(RecipeHead(run=RunConfig(attempts=1)), {"dedup": config})
    shown = io.StringIO()
    with open_runner(place, recipe, Inline, open_display(as_json=as_json, stream=shown)) as runner:
        assert not runner.run(STAGE, files).failed
    place.write_bytes("recipe.yaml", recipe.to_yaml().encode())
    return shown.getvalue()
