"""The base of every typed configuration: unknown keys and wrong types are refused."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A section of a recipe. Unknown keys are errors, values are not coerced between kinds, instances do not change.

    A field with `json_schema_extra={"output": False}` does not change what is written (a memory limit, say) and
    stays out of the fingerprint. One with `{"file": True}` names a local file (or a list of them), whose content is part
    of the fingerprint. One with `{"module": True}` may name a function of the user's own (`module:function`), whose
    module's source is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)

    def fingerprint(self, fields: tuple[str, ...] = ()) -> str:
        """SHA-256 (hex) of every field that can change the output, or of some of the fields.

        A field of a section within is named with a dot, `language.model`. Raises KeyError for a field that is not there.
        """
        values = _output_fields(self)
        if not fields:
            return digest(values)
        found: dict[str, Any] = {}
        for field in fields:
            found |= _at(self, values, field)
        return digest(found)


def _output_fields(model: BaseModel) -> dict[str, Any]:
    fields = {}
    for name, info in type(model).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("output") is False:
            continue
        value = getattr(model, name)
        fields[name] = _plain(value)
        if isinstance(extra, dict) and extra.get("file") is True:
            fields[f"{name} content"] = _contents(value)
        if isinstance(extra, dict) and extra.get("module") is True and isinstance(value, str) and ":" in value:
            fields[f"{name} content"] = source_digest(value.partition(":")[0])
    return fields


def _at(model: BaseModel, values: dict[str, Any], field: str) -> dict[str, Any]:
    """A field's value and content; where the section that it stands in is null, the section's null."""
    name, _, inner = field.partition(".")
    if name not in type(model).model_fields:
        raise KeyError(f"{type(model).__name__} has no field {name!r}")
    section = getattr(model, name)
    if not inner or section is None:
        return {key: values[key] for key in (name, f"{name} content") if key in values}
    return {f"{name}.{key}": value for key, value in _at(section, values[name], inner).items()}


def source_digest(module: str) -> str | None:
    """SHA-256 (hex) of a module's source, of all of them below it where it is a package; None where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    files = [Path(spec.origin)]
    for folder in spec.submodule_search_locations or []:
        files += sorted(Path(folder).rglob("*.py"))
    return digest([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])


def _contents(value: Any) -> Any:
    """SHA-256 of the local files named; None where there is no such file (a shipped name, a URL)."""
    if isinstance(value, list | tuple):
        return [_contents(item) for item in value]
    if not isinstance(value, str) or not Path(value).is_file():
        return None
    facts = Path(value).stat()
    return _file_digest(value, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, modified: int) -> str:
    """Kept as long as size and time of the file stay: every step asks, of a folder of blocklists or a model of 2 GB."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _output_fields(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()
