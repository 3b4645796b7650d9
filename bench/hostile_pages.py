"""Pages made to hurt an extractor, and what one engine pays for one of them in a process of its own.

python bench/extract.py --one ENGINE PAGE    # prints one line of JSON
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.stages.extract import charset
from curate.stages.extract.charset import Source

CPU_SECONDS = 10
"""A run is ended after so many CPU seconds of its own, start and imports not counted."""
MEMORY_BYTES = 12 << 30
"""A run may not ask for more address space: the machine that measures has to survive."""
WARM = (
    b"<html><body><article><h1>Title</h1><p>Some words of a first paragraph, with a comma.</p></article></body></html>"
)


def page(name: str) -> str:
    return _wrapped(PAGES[name]())


def _wrapped(body: str) -> str:
    """The hurtful part between paragraphs of prose, so that there is something to find."""
    prose = "<p>This is a paragraph of plain prose, as an article would have it, with commas and a full stop.</p>\n" * 5
    return f"<!DOCTYPE html><html><head><title>Page</title></head><body><article>{prose}{body}{prose}</article></body></html>"


_MANY = (8 << 20) - 1500
"""Bytes of a flood that with what stands around it is not longer than a page may be."""
_MATHJAX = "<script src=MathJax.js></script><p>"

PAGES: dict[str, Callable[[], str]] = {
    "100,000 nested div": lambda: "<div>" * 100_000 + "deep" + "</div>" * 100_000,
    "100,000 nested span, never closed": lambda: "<span>x" * 100_000,
    "10 MB of plain text": lambda: "plain words in one paragraph, again and again. " * (10_000_000 // 47),
    "1,000,000 unclosed <b>": lambda: "<b>x" * 1_000_000,
    "50,000 unclosed <a> in paragraphs": lambda: "".join(f"<p><a href=/{n}><i class=c{n}>x" for n in range(50_000)),
    "one attribute of 10 MB": lambda: f'<div class="{"name " * 2_000_000}">x</div>',
    "100,000 classes on 100 elements": lambda: f'<p class="{" ".join(f"c{n}" for n in range(1_000))}">x</p>' * 100,
    "100,000 attributes on one element": lambda: f"<div {' '.join(f'a{n}=1' for n in range(100_000))}>x</div>",
    "a table of 200,000 rows": lambda: f"<table>{'<tr><td>a</td><td>b, c</td></tr>' * 200_000}</table>",
    "20,000 nested tables": lambda: "<table><tr><td>" * 20_000 + "x",
    "50,000 nested lists": lambda: "<ul><li>x" * 50_000,
    "300,000 list items with links": lambda: f"<ul>{'<li><a href=/a>some link</a></li>' * 300_000}</ul>",
    "a comment of 10 MB, never closed": lambda: "<!-- " + "words > and - - more " * 500_000,
    "a script of 10 MB, never closed": lambda: "<script>" + "var a = '<p>'; " * 700_000,
    "1,000,000 entities": lambda: "<p>" + "&amp;&eacute;&#x1F600;&notit; " * 250_000 + "</p>",
    "5 MB of Chinese on one line": lambda: "<p>" + "这是一个很长的句子，没有换行。" * 110_000 + "</p>",
    "5,000,000 times <": lambda: "<" * 5_000_000,
    "1,000,000 times </p>": lambda: "</p>" * 1_000_000,
    "1,000,000 dollar signs": lambda: "<p>" + "$ " * 1_000_000 + "</p>",
    "100,000 unclosed \\begin": lambda: "<p>" + r"\begin{align} \[ \( x " * 100_000 + "</p>",
    "50,000 nested mrow": lambda: "<math>" + "<mrow>" * 50_000 + "<mi>x</mi>",
    "JSON-LD 100,000 deep": lambda: '<script type="application/ld+json">' + '{"a":[' * 100_000 + "</script>",
    "10 MB in <pre>": lambda: "<pre>" + "    code(line)\n" * 660_000 + "</pre>",
    "8 MiB of *_`": lambda: "<p>" + "*_`" * (_MANY // 3),
    "8 MiB of $": lambda: _MATHJAX + "$" * _MANY,
    "8 MiB of $x$": lambda: _MATHJAX + "$x$ " * (_MANY // 4),
    "8 MiB of \\(": lambda: _MATHJAX + r"\(" * (_MANY // 2),
    "8 MiB of AsciiMath": lambda: (
        _MATHJAX.replace("MathJax.js", "MathJax.js?config=AM_CHTML") + "`x/y` " * (_MANY // 6)
    ),
    "8 MiB of <math>": lambda: "<p>" + "<math><mi>x</mi></math>" * (_MANY // 23),
    "8 MiB of nested <math>": lambda: "<p>" + "<math><mfrac><mn>1</mn>" * (_MANY // 23),
    "8 MiB of pictures of formulas": lambda: "<p>" + '<img class=tex alt="x^2">' * (_MANY // 25),
    "8 MiB of <code> with backticks": lambda: _MATHJAX + "<code>`` `</code>" * (_MANY // 17),
    "50,000 styled list items": lambda: "<ul>" + "<li><b>one</b> <i>*two*</i> <code>three</code>" * 50_000,
    "50,000 nested quotations": lambda: "<blockquote>quoted words" * 50_000,
    "a table of wide cells": lambda: "<table>" + ("<tr>" + "<td colspan=50 rowspan=500>x" * 300) * 900,
}


def run_one(engine: Callable[[Source, str | None], str], name: str) -> dict[str, Any]:
    """CPU seconds and peak memory of one engine on one page, after a warm-up; ends the process at the CPU limit."""
    engine(charset.read(WARM), None)
    source = charset.read(page(name).encode())
    before = _peak_mb()
    limit = int(time.process_time()) + CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    started = time.process_time()
    found: dict[str, Any] = {"page": name, "kB": round(len(source.utf8) / 1000)}
    try:
        found["characters"] = len(engine(source, None))
    except (Exception, RecursionError) as error:  # noqa: BLE001 - what an engine raises is what is measured
        found["error"], found["characters"] = type(error).__name__, 0
    found["cpu_seconds"] = round(time.process_time() - started, 3)
    found["peak_mb"] = round(_peak_mb())
    found["added_mb"] = round(_peak_mb() - before)
    return found


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def run_all(engine: str, options: list[str], names: list[str] | None = None) -> list[dict[str, Any]]:
    """`run_one` in a fresh process for each page; of a process that was ended there is a reason in place of numbers."""
    return [_in_process(engine, options, name) for name in names or list(PAGES)]


def _in_process(engine: str, options: list[str], name: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("extract.py")), "--one", engine, name, *options]
    try:
        # The wall clock is a second guard: some kernels are late with the CPU limit.
        done = subprocess.run(command, capture_output=True, text=True, timeout=4 * CPU_SECONDS + 20, check=False)
    except subprocess.TimeoutExpired:
        return _ended(name, f"over {CPU_SECONDS} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    return _ended(name, f"over {CPU_SECONDS} s" if done.returncode in (-24, -9) else f"died ({done.returncode})")


def _ended(name: str, why: str) -> dict[str, Any]:
    return {"page": name, "error": why, "cpu_seconds": None, "peak_mb": None, "added_mb": None, "characters": 0}
