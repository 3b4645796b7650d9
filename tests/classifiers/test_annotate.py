"""Asking an endpoint: every page once, whatever the server does, and within the budget."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_server import Fault, Handler, ModelServer, drop, model_server, raw, status

from curate.classifiers.annotate import Annotation, Budget, Page, draw
from curate.classifiers.annotate_endpoint import (
    Endpoint,
    Question,
    Refused,
    Unanswered,
    check_url,
    in_the_clear,
    read_key,
)
from curate.classifiers.annotate_journal import Journal
from curate.classifiers.annotate_prompt import Prompt, load_prompt, parse
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.remote import Retry

QUICK = Retry(attempts=3, backoff=0.001, longest=0.002)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as found:
        yield found


@pytest.fixture
def endpoint(server: ModelServer) -> Endpoint:
    return Endpoint(server.url, "a-model", timeout=5.0, retry=QUICK)


def pages(count: int) -> list[Page]:
    return [Page(f"id{number}", f"https://a.example/{number}", "x" * (number + 1)) for number in range(count)]


def annotated(
    server: ModelServer, journal: Path, asked: list[Page], prompt: Prompt | None = None, **options: Any
) -> list[dict[str, Any]]:
    """The rows of a run of its own."""
    with Journal(journal) as kept:
        run = Annotation(
            prompt or load_prompt("edu"), Endpoint(server.url, "a-model", timeout=5.0, retry=QUICK), kept, **options
        )
        run.ask(asked)
        return list(run.rows(asked))


# --- one question -----------------------------------------------------------------------------------------------------


def test_the_question_is_a_chat_completion_with_the_prompt_as_its_user_message(
    server: ModelServer, endpoint: Endpoint
) -> None:
    reply = endpoint.ask(Question("Judge this.", system="Be fair.", max_tokens=7))
    assert reply.text.endswith("Educational score: 5") and (reply.tokens_in, reply.tokens_out) == (100, 10)
    body = server.bodies[0]
    assert body["messages"] == [
        {"role": "system", "content": "Be fair."}, {"role": "user", "content": "Judge this."},
    ]  # fmt: skip
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("a-model", 7, 0.0, 0)


def test_another_attempt_has_another_seed_and_a_temperature_that_allows_another_answer(
    server: ModelServer, endpoint: Endpoint
) -> None:
    endpoint.ask(Question("a"), attempt=2)
    assert server.bodies[0]["seed"] == 2 and server.bodies[0]["temperature"] > 0


def chunk_of_words(handler: Handler, body: dict[str, Any]) -> bool:
    """Half a reply, then nothing."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.hang_up()
    return True


@pytest.mark.parametrize(
    "fault",
    [
        status(429), status(500), status(503), drop, chunk_of_words, raw(b"{"), raw(b""), raw(b"[" * 100_000), raw(b"null"),
        raw(b'{"choices": []}'), raw(b'{"choices": [{"message": {"content": 7}}]}'), raw(b'{"choices": {"a": 1}}'),
        raw(b'{"error": {"message": "overloaded"}}'), raw(b'{"choices": [{"message": "x"}]}'), raw(b"x" * (5 << 20)),
    ],
)  # fmt: skip
def test_whatever_may_go_well_at_another_try_is_tried_again(
    server: ModelServer, endpoint: Endpoint, fault: Fault
) -> None:
    server.faults = [fault, fault]
    assert endpoint.ask(Question("abc")).text == "So. Educational score: 3"
    assert server.asked == {"abc": 3}


def test_after_so_many_tries_the_question_is_unanswered(server: ModelServer, endpoint: Endpoint) -> None:
    server.faults = [status(500)] * 3
    with pytest.raises(Unanswered, match="500"):
        endpoint.ask(Question("abc"))
    assert server.asked == {"abc": 3}


def test_retry_after_is_honoured(server: ModelServer) -> None:
    waits: list[float] = []

    class Noted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    server.faults = [status(429, {"Retry-After": "17"})]
    Endpoint(server.url, "a-model", retry=QUICK, stop=Noted()).ask(Question("abc"))
    assert waits == [17.0]


