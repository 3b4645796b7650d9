"""What `curate pretrain` shows: JSON for machines, a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import json
import sys

import pytest

from curate.pipeline import progress, progress_training
from curate.pipeline.progress_training import TrainingDisplay

STEPS = 10


def step(number, **more):
    line = f"step {number}/{STEPS}: loss 2.0000"
    facts = {"event": "step", "step": number, "steps": STEPS, "line": line, "loss": 2.0, "tokens_per_second": 1234.0}
    return facts | {"seconds_left": 60.0} | more


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)


def test_elsewhere_steps_are_lines_at_most_every_ten_seconds_beside_the_first_and_last(elsewhere, monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr(progress_training.time, "monotonic", lambda: now[0])
    with TrainingDisplay("pretrain", as_json=False) as display:
        for number in range(1, STEPS + 1):
            display.show(step(number))
            now[0] += 4.0
        display.show({"event": "checkpoint", "line": "checkpoint X"})
        display.show({"event": "done", "line": "pretrain is done: so well\nscores"})
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "step 1/10", "step 4/10", "step 7/10", "step 10/10", "checkpoint X"
    ]  # fmt: skip
    assert out == ""
    assert display.done == "pretrain is done: so well\nscores"


def test_control_characters_of_a_sample_do_not_reach_the_terminal(elsewhere, capsys):
    with TrainingDisplay("pretrain", as_json=False) as display:
        display.show({"event": "sample", "line": "sample: a\x1b[31mb\nc"})
    assert "\x1b" not in capsys.readouterr().err


def test_json_has_every_event_with_its_numbers(capsys, monkeypatch):
    monkeypatch.setattr(sys, "__stdout__", sys.stdout)
    with TrainingDisplay("pretrain", as_json=True) as display:
        for number in (1, 2):
            display.show(step(number))
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == [1, 2]


def test_a_terminal_has_a_bar_of_steps(monkeypatch):
    shown = []

    class Bar(progress.LiveDisplay):
        def __init__(self):
            pass

        def event(self, kind, **facts):
            shown.append(facts["message"])

        def update(self, state):
            shown.append(progress.state_line(state))

        def close(self):
            shown.append("closed")

    monkeypatch.setattr(progress_training, "open_display", lambda **options: Bar())
    with TrainingDisplay("pretrain", as_json=False) as display:
        display.show({"event": "start", "line": "begins"})
        display.show(step(3, mfu=0.41))
    assert shown == ["begins", "pretrain: 3/10 steps, loss 2.000, 1,234 tokens/s, MFU 41 %, 1 min 0 s left", "closed"]
