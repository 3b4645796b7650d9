"""What a training run shows while it works, as `progress` has it for the stages: live, as lines, or as JSON."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from curate.pipeline.options import print_json
from curate.pipeline.progress import LINE_SECONDS, Display, LineDisplay, StepState, duration, open_display
from curate.pipeline.tables import printable_lines


class TrainingDisplay:
    """Shows the events of a run: dictionaries with `event`, `line` for people, and the event's own numbers.

    With `as_json` each is one JSON object a line on standard output. On a terminal the steps move a bar, with the other
    events as lines above it; elsewhere all are lines, those of steps at most one in LINE_SECONDS, beside the first and last.
    The line of the event `done` is kept in `done` for whoever prints the result.
    """

    def __init__(self, name: str, *, as_json: bool) -> None:
        self.done = f"{name} is done"
        self._name = name
        self._as_json = as_json
        self._display: Display | None = None
        self._state: StepState | None = None
        self._last = -LINE_SECONDS

    def show(self, facts: dict[str, Any]) -> None:
        """Receives an event."""
        if self._as_json:
            print_json({"event": "progress", **facts})
            return
        if self._display is None:  # of several processes only the one that reports has one
            self._display = open_display(as_json=False)
        if facts.get("event") == "step":
            self._step(self._display, facts)
        elif facts.get("event") == "done":
            self.done = printable_lines(facts["line"])
        elif facts.get("line"):
            self._line(self._display, facts["line"])

    def _step(self, display: Display, facts: dict[str, Any]) -> None:
        if isinstance(display, LineDisplay):
            if time.monotonic() - self._last >= LINE_SECONDS or facts["step"] == facts["steps"]:
                self._last = time.monotonic()
                self._line(display, facts["line"])
            return
        if self._state is None:
            self._state = _Steps(self._name, facts["steps"])
        self._state.done = facts["step"]
        self._state.note = _brief(facts)
        display.update(self._state)

    def _line(self, display: Display, text: str) -> None:
        display.event("note", message=printable_lines(text))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.close()


def _brief(facts: dict[str, Any]) -> str:
    """A step's numbers in what a terminal of 80 columns has room for."""
    parts = [f"loss {facts['loss']:.3f}", f"{facts['tokens_per_second']:,.0f} tokens/s"]
    if "mfu" in facts:
        parts.append(f"MFU {100 * facts['mfu']:.0f} %")
    return ", ".join([*parts, f"{duration(facts['seconds_left'])} left"])


class _Steps(StepState):
    """Optimiser steps; the time left stands in the note, as training knows it better than a count of tasks."""

    noun = "steps"

    def __init__(self, name: str, steps: int) -> None:
        super().__init__(name, name, steps, 0)

    @property
    def seconds_left(self) -> float | None:
        return None
