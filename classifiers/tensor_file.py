"""Model files that we write: safetensors, with what the model is as JSON in the header, under the key `curate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.pipeline.errors import CurateError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tensors = dict[str, npt.NDArray[Any]]

MAX_FILE = 1 << 30
MAX_HEADER = 1 << 24
GREATEST_SCORE = 1e30
"""Scores further from 0 than this might not add up as float32."""


def pack(about: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A model file's bytes; the same model gives the same."""
    import numpy as np
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    return save(arrays, {"curate": json.dumps(about, sort_keys=True)})


def unpack(
    path: Path | str, data: bytes | None, check: Callable[[dict[str, Any], Tensors], None]
) -> tuple[dict[str, Any], Tensors, bytes]:
    """What a model is, its arrays, and the file's bytes (read unless given).

    CurateError for a file that is corrupted, truncated or something else, or that `check` refuses (by a ValueError, or by
    stumbling over what is not there).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from curate.classifiers.model import refuse

    try:
        if data is None:
            if Path(path).stat().st_size > MAX_FILE:
                raise refuse(path, f"larger than {MAX_FILE:,} bytes")
            data = Path(path).read_bytes()
        about = header(data)
        tensors = load(data)
        check(about, tensors)
    except OSError as error:
        raise CurateError(f"cannot read model {path}: {error.strerror}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error).split("\n")[0][:200]
        raise refuse(path, why or type(error).__name__) from error
    return about, tensors, data


def header(data: bytes) -> dict[str, Any]:
    """What a model is, from its file's bytes (the first part is enough); ValueError where it says nothing."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > MAX_HEADER or 8 + size > len(data):
        raise ValueError("it ends too early, or is no safetensors file")
    try:
        about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["curate"])
    except (KeyError, TypeError):
        raise ValueError("its header does not say what model it is") from None
    except RecursionError:
        raise ValueError("its header is damaged") from None
    if not isinstance(about, dict):
        raise ValueError("its header does not say what model it is")
    return about


def peek(path: Path) -> dict[str, Any]:
    """`header` of a file of which no more is read; empty where it has none."""
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
            return header(start + stream.read(min(int.from_bytes(start, "little"), MAX_HEADER)))
    except (OSError, ValueError):
        return {}


def check_name(about: Mapping[str, Any]) -> None:
    """ValueError unless the model says its name and version."""
    if not all(isinstance(about[key], str) and about[key] for key in ("name", "version")):
        raise ValueError("it has no name or version")


def check_arrays(tensors: Tensors, expected: Mapping[str, tuple[type[np.generic], int]]) -> None:
    """ValueError unless exactly these arrays are there, of these types and numbers of dimensions, all finite."""
    import numpy as np

    if set(tensors) != set(expected):
        raise ValueError(f"it holds {sorted(tensors)}, not {sorted(expected)}")
    for name, (kind, dimensions) in expected.items():
        if tensors[name].dtype != kind or tensors[name].ndim != dimensions:
            raise ValueError(f"{name} has the wrong type or shape")
        if np.issubdtype(kind, np.floating) and not np.isfinite(tensors[name]).all():
            raise ValueError("it holds numbers that are not finite")


def check_scale(about: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the greatest score that the header states; 0 and 1 where it states none; ValueError for no scale."""
    low, high = about.get("scale", (0.0, 1.0))
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        raise ValueError("its scale is damaged")
    if not -GREATEST_SCORE <= low < high <= GREATEST_SCORE:
        raise ValueError("its scale is damaged")
    return float(low), float(high)


def check_labels(about: Mapping[str, Any], width: int) -> None:
    """ValueError unless the model has `width` distinct labels."""
    labels = about["labels"]
    if (
        not isinstance(labels, list)
        or not len(labels) == width > 0
        or not all(isinstance(each, str) for each in labels)
        or len(set(labels)) != width
    ):
        raise ValueError("its labels do not fit its weights")
