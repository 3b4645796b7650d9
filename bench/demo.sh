#!/bin/sh
# `make demo`: the whole way on a small sample of real pages, with the commands that a real crawl takes.
set -eu
CURATE=${CURATE:-curate}
DEMO=${DEMO:-demo}
CACHE=${CURATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/curate}

step() {
    printf '\n$ curate %s\n' "$*"
    "$CURATE" "$@"
}

step sample --output "$CACHE"
step run all --recipe demo --input "$CACHE/sample/*.warc.gz" --workspace "$DEMO"
step status --workspace "$DEMO" --verify
step mix --workspace "$DEMO" --budget 100k
step pretrain --workspace "$DEMO"
step report --workspace "$DEMO"

# A page that filter dropped, with an address that is short enough to paste.
PAGE=$("$(dirname "$(command -v "$CURATE")")/python" - "$DEMO" <<'END'
import shlex
import sys
from pathlib import Path

import pyarrow.parquet as pq

urls = (
    url
    for path in sorted(Path(sys.argv[1], "filter", "ledger").rglob("*.parquet"))
    for url in pq.read_table(path, columns=["url"]).column("url").to_pylist()
    if url and url.isascii() and url.isprintable() and len(url) < 60
)
print(shlex.quote(next(urls, "URL")))
END
) || PAGE=https://…

cat <<END

Done. What there is now:
  report      $DEMO/report/index.html      open it in a browser
  mix         $DEMO/mix/tokens             100,000 tokens; $DEMO/mix/manifest.parquet names every document
  checkpoint  $DEMO/pretrain/checkpoints   the trained model

What to try next:
  $CURATE why --workspace $DEMO $PAGE
                                            why this page was dropped; the report names others
  $CURATE run all --workspace $DEMO --set filter.rules.word_count.min=20
                                            other thresholds: extract is not run again
  $CURATE recipes show fineweb              the published recipe, every number in it
  $CURATE fetch CC-MAIN-2025-30 --warcs 2   files of a real crawl
END