def test_a_server_that_drips_is_given_up_after_the_timeout(server: ModelServer) -> None:
    def drip(handler: Handler, body: dict[str, Any]) -> bool:
        data = json.dumps({"choices": [{"message": {"content": "too late"}}]}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.02)
        return True

    server.faults = [drip]
    found = Endpoint(server.url, "a-model", timeout=0.3, retry=QUICK).ask(Question("abc"))
    assert found.text.endswith("3") and server.asked == {"abc": 2}


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_question_that_the_server_refuses_is_not_asked_again(
    server: ModelServer, endpoint: Endpoint, code: int
) -> None:
    server.faults = [status(code, message="too\x1b[2J long")]
    with pytest.raises(Refused, match=r"too.*long") as caught:
        endpoint.ask(Question("abc"))
    assert "\x1b" not in str(caught.value) and server.asked == {"abc": 1}


@pytest.mark.parametrize(
    "error",
    [
        {
            "error": {"message": "exceeds the context", "type": "exceed_context_size_error", "code": 400, "n_ctx": 8192}
        },  # llama.cpp
        {"error": {"message": "exceeds the context", "type": "BadRequestError", "param": None, "code": 400}},  # vLLM
        {"object": "error", "message": "exceeds the context", "type": "BadRequestError", "code": 400},  # before 0.10
        {"error": "exceeds the context"},
        {"detail": "exceeds the context"},
    ],
)
def test_the_servers_own_words_for_a_refusal_are_told(
    server: ModelServer, endpoint: Endpoint, error: dict[str, Any]
) -> None:
    server.faults = [raw(json.dumps(error).encode(), 400)]
    with pytest.raises(Refused, match=r"answered 400: exceeds the context$"):
        endpoint.ask(Question("abc"))


