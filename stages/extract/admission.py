"""Which URLs are let in: FineWeb's URL filter (datatrove `url_filter.py`) and a list of those who want no part in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from curate.pipeline.errors import CurateError
from curate.stages.extract.config import AdmissionConfig

_SEPARATORS = re.compile(r"[^a-zA-Z0-9]+")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass(frozen=True)
class Admission:
    """The lists, ready to be asked."""

    takedown_hosts: frozenset[str]
    takedown_urls: frozenset[str]
    domains: frozenset[str]
    hosts: frozenset[str]
    urls: frozenset[str]
    words: frozenset[str]
    soft_words: frozenset[str]
    soft_limit: int
    substrings: re.Pattern[str] | None

    def refusal(self, url: str | None) -> tuple[str, str] | None:
        """Reason and matched item where the URL is not let in; None where it is, or where there is no URL."""
        if not url:
            return None
        host, plain = host_of(url), plain_url(url)
        if plain in self.takedown_urls:
            return "takedown", plain
        if found := _covers(self.takedown_hosts, host):
            return "takedown", found
        if found := _covers(self.domains, host):
            return "url_domain", found
        if host in self.hosts:
            return "url_host", host
        if plain in self.urls:
            return "url_listed", plain
        words = {word.lower() for word in _SEPARATORS.split(url)} if self.words or self.soft_words else set()
        if banned := words & self.words:
            return "url_word", min(banned)
        soft = words & self.soft_words
        if len(soft) >= self.soft_limit:
            return "url_soft_words", ",".join(sorted(soft))
        if self.substrings is not None and (match := self.substrings.search(_SEPARATORS.sub("", url).lower())):
            return "url_substring", match[0]
        return None


def host_of(url: str) -> str:
    """The host in lower case, without port and final dot, an international name as ASCII; empty where there is none."""
    try:
        host = (urlsplit(url if _SCHEME.match(url) else f"//{url}").hostname or "").rstrip(".")
    except ValueError:
        return ""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return host.lower()
    return host.lower()


def plain_url(url: str) -> str:
    """The URL without scheme, user, default port and fragment, its host as `host_of` gives it: what lists are compared by."""
    scheme = _SCHEME.match(url)
    rest = url[scheme.end() :] if scheme else url
    rest = rest.partition("#")[0]
    end = re.search(r"[/?]|$", rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    port = re.search(r":(\d+)$", authority)
    shown = f":{port[1]}" if port and port[1] not in ("80", "443") else ""
    return f"{host_of(url)}{shown}{path or '/'}"


def _covers(domains: frozenset[str], host: str) -> str | None:
    """The entry that is the host or a domain above it."""
    while domains and host:
        if host in domains:
            return host
        host = host.partition(".")[2]
    return None


_loaded: dict[str, Admission] = {}


def admission_of(config: AdmissionConfig) -> Admission:
    """The lists of a configuration, read once a process. Raises CurateError where a file cannot be read."""
    key = config.fingerprint()
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = _load(config)
    return _loaded[key]


def _load(config: AdmissionConfig) -> Admission:
    takedown = _lines([config.takedown]) if config.takedown else []
    substrings = sorted({word.lower() for word in config.banned_substrings})
    return Admission(
        takedown_hosts=frozenset(host_of(entry) for entry in takedown if _names_host(entry)) - {""},
        takedown_urls=frozenset(plain_url(entry) for entry in takedown if not _names_host(entry)),
        domains=frozenset(map(host_of, _lines(config.blocked_domains))) - {""},
        hosts=frozenset(map(host_of, _lines(config.blocked_hosts))) - {""},
        urls=frozenset(map(plain_url, _lines(config.blocked_urls))),
        words=frozenset(word.lower() for word in config.banned_words),
        soft_words=frozenset(word.lower() for word in config.soft_words),
        soft_limit=config.soft_words_limit,
        substrings=re.compile("|".join(substrings)) if substrings else None,
    )


def _names_host(entry: str) -> bool:
    """True for `example.org` and `https://example.org/`: all of the host, not one page."""
    return plain_url(entry) == f"{host_of(entry)}/"


def _lines(files: list[str]) -> list[str]:
    entries = []
    for name in files:
        try:
            text = Path(name).read_text("utf-8", "replace")
        except OSError as error:
            raise CurateError(
                f"extract.admission: cannot read {name} ({error.strerror}); every worker needs the file"
            ) from error
        entries += [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return entries
