"""What a recipe says of URLs, and its lists as a worker holds them: files, folders and archives, or fetched from a URL."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from pydantic import Field, ValidationInfo, field_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import redact
from curate.stages.urls.blocklists import Blocklist, Builder
from curate.stages.urls.parts import letters_of, words_of

if TYPE_CHECKING:
    from curate.pipeline.download import Transfer

MOST_FETCHED = 1 << 30
"""Bytes of a list behind a URL, as it is packed."""
MOST_BYTES = 4 << 30
"""Bytes of one list, unpacked."""
LONGEST_LINE = 1 << 16
"""Bytes of a line; a longer one is passed over."""

_COMMENT = re.compile(r"(?:^|\s)#.*+")
"""`#` within a word is a fragment."""
_BLOCK = 1 << 20
_UT1 = ("domains", "urls")
"""What a category of UT1 is made of; its `expressions` are not read."""
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, gzip.BadGzipFile)


class ListUrl(Strict):
    """A list behind a URL, pinned to what was fetched."""

    url: str = Field(pattern=r"^[a-zA-Z][a-zA-Z0-9+.-]*://", json_schema_extra={"output": False})
    """No part of a run's identity: the content is, and a token in the URL is taken out of `recipe.yaml`."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the file as it is fetched; where it is not given, the list is fetched when the recipe is read, and this filled in."""


class UrlLists(Strict):
    """Lists that URLs are compared with.

    A file is part of a run's identity by its content. A URL is fetched when the recipe is first read, into the cache folder
    (CURATE_CACHE), and the SHA-256 of what came is filled in: it is part of the identity, stands in the run's
    `recipe.yaml`, and every worker checks its copy against it. To take a newer list, remove `lists` from the cache folder.
    """

    categories: list[str] = Field(default_factory=list)
    """Of folders and archives with a folder a category, as UT1's, only these; empty: all."""
    blocklists: list[str | ListUrl] = Field(default_factory=list, json_schema_extra={"file": True})
    """Lists of domains and URLs: files, folders or URLs, as text, gz, xz or tar of these. Formats, told by the line: UT1,
    hosts, `||domain^`, bare names and URLs (curate.stages.urls.blocklists.parse)."""
    banned_words: list[str] = Field(default_factory=list)
    """Words of a URL: what lies between characters other than ASCII letters and digits, in either case."""
    soft_words: list[str] = Field(default_factory=list)
    """Words of which one is no reason yet."""
    banned_substrings: list[str] = Field(default_factory=list)
    """Strings looked for in a URL's letters and digits, joined and lower-cased."""

    @field_validator("blocklists", mode="before")
    @classmethod
    def _found(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list):
            return value
        entries: list[Any] = []
        for item in value:
            if isinstance(item, str) and "://" in item:
                entries.append({"url": item})
            elif isinstance(item, str) and Path(item).is_dir():
                entries += _files_below(Path(item), info.data.get("categories") or [])
            else:
                entries.append(item)
        return entries

    @field_validator("blocklists")
    @classmethod
    def _there(cls, value: list[str | ListUrl]) -> list[str | ListUrl]:
        for name in value:
            if isinstance(name, str) and not Path(name).is_file():
                raise ValueError(f"no such file: {name}")
        try:
            return [item if isinstance(item, str) or item.sha256 else pinned(item.url) for item in value]
        except CurateError as error:
            raise ValueError(str(error)) from None

    @field_validator("banned_words", "soft_words", "banned_substrings")
    @classmethod
    def _can_match(cls, value: list[str]) -> list[str]:
        for word in value:
            if not re.fullmatch(r"[A-Za-z0-9]+", word):
                raise ValueError(f"{word!r} can never match: only letters and digits of a URL are compared")
        return value


@dataclass(frozen=True, eq=False)
class UrlRules:
    """The lists of a recipe, ready to be asked."""

    blocklist: Blocklist
    banned: frozenset[str]
    soft: frozenset[str]
    substrings: tuple[str, ...]

    def banned_words(self, url: str) -> list[str]:
        """The banned words of the URL, sorted, each once."""
        return sorted(words_of(url) & self.banned) if self.banned else []

    def soft_words(self, url: str) -> list[str]:
        """The soft words of the URL, sorted, each once."""
        return sorted(words_of(url) & self.soft) if self.soft else []

    def banned_substrings(self, url: str) -> list[str]:
        """The banned substrings that the URL holds, sorted, each once."""
        letters = letters_of(url) if self.substrings else ""
        return [text for text in self.substrings if text in letters]


_held: dict[tuple[Any, ...], UrlRules] = {}


def rules_of(config: UrlLists) -> UrlRules:
    """The lists of a configuration, read once a process. Raises CurateError where one cannot be read or holds no entry."""
    key = (config.model_dump_json(include=set(UrlLists.model_fields)), *stamps(config.blocklists))
    if key not in _held:
        while len(_held) > 1:  # extract's and filter's
            _held.pop(next(iter(_held)))
        builder = Builder()
        read_lists(builder, config.blocklists, config.categories)
        _held[key] = UrlRules(
            builder.build(),
            frozenset(word.lower() for word in config.banned_words),
            frozenset(word.lower() for word in config.soft_words),
            tuple(sorted({word.lower() for word in config.banned_substrings})),
        )
    return _held[key]


