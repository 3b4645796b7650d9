"""Errors that a user sees as one clear line; anything else is a bug and keeps its traceback."""

from __future__ import annotations

import errno


class CurateError(Exception):
    """Something the user can mend: says what was wrong, where, and what to do."""

    exit_code = 1


class UsageError(CurateError):
    """The recipe or the command line is wrong; nothing was done."""

    exit_code = 2


class WorkspaceLocked(CurateError):
    """Another driver works on this workspace."""

    exit_code = 3


class DiskFull(CurateError):
    """No space left where the workspace lies: the run stops at once."""

    exit_code = 4


class Incomplete(CurateError):
    """The run ended, but some shards failed or the sums do not match."""


def is_disk_full(error: BaseException) -> bool:
    """True if the error, or any error that caused it, says that the disk or the quota is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskFull) or (isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def nearest(word: str, choices: list[str] | tuple[str, ...] | set[str]) -> str:
    """`; did you mean 'x'?` for the nearest valid name, or the list of all names if none is near."""
    import difflib

    near = difflib.get_close_matches(word, sorted(choices), n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid: {', '.join(sorted(choices))}" if choices else ""