def test_an_error_that_comes_as_a_success_is_told_when_the_tries_are_over(
    server: ModelServer, endpoint: Endpoint
) -> None:
    server.faults = [raw(b'{"error": {"message": "no capacity", "code": 502}}')] * 3
    with pytest.raises(Unanswered, match="no chat completion: no capacity"):
        endpoint.ask(Question("abc"))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),  # vLLM, where the thoughts took all tokens
        ([{"type": "text", "text": "Score: "}, {"type": "image"}, {"type": "text", "text": "4"}], "Score: 4"),
        ([], ""),
    ],
)  # fmt: skip
def test_an_answer_may_be_empty_or_come_in_parts(
    server: ModelServer, endpoint: Endpoint, content: Any, text: str
) -> None:
    def whole(handler: Handler, body: dict[str, Any]) -> bool:
        message = {
            "role": "assistant",
            "content": content,
            "reasoning_content": "Educational score: 1",
            "tool_calls": [],
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length", "stop_reason": None}
        usage = {"prompt_tokens": 9, "total_tokens": 16, "completion_tokens": 7, "prompt_tokens_details": None}
        handler.reply(200, {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage, "timings": {}})
        return True

    server.faults = [whole]
    found = endpoint.ask(Question("abc"))
    assert (found.text, found.tokens_in, found.tokens_out) == (text, 9, 7)


def test_the_whole_address_does_as_well_as_its_beginning(server: ModelServer) -> None:
    assert Endpoint(f"{server.url}/chat/completions/", "m", retry=QUICK).ask(Question("abc")).text.endswith("3")
    with pytest.raises(CurateError, match="end in /v1"):
        Endpoint(server.url.removesuffix("/v1"), "m", retry=QUICK).ask(Question("abc"))


@pytest.mark.parametrize(("code", "said"), [(401, "--key-env"), (404, "a-model"), (302, "redirect"), (402, "402")])
def test_what_no_question_would_get_past_ends_the_run(
    server: ModelServer, endpoint: Endpoint, code: int, said: str
) -> None:
    server.faults = [status(code, {"Location": server.url})]
    with pytest.raises(CurateError, match=said):
        endpoint.ask(Question("abc"))
    assert server.asked.total() == 1


def test_a_dead_port_is_unanswered() -> None:
    with model_server() as gone:
        url = gone.url
    with pytest.raises(Unanswered, match="cannot connect"):
        Endpoint(url, "a-model", timeout=1.0, retry=QUICK).ask(Question("abc"))


def test_questions_of_one_thread_share_a_connection(server: ModelServer, endpoint: Endpoint) -> None:
    for _ in range(5):
        endpoint.ask(Question("abc"))
    assert server.connections == 1


def test_the_key_goes_into_one_header_and_into_no_message(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("A_KEY", "sk-secret-1")
    server.faults = [status(400, message="the key sk-secret-1 is odd")]
    with pytest.raises(Refused) as caught:
        Endpoint(server.url, "a-model", key=read_key("A_KEY"), retry=QUICK).ask(Question("abc"))
    assert server.headers[0]["Authorization"] == "Bearer sk-secret-1"
    assert "sk-secret" not in str(caught.value)


def test_without_a_key_nothing_of_netrc_is_sent(
    server: ModelServer, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    endpoint.ask(Question("abc"))
    assert "Authorization" not in server.headers[0]


def test_a_key_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(UsageError, match="A_KEY"):
        read_key("A_KEY")
    monkeypatch.setenv("A_KEY", "two\nlines")
    with pytest.raises(UsageError) as caught:
        read_key("A_KEY")
    assert "lines" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://a/v1", "a.example/v1", "http://", "http://me:pw@a/v1", "https://a/v1?key=s", "http://a:b/v1"]
)
def test_what_is_no_address_of_an_endpoint_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_url(url)
    assert "pw" not in str(caught.value) and "key=s" not in str(caught.value)


def test_only_a_key_that_leaves_this_machine_unencrypted_is_warned_of() -> None:
    clear = [url for url in ("http://a.example/v1", "http://10.0.0.1/v1", "https://a.example/v1", "http://127.0.0.1/v1",
                             "http://localhost:1/v1", "http://[::1]/v1") if in_the_clear(url)]  # fmt: skip
    assert clear == ["http://a.example/v1", "http://10.0.0.1/v1"]


# --- many pages -------------------------------------------------------------------------------------------------------


def test_every_page_gets_its_score_in_the_order_of_the_pages(server: ModelServer, tmp_path: Path) -> None:
    rows = annotated(server, tmp_path / "j", pages(30), workers=8)
    assert [row["id"] for row in rows] == [f"id{number}" for number in range(30)]
    assert [row["score"] for row in rows] == [(number + 1) % 6 for number in range(30)]
    assert {row["problem"] for row in rows} == {None}
    assert (rows[0]["answer"], rows[0]["tokens_in"], rows[0]["attempts"]) == ("So. Educational score: 1", 100, 1)


def test_a_second_run_asks_nothing_and_gives_the_same_rows(server: ModelServer, tmp_path: Path) -> None:
    first = annotated(server, tmp_path / "j", pages(10), workers=4)
    assert annotated(server, tmp_path / "j", pages(10), workers=2) == first
    assert set(server.asked.values()) == {1}


def test_equal_pages_are_asked_once_and_both_labelled(server: ModelServer, tmp_path: Path) -> None:
    twice = [Page("a", "https://a.example/", "same"), Page("b", "https://a.example/", "same")]
    rows = annotated(server, tmp_path / "j", twice, workers=4)
    assert server.asked == {"same": 1} and [row["score"] for row in rows] == [4.0, 4.0]


@pytest.mark.parametrize("change", ["model", "temperature", "prompt"])
def test_another_model_setting_or_prompt_is_another_question(server: ModelServer, tmp_path: Path, change: str) -> None:
    annotated(server, tmp_path / "j", pages(2))
    with Journal(tmp_path / "j") as journal:
        endpoint = Endpoint(
            server.url, "b-model" if change == "model" else "a-model", temperature=0.5 if change == "temperature" else 0.0,
            retry=QUICK,
        )  # fmt: skip
        Annotation(load_prompt("quality" if change == "prompt" else "edu"), endpoint, journal, tries=1).ask(pages(2))
    assert set(server.asked.values()) == {2}


def test_a_changed_way_of_reading_answers_pays_for_nothing(server: ModelServer, tmp_path: Path) -> None:
    server.answer = lambda text, body: f"points={len(text)}"
    text = "---\nname: mine\nanswer: 'Score: (\\d)'\nscale: [0, 9]\n---\n{text}"
    rows = annotated(server, tmp_path / "j", pages(2), parse(text, "p"), tries=1)
    assert [row["problem"] for row in rows] == ["malformed", "malformed"]
    again = annotated(server, tmp_path / "j", pages(2), parse(text.replace("Score: ", "points="), "p"), tries=1)
    assert [row["score"] for row in again] == [1.0, 2.0] and set(server.asked.values()) == {1}


def test_a_malformed_answer_is_asked_for_again_and_then_left_null_with_the_reason(
    server: ModelServer, tmp_path: Path
) -> None:
    def answer(text: str, body: dict[str, Any]) -> str:
        good = text == "xx" and body["seed"] == 1
        return "Educational score: 4" if good else "It is lovely."

    server.answer = answer
    with Journal(tmp_path / "j") as journal:
        run = Annotation(load_prompt("edu"), Endpoint(server.url, "a-model", retry=QUICK), journal, tries=3)
        standing = run.ask(pages(2))
        rows = list(run.rows(pages(2)))
    assert server.asked == {"x": 3, "xx": 2}
    assert [(row["score"], row["problem"], row["attempts"]) for row in rows] == [(None, "malformed", 3), (4.0, None, 2)]
    assert rows[0]["answer"] == "It is lovely." and rows[0]["tokens_out"] == 30
    assert standing.malformed == 4


def test_a_malformed_answer_is_not_paid_for_again_by_the_next_run(server: ModelServer, tmp_path: Path) -> None:
    server.answer = lambda text, body: "no score"
    annotated(server, tmp_path / "j", pages(1), tries=2)
    annotated(server, tmp_path / "j", pages(1), tries=3)
    assert server.asked == {"x": 3}


def test_a_refused_page_is_null_with_the_reason_and_the_others_go_on(server: ModelServer, tmp_path: Path) -> None:
    server.faults = [status(400, message="too long")]
    rows = annotated(server, tmp_path / "j", pages(4))
    assert rows[0]["problem"] == "refused: the server answered 400: too long" and rows[0]["score"] is None
    assert [row["score"] for row in rows[1:]] == [2.0, 3.0, 4.0]


def test_a_server_that_refuses_everything_ends_the_run_early(server: ModelServer, tmp_path: Path) -> None:
    server.faults = [status(400, message="no such parameter")] * 100
    with pytest.raises(CurateError, match="no such parameter"):
        annotated(server, tmp_path / "j", pages(50))
    assert server.asked.total() == 5


def test_a_model_that_never_answers_in_the_form_asked_for_is_not_paid_for_to_the_end(
    server: ModelServer, tmp_path: Path
) -> None:
    server.answer = lambda text, body: "I think, and think"
    server.usage = {"prompt_tokens": 100, "completion_tokens": load_prompt("edu").head.max_tokens}
    with pytest.raises(CurateError, match=r"first 20 pages .* cut off .*: I think, and think; they are kept"):
        annotated(server, tmp_path / "j", pages(50))
    assert server.asked.total() == 20 * 3
    with pytest.raises(CurateError, match="first 20 pages"):  # again: what is there counts neither way
        annotated(server, tmp_path / "j", pages(50))
    assert server.asked.total() == 40 * 3


def test_one_well_formed_answer_is_enough_to_go_on(server: ModelServer, tmp_path: Path) -> None:
    server.answer = lambda text, body: f"Educational score: {5 if len(text) == 20 else 9}"
    rows = annotated(server, tmp_path / "j", pages(50))
    assert [row["problem"] for row in rows].count("malformed") == 49
    assert annotated(server, tmp_path / "j", pages(75), tries=2)[-1]["problem"] == "malformed"


def test_long_pages_that_are_refused_one_after_another_do_not_end_a_run_that_works(
    server: ModelServer, tmp_path: Path
) -> None:
    annotated(server, tmp_path / "j", pages(1))
    server.faults = [status(400, message="too long")] * 20
    rows = annotated(server, tmp_path / "j", pages(22))
    assert [row["problem"] is None for row in rows] == [True, *[False] * 20, True]


def test_a_server_that_is_down_ends_the_run_and_the_next_one_goes_on(server: ModelServer, tmp_path: Path) -> None:
    server.answer_first = None
    annotated(server, tmp_path / "j", pages(5))
    server.faults = [status(500)] * 1_000
    with pytest.raises(CurateError, match="run again later"):
        annotated(server, tmp_path / "j", pages(60))
    assert server.asked.total() == 5 + 10 * 3
    server.faults = []
    rows = annotated(server, tmp_path / "j", pages(60))
    assert {row["problem"] for row in rows} == {None} and set(server.answered.values()) == {1}


# --- budget -----------------------------------------------------------------------------------------------------------


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(server: ModelServer, tmp_path: Path) -> None:
    prompt = parse("---\nname: s\nanswer: 'score: (\\d)'\nscale: [0, 9]\nmax_tokens: 10\n---\n{text}", "p")
    rows = annotated(server, tmp_path / "j", pages(40), prompt, workers=4, budget=Budget(2_000, in_tokens=True))
    paid = sum(row["tokens_in"] + row["tokens_out"] for row in rows)
    assert 1_000 < paid <= 2_000
    assert Counter(row["problem"] for row in rows)["budget"] > 20
    more = annotated(server, tmp_path / "j", pages(40), prompt, workers=4, budget=Budget(100_000, in_tokens=True))
    assert {row["problem"] for row in more} == {None} and set(server.asked.values()) == {1}


def test_money_is_counted_by_the_prices_and_what_was_paid_before_counts(server: ModelServer, tmp_path: Path) -> None:
    annotated(server, tmp_path / "j", pages(3))
    with Journal(tmp_path / "j") as journal:
        budget = Budget(limit=0.00036, price_in=1.0, price_out=2.0)
        run = Annotation(load_prompt("edu"), Endpoint(server.url, "a-model"), journal, budget=budget)
        assert budget.spent == pytest.approx(3 * (100 * 1.0 + 10 * 2.0) / 1e6)
        run.ask(pages(6))
    assert server.asked.total() == 3


def test_an_endpoint_that_counts_no_tokens_is_counted_at_the_most_it_can_be(
    server: ModelServer, tmp_path: Path
) -> None:
    server.usage = None
    row = annotated(server, tmp_path / "j", pages(1))[0]
    asked = server.bodies[0]
    assert (
        row["tokens_in"] >= len(asked["messages"][0]["content"].encode()) and row["tokens_out"] == asked["max_tokens"]
    )


# --- samples ----------------------------------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_the_order_and_begins_with_the_smaller_one() -> None:
    all_pages = pages(100)
    sample = draw(all_pages, 20, seed=3)
    assert sample == draw(list(reversed(all_pages)), 20, seed=3)
    assert sample[:5] == draw(all_pages, 5, seed=3)
    assert sample != draw(all_pages, 20, seed=4)
    assert len({page.id for page in sample}) == 20


def test_an_interrupted_run_keeps_the_answers_that_are_under_way(server: ModelServer, tmp_path: Path) -> None:
    started: Callable[[], bool] = lambda: server.asked.total() >= 2  # noqa: E731

    def slow(text: str, body: dict[str, Any]) -> str:
        time.sleep(0.3)
        return "Educational score: 1"

    server.answer = slow

    def interrupted() -> Iterator[Page]:
        yield from pages(2)
        while not started():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with Journal(tmp_path / "j") as journal:
        run = Annotation(load_prompt("edu"), Endpoint(server.url, "a-model", retry=QUICK), journal, workers=3)
        with pytest.raises(KeyboardInterrupt):
            run.ask(interrupted())
        assert len(journal) == 2