def stamps(lists: Sequence[str | ListUrl]) -> list[Any]:
    """What changes when one of the files does."""
    files = [Path(item) for item in lists if isinstance(item, str)]
    return [(file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None for file in files]


def read_lists(builder: Builder, lists: Sequence[str | ListUrl], categories: Sequence[str] = ()) -> None:
    """Adds what the lists hold. Raises CurateError for one that cannot be read, is too long, or holds no entry at all."""
    for item in lists:
        name = item if isinstance(item, str) else redact(item.url)
        before = builder.entries
        for block in _blocks(Path(item) if isinstance(item, str) else fetched(item.url, item.sha256), name, categories):
            builder.add_lines(block)
        if builder.entries == before:
            among = f" in the categories {', '.join(categories)}" if categories else ""
            raise CurateError(f"{name} holds no domain and no URL{among}: is it a blocklist?")


def lines_of(name: str) -> list[str]:
    """The lines of a small list that somebody wrote, without comments; CurateError where it cannot be read."""
    blocks = b"".join(_blocks(Path(name), name, ()))
    lines = [_COMMENT.sub("", line).strip() for line in blocks.decode("utf-8-sig", "replace").splitlines()]
    return [line for line in lines if line]


def pinned(url: str) -> ListUrl:
    """The URL with the SHA-256 of what it gave when it was first fetched on this machine. Raises CurateError."""
    note = _folder() / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.sha256"
    with suppress(OSError, ValueError):
        known = ListUrl(url=url, sha256=note.read_text("ascii").strip())
        if known.sha256 and (_folder() / known.sha256).is_file():
            return known
    digest = fetched(url).name
    temporary = note.with_suffix(f".{os.getpid()}")
    temporary.write_text(digest + "\n", "ascii")
    temporary.replace(note)
    return ListUrl(url=url, sha256=digest)


def fetched(url: str, sha256: str = "") -> Path:
    """The file behind a URL of the recipe, in the cache folder under its SHA-256, fetched where it is not there.

    Raises CurateError where it cannot be fetched, is longer than MOST_FETCHED, or is not the file with that SHA-256.
    """
    from curate.pipeline.download import download
    from curate.pipeline.remote import Retry

    def check(transfer: Transfer) -> None:
        if transfer.received > MOST_FETCHED:
            raise CurateError(f"{redact(url)} is longer than {MOST_FETCHED:,} bytes: is it a blocklist?")

    folder = _folder()
    if sha256 and (folder / sha256).is_file() and _digest(folder / sha256) == sha256:
        return folder / sha256
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.new"
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, by a kill too
            if sha256 and (folder / sha256).is_file() and _digest(folder / sha256) == sha256:
                return folder / sha256
            target.unlink(missing_ok=True)
            digest = _digest(download(url, target, retry=Retry(attempts=3), progress=check))
            if sha256 and digest != sha256:
                target.unlink()
                raise CurateError(
                    f"{redact(url)} is not the list that it was when the recipe was read (SHA-256 {sha256}): put that file "
                    f"into {folder} under this name, or leave sha256 out to take the new one"
                )
            return target.replace(folder / digest)
    except OSError as error:
        raise CurateError(f"cannot write to {folder}: {error} (set CURATE_CACHE to another folder)") from error


def _folder() -> Path:
    from curate.pipeline.sample import default_cache

    return default_cache() / "lists"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _wanted(names: Sequence[str], categories: Sequence[str]) -> list[str]:
    """The files of a folder or an archive that are lists: where there are UT1's, only these, of the categories wanted."""
    paths = {name: PurePosixPath(name) for name in names}
    ut1 = [name for name in names if paths[name].name in _UT1]
    chosen = ut1 or [name for name in names if not paths[name].name.startswith(".")]
    return sorted(name for name in chosen if not categories or paths[name].parent.name in categories)


def _files_below(folder: Path, categories: Sequence[str]) -> list[str]:
    names = [path.as_posix() for path in folder.rglob("*") if path.is_file()]
    found = _wanted(names, categories)
    if not found:
        raise ValueError(
            f"{folder} holds no list" + (f" in the categories {', '.join(categories)}" if categories else "")
        )
    return found


def _blocks(path: Path, name: str, categories: Sequence[str]) -> Iterator[bytes]:
    """Whole lines of a list, about a MiB at a time, out of whatever it is packed in; at most MOST_BYTES of them."""
    read = 0
    try:
        for stream in _streams(path, name, categories):
            for block in _whole_lines(stream):
                read += len(block)
                if read > MOST_BYTES:
                    raise CurateError(f"{name} is longer than {MOST_BYTES:,} bytes when unpacked: is it a blocklist?")
                yield block
    except _DAMAGE as error:
        raise CurateError(f"{name} is damaged: {error}") from error
    except OSError as error:
        raise CurateError(f"cannot read {name} ({error.strerror or error}); every worker needs the file") from error


def _streams(path: Path, name: str, categories: Sequence[str]) -> Iterator[IO[bytes]]:
    with path.open("rb") as stream:
        magic = stream.read(6)
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            members = {}
            for member in archive:
                if member.offset_data + member.size > MOST_BYTES:
                    raise CurateError(f"{name} is longer than {MOST_BYTES:,} bytes when unpacked: is it a blocklist?")
                if member.isreg() and not member.issparse():
                    members[member.name] = member
            for chosen in _wanted(list(members), categories):
                inner = archive.extractfile(members[chosen])
                if inner is not None:
                    yield inner
    elif magic.startswith(b"\x1f\x8b"):
        with gzip.open(path) as unzipped:
            yield unzipped  # type: ignore[misc]  # a file of bytes in all but name
    elif magic == b"\xfd7zXZ\0":
        with lzma.open(path) as unpacked:
            yield unpacked
    else:
        with path.open("rb") as plain:
            yield plain


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Blocks that end at the end of a line; a line of more than LONGEST_LINE bytes at a block's end is left out."""
    rest = b""
    skipping = False
    while block := stream.read(_BLOCK):
        if skipping:
            _, newline, block = block.partition(b"\n")
            if not newline:
                continue
            skipping = False
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if len(rest) > LONGEST_LINE:
            rest, skipping = b"", True
        if newline:
            yield whole + newline
    if rest:
        yield rest
