"""Documents out of what came in: readers, limits, the guarded child process, extraction engines, admission."""

from __future__ import annotations

from typing import Any

__all__ = ["Extraction", "extract"]


def __getattr__(name: str) -> Any:
    """`extract` and `Extraction`, on first use: the command line imports this room for its configuration alone."""
    if name in __all__:
        from curate.stages.extract import engines

        return getattr(engines, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
