"""Pages that hang, crash, exhaust or kill the process that parses them: the shard goes on after them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from archive import OWN, good, http, page, warc

from curate.pipeline.errors import CurateError
from curate.stages.extract import guarded
from curate.stages.extract.config import Settings
from curate.stages.extract.guarded import Extracted, Failure, Guard, Limits
from curate.stages.extract.records import Page


def does(name: str, deed: str) -> bytes:
    return warc(name, http(page(f"do:{deed} now")))


def job(text: str) -> Page:
    return Page(0, 0, "id", None, None, text.encode(), True)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("spin", "timeout"),
        ("segfault", "crashed"),
        ("kill", "crashed"),
        ("exit", "crashed"),
        ("allocate", "memory"),
        ("raise", "extractor_error"),
        ("wrong", "extractor_error"),
    ],
)
def test_a_hostile_page_costs_itself_alone(shelf: Any, deed: str, reason: str) -> None:
    data = good("a") + does("b", deed) + good("c") + good("d")
    result = shelf.extract(data, engine=OWN, cpu_seconds=0.3)
    assert (result.kept, result.lost) == (["a", "c", "d"], [(reason, "b")])
    assert result.ledger[0]["outcome"] == "quarantined" and result.ledger[0]["detail"]


def test_an_engine_error_names_type_and_message(shelf: Any) -> None:
    assert "KeyError: 'no such page'" in shelf.extract(does("a", "raise"), engine=OWN).ledger[0]["detail"]


def test_a_page_that_stalls_without_using_cpu_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "wall_seconds", property(lambda self: 0.5))
    guard = Guard(Limits(Settings(OWN, (OWN,)), 5.0, 2 << 30))
    outcomes = list(guard.extract([job("one"), job("do:sleep x"), job("two")]))
    guard.stop()
    assert [getattr(item, "reason", None) for item in outcomes] == [None, "stalled", None]


def test_a_page_is_tried_again_alone_when_a_worn_process_dies_in_it() -> None:
    guard = Guard(Limits(Settings(OWN, (OWN,)), 5.0, 2 << 30))
    outcomes = list(guard.extract([job("do:remember a"), job("do:crash-unless-first b"), job("c")]))
    guard.stop()
    assert all(isinstance(item, Extracted) for item in outcomes)


def test_what_an_engine_prints_does_not_disturb_the_answers(shelf: Any) -> None:
    result = shelf.extract(good("a") + does("b", "print") + good("c"), engine=OWN)
    assert result.kept == ["a", "b", "c"]


def test_a_page_that_took_too_long_is_given_up_at_once_on_the_next_attempt(shelf: Any) -> None:
    data = good("a") + does("b", "spin") + good("c")
    first = shelf.extract(data, engine=OWN, cpu_seconds=0.3)
    stored = json.loads((Path(shelf.workspace.root) / "extract/timeouts/CC-MAIN-2024-10/crawl.warc.json").read_text())
    assert stored["records"] == {"1": {"reason": "timeout", "detail": first.ledger[0]["detail"]}}
    before = time.process_time() + _children()
    second = shelf.extract(data, engine=OWN, cpu_seconds=0.3)
    guarded.guard_for(Limits(Settings(OWN, (OWN,)), 0.3, 2 << 30)).stop()
    assert second.bytes == first.bytes
    assert time.process_time() + _children() - before < 30  # it ends: the page is not tried
    assert shelf.extract(data, engine=OWN, cpu_seconds=0.4).ledger[0]["detail"] != first.ledger[0]["detail"]


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_known_timeouts_are_obeyed_without_trying(shelf: Any) -> None:
    """The list says that page 0 took too long: with the same limits it is believed, although the page is a good one."""
    data = does("b", "spin")
    shelf.extract(data, engine=OWN, cpu_seconds=0.3)
    result = shelf.extract(good("b"), engine=OWN, cpu_seconds=0.3)  # the test's file keeps its fingerprint
    assert result.lost == [("timeout", "b")]


def test_a_dead_process_between_two_tasks_is_replaced(shelf: Any) -> None:
    limits = Limits(Settings(OWN, (OWN,)), 30.0, 2 << 30)
    assert shelf.extract(good("a"), engine=OWN).kept == ["a"]
    process = guarded.guard_for(limits)._process
    assert process is not None
    process.kill()
    process.wait()
    assert shelf.extract(good("b"), engine=OWN).kept == ["b"]


def test_the_process_is_kept_from_task_to_task(shelf: Any) -> None:
    shelf.extract(good("a"), engine=OWN)
    process = guarded.guard_for(Limits(Settings(OWN, (OWN,)), 30.0, 2 << 30))._process
    shelf.extract(good("b"), engine=OWN)
    assert process is not None and guarded.guard_for(Limits(Settings(OWN, (OWN,)), 30.0, 2 << 30))._process is process


def test_an_engine_that_cannot_be_imported_is_one_clear_error(shelf: Any) -> None:
    with pytest.raises(CurateError, match=r"extract\.engine: cannot load no_such_module:f"):
        shelf.extract(good("a"), engine="no_such_module:f")


def test_answers_to_a_batch_that_was_given_up_do_not_reach_the_next() -> None:
    guard = Guard(Limits(Settings(OWN, (OWN,)), 5.0, 2 << 30))
    outcomes = guard.extract([job("one"), job("two"), job("three")])
    assert isinstance(next(outcomes), Extracted)
    outcomes.close()
    (last,) = guard.extract([job("four")])
    guard.stop()
    assert isinstance(last, Extracted) and last.text == "four"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel kills orphans on Linux only")
def test_the_process_dies_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    """While it is in a page, too: the page here spins for ever."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from curate.stages.extract.guarded import *\n"
        "guard = Guard(Limits(Settings('hostile_engines:misbehave', ('hostile_engines:misbehave',)), 600, 2 << 30))\n"
        "pages = [Page(0, 0, 'i', None, None, text, True) for text in (b'good', b'do:spin')]\n"
        "for _ in guard.extract(pages): print(guard._process.pid, flush=True)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    for _ in range(200):
        if not _alive(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the extraction process outlived its worker")


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_pages_of_any_size_come_through_the_shared_memory_whole() -> None:
    """It grows for a large page and shrinks again after it; empty pages lie between others."""
    guard = Guard(Limits(Settings(OWN, (OWN,)), 30.0, 2 << 30))
    for sizes in ([5, 0, 70_000], [40 << 20], [3, 1 << 20, 0], [0]):
        texts = [f"{number}" * size for number, size in enumerate(sizes)]
        outcomes = list(guard.extract([job(text) for text in texts]))
        assert [item.text for item in outcomes if isinstance(item, Extracted)] == texts
    guard.stop()


def test_the_time_of_one_page_is_not_charged_to_the_next() -> None:
    guard = Guard(Limits(Settings(OWN, (OWN,)), 0.6, 2 << 30))
    outcomes = list(guard.extract([job(f"do:work {number}") for number in range(6)]))  # 0.25 s of CPU time each
    guard.stop()
    assert all(isinstance(item, Extracted) for item in outcomes)


def test_failures_of_every_kind_in_one_batch_keep_their_order() -> None:
    guard = Guard(Limits(Settings(OWN, (OWN,)), 0.3, 2 << 30))
    deeds = ["a", "do:spin x", "b", "do:segfault x", "do:raise x", "do:kill x", "c"]
    outcomes = list(guard.extract([job(deed) for deed in deeds]))
    guard.stop()
    shown = [item.reason if isinstance(item, Failure) else item.text for item in outcomes]
    assert shown == ["a", "timeout", "b", "crashed", "extractor_error", "crashed", "c"]
