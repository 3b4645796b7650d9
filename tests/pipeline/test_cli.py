"""Bad usage gives one clear line and an exit status, never a traceback; good usage says what to do next."""

from __future__ import annotations

import json
from pathlib import Path

import faults
import pytest
from click.testing import CliRunner

from curate.pipeline.cli import main

CLI = ["-m", "curate.pipeline.cli"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "did you mean 'run'"),
        (["run", "filtre", "-w", "W"], "filtre"),
        (["run", "all"], "--workspace"),
        (["run", "all", "-w", "W"], "no input: give --input"),
        (["run", "all", "-w", "W", "--input", "nothing/*.warc.gz"], "nothing/*.warc.gz"),
        (["run", "all", "-w", "W", "--recipe", "finweb"], "did you mean 'fineweb'"),
        (["run", "all", "-w", "W", "--set", "filter.rules.wrod_count.min=3"], "did you mean 'word_count'"),
        (["run", "all", "-w", "W", "--set", "filter.language.treshold=0.5"], "did you mean 'threshold'"),
        (["run", "all", "-w", "W", "--set", "nonsense"], "give key=value"),
        (["run", "extract", "-w", "W", "--address", "auto", "--input", "x"], "--address goes with --engine ray"),
        (["run", "filter", "-w", "W"], "run `curate run extract` first"),
        (["mix", "-w", "W", "--budget", "10GB"], "budget is in tokens"),
        (["mix", "-w", "W"], "run `curate run classify` first"),
        (["pretrain", "-w", "W"], "curate mix"),
        (["status", "-w", "W"], "nothing has run"),
        (["why", "x", "-w", "W"], "run `curate run extract` first"),
        (["run", "dedup", "-w", "W", "--input", "x"], "--input and --snapshot go with extract"),
        (["run", "dedup", "-w", "W", "--set", "filter.rules.word_count.min=3"], "filter is not run by this command"),
        (["run", "all", "-w", "W", "--input", "in.jsonl", "--set", "extract.engine=nosuch:f"], "cannot load nosuch:f"),
        (["run", "all", "-w", "W", "--input", "in.jsonl", "--set", "plugins=[nosuch]"], "cannot import 'nosuch'"),
        (["clean", "-w", "W"], "is no workspace"),
        (["what-if", "word_count.min=5", "-w", "W"], "is no workspace"),
        (["what-if", "-w", "W"], "Missing argument"),
        (["signals", "wrod_count"], "did you mean 'word_count'"),
        (["recipes", "show", "nope"], "no recipe named 'nope'"),
        (["run", "all", "-w", "nosuch://x", "--input", "x"], "cannot open workspace"),
    ],
)
def test_bad_usage_gives_one_clear_error(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "A text."}\n')
    code, out, err = faults.run([*CLI, *arguments])
    assert code == 2
    assert said in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "W" / "recipe.yaml").exists()  # what was refused is not remembered


def test_a_setting_holds_for_later_commands_and_a_refused_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "A text."}\n')
    (tmp_path / "bare.yaml").write_text("filter: {language: null}\n")
    first = [*CLI, "run", "extract", "-w", "W", "--recipe", "bare.yaml", "--input", "in.jsonl"]
    assert faults.run(first)[0] == 0
    assert faults.run([*CLI, "run", "filter", "-w", "W", "--set", "filter.rules.word_count.min=2"])[0] == 0
    assert faults.run([*CLI, "run", "filter", "-w", "W", "--set", "filter.rules.word_count.min=many"])[0] == 2
    code, out, err = faults.run([*CLI, "run", "filter", "-w", "W", "--json"])
    assert code == 0, err
    (event,) = faults.events(out, "stage_finished")
    assert event["reused"] == event["tasks"] == 3


def test_a_new_recipe_that_names_no_input_reads_what_the_workspace_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "A text."}\n')
    (tmp_path / "bare.yaml").write_text("filter: {language: null}\n")
    assert faults.run([*CLI, "run", "extract", "-w", "W", "--recipe", "bare.yaml", "--input", "in.jsonl"])[0] == 0
    code, out, err = faults.run([*CLI, "run", "extract", "-w", "W", "--recipe", "multilingual", "--json"])
    assert code == 0, err
    assert faults.events(out, "stage_finished")[0]["reused"] == 1


def test_an_error_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    code, out, _ = faults.run([*CLI, "status", "-w", str(tmp_path / "w"), "--json"])
    assert code == 2
    assert json.loads(out)["event"] == "error"


def test_the_recipes_that_ship_are_all_valid() -> None:
    code, out, err = faults.run([*CLI, "recipes", "--json"])
    assert code == 0, err
    names = json.loads(out)["recipes"]
    assert "fineweb" in names
    for name in names:
        done = CliRunner().invoke(main, ["recipes", "show", name, "--resolved"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert done.output


def test_the_fineweb_recipe_has_the_published_numbers() -> None:
    import yaml

    _, out, _ = faults.run([*CLI, "recipes", "show", "fineweb", "--resolved"])
    recipe = yaml.safe_load(out)
    assert recipe["filter"]["language"]["languages"] == ["en"]
    assert recipe["filter"]["language"]["threshold"] == 0.65
    limits = {name: rule for name, rule in recipe["filter"]["rules"].items() if rule}
    assert [limits[f"duplicate_{n}_gram_char_fraction"]["max"] for n in range(5, 11)] == [
        0.15,
        0.14,
        0.13,
        0.12,
        0.11,
        0.10,
    ]
    assert [limits[f"top_{n}_gram_char_fraction"]["max"] for n in (2, 3, 4)] == [0.20, 0.18, 0.16]
    assert (recipe["dedup"]["minhash"]["bands"], recipe["dedup"]["minhash"]["rows"]) == (14, 8)


def test_a_plugin_adds_a_signal_that_a_rule_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_signals.py").write_text(
        "import numpy as np\n"
        "from curate.stages.filter import signal\n\n"
        "@signal('exclamation_fraction', unit='fraction of characters', source='ours')\n"
        "def exclamation_fraction(texts):\n"
        '    """Exclamation marks / characters; 0 for empty text."""\n'
        "    marks = [text.count('!') for text in texts]\n"
        "    return np.array(marks) / texts.chars.clip(1)\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "plugins: [my_signals]\nfilter:\n  language: null\n  rules:\n    exclamation_fraction: {max: 0.05}\n"
    )
    lines = [{"id": "calm", "text": "A calm text about a river."}, {"id": "loud", "text": "Buy!!! Now!!! Here!!!"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for stage in (["extract", "--input", "in.jsonl"], ["filter"]):
        code, _, err = faults.run([*CLI, "run", *stage, "-w", "w", "--recipe", "mine.yaml"])
        assert code == 0, err
    code, out, err = faults.run([*CLI, "why", "loud", "-w", "w", "--json"])
    assert code == 0, err
    (failed,) = json.loads(out)["story"][-1]["record"]["failed"]
    assert failed["rule"] == "exclamation_fraction"
    assert failed["value"] == pytest.approx(9 / 21)
    assert failed["threshold"] == 0.05
