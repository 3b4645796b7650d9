"""Copies: found by exact hash and MinHash within a snapshot, one of each cluster kept.

    from curate.stages.dedup import signatures, deduplicate

The stage itself is `curate.stages.dedup.stage:STAGE`. Kernels are compiled where they are used: this module is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.stages.dedup.library import deduplicate, signatures

__all__ = ["deduplicate", "signatures"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from curate.stages.dedup import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
