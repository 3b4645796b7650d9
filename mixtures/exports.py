"""The last steps of a mix: the card that Hugging Face `datasets` reads, and the list of what the mix was exported to."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pyarrow.parquet as pq
import yaml

from curate.mixtures.config import MixConfig
from curate.mixtures.export_steps import EXPORTS, PARTS
from curate.pipeline.documents import read_schema
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, File
from curate.pretrain.tokens import PartJson, TokensJson

_CARD = """
# A mix of {budget:,} tokens

Made with `curate mix`. A row is a copy of a document, in the order of the mix: {documents:,} in `train`, {validation:,} in
`validation`.

- `bucket`: what the mix weighed. `repeat`: copies of the document that came before this one.
- `tokens`: by the mix's tokenizer, the end-of-text token among them.
- `cut`: tokens left out at the end, 0 but for one row at most, which ends where the budget does.

Tokenizer (SHA-256): {tokenizer}
"""


def card(context: Context) -> Counts:
    """`README.md` of the folder of Parquet files: configuration, features and sums in YAML, then words.

    The keys are those of the Hub's dataset cards (`configs`, `dataset_info`).
    """
    with context.open(context.input("mix")) as stream:
        mix = TokensJson.model_validate_json(stream.read())
    parts = {part: context.task.inputs.get(f"parquet/{part}", ()) for part in PARTS.values()}
    sizes = {part: sum(_plain_bytes(context, file) for file in files) for part, files in parts.items()}
    counts = {"train": mix.documents, "validation": mix.validation.documents}
    there = [part for part, files in parts.items() if files]
    with context.open(parts[there[0]][0]) as stream:
        features = [{"name": field.name, "dtype": str(field.type)} for field in read_schema(stream)]
    for feature in features:
        feature["dtype"] = {"float": "float32"}.get(feature["dtype"], feature["dtype"])
    header = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"{part}/*.parquet"} for part in there],
            }
        ],
        "dataset_info": {
            "config_name": "default",
            "features": features,
            "splits": [{"name": part, "num_bytes": sizes[part], "num_examples": counts[part]} for part in there],
            "download_size": sum(file.size for files in parts.values() for file in files),
            "dataset_size": sum(sizes.values()),
        },
    }
    words = _CARD.format(
        budget=mix.tokens,
        documents=mix.documents,
        validation=mix.validation.documents,
        tokenizer=mix.tokenizer.sha256,
    )
    with context.create("card") as output:
        output.write(f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{words}".encode())
    return Counts()


def _plain_bytes(context: Context, file: File) -> int:
    """Bytes of a Parquet file's columns before compression."""
    with context.open(file) as stream:
        found = pq.read_metadata(stream)
    return sum(int(found.row_group(number).total_byte_size) for number in range(found.num_row_groups))


def exports(context: Context) -> Counts:
    """Writes `mix/exports.json`, after testing the sums.

    Takes away what an earlier mix was exported to: its indices would stand beside other tokens. What this same mix was
    exported to before stays where it is.
    """
    config: MixConfig = context.config
    with context.open(context.input("mix")) as stream:
        mix = TokensJson.model_validate_json(stream.read())
    documents = mix.documents + mix.validation.documents
    for kind, rows in context.task.params["rows"].items():
        if rows != documents:
            raise CurateError(
                f"mix: {rows:,} texts were written as {kind}, not the {documents:,} of the mix: this is a bug"
            )
    _remove_earlier(context)
    formats = {name: _listed(context, mix, name) for name in config.export}
    result = {"schema_version": 1, "of": context.task.params["of"], "tokens": mix.tokens, "formats": formats}
    with context.create("exports") as output:
        output.write((json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
    return Counts()


def _listed(context: Context, mix: TokensJson, name: str) -> dict[str, Any]:
    """The files of one format by part, with what they hold; for Megatron-LM their prefixes (`<prefix>.bin`, `.idx`)."""
    kind = "parquet" if name == "datasets" else name
    found: dict[str, Any] = {}
    for folder, part in PARTS.items():
        own: PartJson = mix if folder == "tokens" else mix.validation
        files = context.task.inputs.get(f"{kind}/{part}", ())
        found[part] = {"documents": own.documents, "tokens": own.tokens, "files": []}
        for file, shard in zip(files, own.shards, strict=True):
            place = {"prefix": file.path.removesuffix(".idx")} if kind == "megatron" else {"path": file.path}
            sums = {
                "documents": shard.documents,
                "tokens": shard.tokens,
                "bytes": file.size,
                "sha256": file.fingerprint,
            }
            bucket = {} if shard.bucket is None else {"bucket": shard.bucket}
            found[part]["files"].append(place | sums | bucket)
    if name == "datasets":
        found["folder"] = context.input("card").path.rpartition("/")[0]
    return found


def _remove_earlier(context: Context) -> None:
    """Removes what this task does not read, where the list that is there is of another mix."""
    before = None
    with contextlib.suppress(CurateError):  # damaged: as if there were none
        before = context.workspace.read_json(EXPORTS)
    if before is not None and before.get("of") == context.task.params["of"]:
        return
    current = {file.path for files in context.task.inputs.values() for file in files}
    names = [name for folder in PARTS for name in context.workspace.list(f"mix/{folder}", ".idx")]
    for name in [*names, *context.workspace.list("mix/exports")]:
        if name not in current:
            context.workspace.remove(name)
