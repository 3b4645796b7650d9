"""Tokens of one workspace for the mix of another: what `stage.POOL` draws from without tokenising it again."""

from __future__ import annotations

from typing import Any

from curate.mixtures.stage import STAGE
from curate.pipeline.errors import UsageError
from curate.pipeline.markers import read_markers
from curate.pipeline.runner import upstream_shards
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace, redact


def pool_shards(workspace: Workspace) -> list[Shard]:
    """The shards of a workspace for `stage.POOL` in another one, all files external; sorted by key.

    Each has the documents as `file`, and in `params` the `tokens`, the `index` and the `tokenizer` (`File`s) that the steps up
    to `tokenize` left (`Runner.run(STAGE, shards, until="count")`, or a whole `curate mix`). Keys for every draw lie in the
    index, so both workspaces hold out the same documents at the same `mix.validation`. Raises UsageError where the tokens
    are not there, or not of these documents and this tokenizer.
    """
    again = "run `curate mix buckets` first"
    steps = {step.name: step for step in STAGE.steps}
    trained = read_markers(workspace, STAGE, steps["tokenizer"]).get("tokenizer")
    if trained is None:
        raise UsageError(f"{redact(workspace.url)} has no tokens yet: {again}")
    tokenizer = trained["outputs"]["tokenizer"]
    markers = read_markers(workspace, STAGE, steps["tokenize"])
    shards = []
    for shard in upstream_shards(workspace, str(STAGE.after), external=True):
        marker = markers.get(shard.key)
        if marker is None or marker["read"] != {"docs": shard.file.fingerprint, "tokenizer": tokenizer["sha256"]}:
            raise UsageError(
                f"{redact(workspace.url)} has no tokens of {shard.key}, or of other documents or another tokenizer: {again}"
            )
        files = {name: _external(workspace, marker["outputs"][name]) for name in ("tokens", "index")}
        params = files | {"tokenizer": _external(workspace, tokenizer)}
        shards.append(Shard(shard.key, shard.file, shard.rows, params))
    return sorted(shards, key=lambda shard: shard.key)


def _external(workspace: Workspace, output: dict[str, Any]) -> File:
    root = workspace.root if workspace.is_local else workspace.url
    return File(f"{root}/{output['path']}", output["sha256"], output["bytes"], external=True)
