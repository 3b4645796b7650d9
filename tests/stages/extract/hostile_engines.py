"""Engines of a user's own that do what a parser can do on a bad page; named by import path, as any engine of a user."""

from __future__ import annotations

import ctypes
import os
import signal
import time


def misbehave(html: str, url: str | None) -> str:
    """Does what the page's first word after `do:` says, and is a good engine otherwise."""
    if "do:" not in html:
        return html
    deed = html.partition("do:")[2].split()[0]
    if deed == "spin":
        while True:
            pass
    if deed == "work":
        end = time.process_time() + 0.25
        while time.process_time() < end:
            pass
    if deed == "sleep":
        time.sleep(3600)
    if deed == "segfault":
        ctypes.string_at(0)
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "exit":
        os._exit(3)
    if deed == "allocate":
        return "x" * (8 << 30)
    if deed == "raise":
        raise KeyError("no such page")
    if deed == "print":
        print("noise on standard output", flush=True)
    if deed == "wrong":
        return 7  # type: ignore[return-value]
    if deed == "crash-unless-first":
        # A process that has seen a page before is taken to be worn out: it dies, a fresh one does not.
        if _seen:
            os.abort()
        _seen.append(html)
    if deed == "remember":
        _seen.append(html)
    return html


_seen: list[str] = []


def only_long(html: str, url: str | None) -> str:
    """Finds only pages that are long."""
    return html if len(html) > 300 else ""
