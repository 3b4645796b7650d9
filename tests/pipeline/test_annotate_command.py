"""`curate annotate`: from files to labelled files, killed and gone on with, and what it says of bad usage."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from model_server import model_server, status

from curate.pipeline.cli import main


def curate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["annotate", *map(str, arguments)])


def write_pages(path: Path, count: int) -> Path:
    rows = [{"id": f"id{n}", "url": f"https://a.example/{n}", "text": "word " * n + "end"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until(true: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_without_paying_twice_and_ends_in_the_same_file(number: int, tmp_path: Path) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 25)

    def arguments(url: str, output: str) -> list[str]:
        return ["--input", str(source), "--output", str(tmp_path / output), "--endpoint", url, "--model", "m",
                "--concurrency", "3"]  # fmt: skip

    with model_server() as server:
        assert curate(*arguments(server.url, "undisturbed.jsonl")).exit_code == 0
        undisturbed = server.answered
    with model_server() as server:
        server.answer_first = 9
        command = [sys.executable, "-m", "curate.pipeline.cli", "annotate", *arguments(server.url, "killed.jsonl")]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            # a shell that runs tests in the background has them ignore interruptions, and their children too
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            # nine are answered, and three more are asked and never answered: what dies with the process is not paid for
            journal = tmp_path / "killed.jsonl.journal"
            wait_until(lambda: server.asked.total() == 12 and journal.read_bytes().count(b"\n") == 10)
            process.send_signal(number)
            if number == signal.SIGINT:
                server.let_go.set()  # an interruption waits for what is under way, which here is hung up on
            process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert not (tmp_path / "killed.jsonl").exists()
        server.answer_first = None
        assert curate(*arguments(server.url, "killed.jsonl")).exit_code == 0
        assert server.answered == undisturbed and set(server.answered.values()) == {1}
        assert server.asked.total() == 25 + 3
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()


def test_labels_come_out_as_parquet_with_text_fingerprints_and_counts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({"doc": ["a", "b"], "content": ["one", "two words"], "link": ["https://a.example/", None]})
    pq.write_table(table, tmp_path / "pages.parquet")
    with model_server() as server:
        done = curate(
            "--input", tmp_path / "pages.parquet", "--output", tmp_path / "out.parquet", "--endpoint", server.url,
            "--model", "m", "--text", "content", "--id", "doc", "--url", "link", "--price-in", 1, "--price-out", 10, "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["note", "progress", "result"]
    assert events[1]["cost"] == pytest.approx(events[1]["answers"] * (100 * 1 + 10 * 10) / 1e6)
    assert events[1]["pages"] == 2 and {"done", "seconds_left", "malformed"} <= events[1].keys()
    assert events[2]["labelled"] == 2 and events[2]["cost"] == pytest.approx(0.0004)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["id"], row["url"], row["text"], row["score"]) for row in rows] == [
        ("a", "https://a.example/", "one", 3.0), ("b", None, "two words", 3.0),
    ]  # fmt: skip
    assert {(row["tokens_in"], row["tokens_out"], row["model"], row["prompt"]) for row in rows} == {
        (100, 10, "m", "edu")
    }
    assert len({row["fingerprint"] for row in rows}) == 1


def test_the_sums_and_the_cost_are_told(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 4)
    with source.open("a") as stream:
        stream.write('{"id": "empty", "text": " "}\nno json\n')
    with model_server() as server:
        done = curate("-i", source, "-o", tmp_path / "out.jsonl", "--endpoint", server.url, "--model", "m",
                      "--price-in", 1, "--price-out", 10)  # fmt: skip
    assert done.exit_code == 0
    assert "4 of 4 pages labelled; 400 + 40 tokens, cost 0.0008 in all" in done.output
    assert "1 of 6 rows left out: no text" in done.output and "next: curate classifier train" in done.output


def test_a_sample_of_a_folder_is_asked_about_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    write_pages(folder / "a.jsonl", 30)
    with model_server() as server:
        for _ in range(2):
            done = curate("-i", folder, "-o", tmp_path / "out.jsonl", "--endpoint", server.url, "--model", "m",
                          "--sample", 7, "--no-text")  # fmt: skip
            assert done.exit_code == 0
        assert server.asked.total() == 7
    rows = read(tmp_path / "out.jsonl")
    assert len(rows) == 7 and "text" not in rows[0]


def test_pages_without_an_answer_make_the_run_incomplete(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 6)
    arguments = ["-i", source, "-o", tmp_path / "out.jsonl", "--model", "m", "--concurrency", "1"]
    with model_server() as server:
        done = curate(*arguments, "--endpoint", server.url, "--budget-tokens", "1k")
        assert done.exit_code == 1 and "larger" in done.output
        assert {row.get("problem") for row in read(tmp_path / "out.jsonl")} == {"budget"}
        assert server.asked.total() == 0
        assert curate(*arguments, "--endpoint", server.url, "--budget-tokens", "1M").exit_code == 0


def test_why_a_page_has_no_answer_is_told(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 2)
    with model_server() as server:
        server.faults = [status(400, message="longer than the context")]
        done = curate("-i", source, "-o", tmp_path / "out.jsonl", "--model", "m", "--endpoint", server.url)
    assert "1 refused (the first: the server answered 400: longer than the context)" in done.output


def test_the_key_is_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 3)
    monkeypatch.setenv("A_KEY", "sk-very-secret")
    with model_server() as server:
        server.faults = [status(400, message="bad key sk-very-secret?")]
        done = curate("-i", source, "-o", tmp_path / "out.jsonl", "--endpoint", server.url, "--model", "m",
                      "--key-env", "A_KEY")  # fmt: skip
        assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    assert "sk-very" not in done.output
    assert all(b"sk-very" not in path.read_bytes() for path in tmp_path.iterdir())


def test_extra_fields_of_the_request_are_sent(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 1)
    with model_server() as server:
        curate("-i", source, "-o", tmp_path / "out.jsonl", "--endpoint", server.url, "--model", "m",
               "--request", "top_p=0.9", "--request", "chat_template_kwargs.enable_thinking=false")  # fmt: skip
        body = server.bodies[0]
    assert body["top_p"] == 0.9 and body["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_pages_of_a_workspace_are_those_of_its_last_finished_stage(tmp_path: Path) -> None:
    for stage, finished in (("extract", True), ("filter", True), ("dedup", False)):
        folder = tmp_path / "W" / stage
        (folder / "docs").mkdir(parents=True)
        text = {"id": ["a"], "url": ["https://a.example/"], "text": [stage]}
        for name in ("now", "old"):
            pq.write_table(pa.table(text), folder / "docs" / f"{name}.parquet")
        shards = [{"key": "now", "docs": {"path": f"{stage}/docs/now.parquet"}}]
        (folder / "manifest.json").write_text(json.dumps({"finished": finished, "shards": shards}))
    with model_server() as server:
        done = curate("-w", tmp_path / "W", "-o", tmp_path / "out.jsonl", "--endpoint", server.url, "--model", "m")
        assert done.exit_code == 0, done.output
        assert server.asked == {"filter": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--endpoint", "http://a/v1"], "--model"),
        (["--endpoint", "a.example", "--model", "m"], "http://host:port/v1"),
        (["--model", "m"], "goes with --endpoint"),
        (["--endpoint", "http://a/v1", "--model", "m", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["--endpoint", "http://a/v1", "--model", "m", "--budget", "5"], "--price-in"),
        (["--endpoint", "http://a/v1", "--model", "m", "--budget-tokens", "10GB"], "tokens"),
        (["--endpoint", "http://a/v1", "--model", "m", "--prompt", "eduu"], "did you mean 'edu'"),
        (["--endpoint", "http://a/v1", "--model", "m", "--text", "content"], "no column 'content'"),
        (["--endpoint", "http://a/v1", "--model", "m", "--request", "stream=true"], "stream"),
        (["--prompt", "topic"], "give --endpoint"),
        (["--output", "out.csv"], ".parquet"),
        (["--output", "pages.jsonl"], "a file of its own"),
        (["--journal", "out.jsonl"], "a file of its own"),
        (["--workspace", "W"], "one of the two"),
    ],
)
def test_bad_usage_is_said_in_one_line_before_anything_is_asked(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pages(Path("pages.jsonl"), 2)
    done = curate("--input", "pages.jsonl", "--output", "out.jsonl", *arguments)
    assert done.exit_code == 2, done.output
    errors = [line for line in done.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["pages.jsonl"]


@pytest.mark.parametrize("pattern", ["{}", "{}/*.jsonl", "{}/**/*.jsonl", "{}/../*", "file://{}/out.*", "{}/out.jsonl"])
def test_labels_that_the_next_run_would_read_as_pages_are_refused(tmp_path: Path, pattern: str) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    write_pages(folder / "pages.jsonl", 2)
    wanted = pattern.format(folder.resolve()).replace("pages/..", "")
    done = curate("-i", wanted, "-o", folder / "out.jsonl", "--endpoint", "http://a/v1", "--model", "m")
    assert done.exit_code == 2 and "a file of its own" in done.output


def test_labels_may_stand_beside_pages_that_are_named(tmp_path: Path) -> None:
    source = write_pages(tmp_path / "pages.jsonl", 2)
    with model_server() as server:
        for pattern, output in ((tmp_path / "pages*.jsonl", "out.jsonl"), (source, "pages.2.jsonl")):
            done = curate("-i", pattern, "-o", tmp_path / output, "--endpoint", server.url, "--model", "m")
            assert done.exit_code == 0, done.output
