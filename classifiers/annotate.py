"""Labels from a prompted language model: ask about every page once, keep every answer, stop and go on at any time.

    with Journal(Path("edu.journal")) as journal:
        run = Annotation(load_prompt("edu"), Endpoint("http://localhost:8000/v1", "a-model"), journal)
        run.ask(pages)                 # what the journal holds is not asked again
        rows = run.rows(pages)         # one for each page, in their order

What is asked is fingerprinted whole (page, prompt, model, settings); an answer is in the journal before it counts.
"""

from __future__ import annotations

import hashlib
import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa

from curate.classifiers.annotate_endpoint import Question, Refused, Reply, Stopped, Unanswered
from curate.classifiers.annotate_journal import Answer, Journal
from curate.classifiers.annotate_prompt import Prompt
from curate.pipeline.config import digest
from curate.pipeline.errors import CurateError
from curate.pipeline.tables import printable

GIVE_UP = 10
"""Pages in a row, with no answer between them, after which the endpoint counts as down."""
REFUSALS = 5
"""Pages refused from the very beginning, after which it is not the pages."""
UNREAD = 20
"""Pages from the very beginning without one well-formed answer, after which it is not the pages either."""
MALFORMED = "malformed"
SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Page:
    """A text to ask about."""

    id: str
    url: str | None
    text: str


class Model(Protocol):
    """What answers: `Endpoint` or `Embedded`. `model` and `settings` say which one, for fingerprints."""

    model: str
    settings: dict[str, Any]

    def ask(self, question: Question, attempt: int = 0) -> Reply: ...


class OutOfBudget(Exception):
    """The next question could cost more than is left."""


@dataclass
class Budget:
    """What may be spent, and what was: in money, or in tokens where prices are not given.

    Prices are for a million tokens, in and out. A question is asked only if the most that it can cost still fits beside
    what was spent and what is being asked.
    """

    limit: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    in_tokens: bool = False
    spent: float = 0.0
    _held: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """In what the limit is in."""
        if self.in_tokens:
            return tokens_in + tokens_out
        return self.money(tokens_in, tokens_out)

    def money(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def hold(self, most: float, stopped: Callable[[], bool]) -> None:
        """Sets aside the most that a question can cost; waits for those being asked where it would fit without them."""
        with self._changed:
            while self.limit is not None and self.spent + self._held + most > self.limit:
                if self._held <= 0 or self.spent + most > self.limit:
                    raise OutOfBudget
                if stopped():
                    raise Stopped
                self._changed.wait(0.5)
            self._held += most

    def settle(self, most: float, paid: float) -> None:
        """Gives back what was set aside, less what was paid."""
        with self._changed:
            self._held = max(0.0, self._held - most)
            self.spent += paid
            self._changed.notify_all()


@dataclass
class Standing:
    """Where a run stands, in pages."""

    pages: int = 0
    found: int = 0
    """Pages that needed no question: the answer was there before, or the same page is asked about already."""
    done: int = 0
    answers: int = 0
    malformed: int = 0
    """Answers of this run that were not of the form asked for."""
    problems: Counter[str] = field(default_factory=Counter)


class Annotation:
    """One prompt, one model, one journal. `tries`: answers to one question at most, until one is well formed."""

    def __init__(
        self, prompt: Prompt, model: Model, journal: Journal, *, tries: int = 3, workers: int = 1,
        budget: Budget | None = None, stop: threading.Event | None = None,
    ) -> None:  # fmt: skip
        self.prompt, self.model, self.journal = prompt, model, journal
        self.tries, self.workers = tries, workers
        self.budget = budget or Budget()
        self.budget.spent = self.budget.cost(journal.tokens_in, journal.tokens_out)
        self.stop = stop or threading.Event()
        self.standing = Standing()
        self._mutex = threading.Lock()
        self._without: dict[str, str] = {}
        """Why a question has no answer, by key; in this run alone, for these are asked again."""
        self._rest = "not asked"
        self._any_read = False
        """Whether any answer, of this run or before, was of the form asked for."""
        self.fingerprint = digest([self.model.model, self.model.settings, prompt.fingerprint])

    def question(self, page: Page) -> Question:
        head = self.prompt.head
        return Question(self.prompt.message(page.text, page.url), head.system, head.max_tokens, head.cue)

    def key(self, question: Question) -> str:
        """The fingerprint of everything that can change an answer; how it is read does not."""
        asked = [question.system, question.message, question.max_tokens, question.cue]
        return digest([self.model.model, self.model.settings, asked])[:32]

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, pages: Iterable[Page], progress: Callable[[Standing], None] = lambda standing: None) -> Standing:
        """Asks what the journal does not hold; every answer is in the journal when this ends, however it ends.

        Ends early, with the rest unasked, where the budget is used up. CurateError where the endpoint is down, or refuses
        everything. An interruption waits for the answers that are under way, for those are paid for.
        """
        running: dict[Future[None], str] = {}
        queue = self._open(pages)
        failures: Counter[str] = Counter()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="annotate")
        try:
            while True:
                for key, question, attempt in islice(queue, self.workers - len(running)):
                    running[pool.submit(self._until_read, key, question, attempt)] = key
                if not running:
                    return self.standing
                for future in wait(running, timeout=SYNC_SECONDS, return_when=FIRST_COMPLETED).done:
                    if self._ended(running.pop(future), future, failures):
                        queue = iter(())
                self.journal.sync()
                progress(self.standing)
        finally:
            self.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.journal.sync()
            progress(self.standing)

    def _open(self, pages: Iterable[Page]) -> Iterator[tuple[str, Question, int]]:
        """Key, question and next attempt of every page that still needs an answer; equal pages are asked once."""
        seen: set[bytes] = set()
        for page in pages:
            question = self.question(page)
            key = self.key(question)
            short = bytes.fromhex(key)
            self.standing.pages += 1
            if short in seen:
                self.standing.found += 1
                self.standing.done += 1
                continue
            seen.add(short)
            answers = self.journal.answers(key)
            read = self._best(answers) is not None
            if read:
                self._any_read = True
            if read or len(answers) >= self.tries:
                self.standing.found += 1
                self.standing.done += 1
            else:
                yield key, question, len(answers)

    def _until_read(self, key: str, question: Question, attempt: int) -> None:
        """Asks until an answer is well formed, or often enough."""
        most = self.budget.cost(question.most_tokens_in, question.max_tokens)
        while attempt < self.tries:
            self.budget.hold(most, self.stop.is_set)
            paid = 0.0
            try:
                reply = self.model.ask(question, attempt)
                paid = self.budget.cost(reply.tokens_in, reply.tokens_out)
                answer = Answer(key, attempt, reply.text, reply.tokens_in, reply.tokens_out, reply.value)
                self.journal.append(answer)
            finally:
                self.budget.settle(most, paid)
            good = self._best([answer]) is not None
            with self._mutex:
                self.standing.answers += 1
                self.standing.malformed += not good
            if good:
                self._any_read = True
                return
            if self.stop.is_set():
                raise Stopped
            attempt += 1

    def _ended(self, key: str, future: Future[None], failures: Counter[str]) -> bool:
        """Takes note of what came of a question; True where no more should be asked."""
        try:
            future.result()
        except OutOfBudget:
            self._note(key, "budget")
            self._rest = "budget"
            return True
        except Stopped:
            return True
        except Refused as error:
            worked = self.standing.answers or self.standing.found
            self._fail(key, "refused", str(error), failures, None if worked else REFUSALS)
        except Unanswered as error:
            self._fail(key, "unanswered", str(error), failures, GIVE_UP)
        else:
            failures.clear()
            self.standing.done += 1
            self._check_read(key)
        return False

    def _check_read(self, key: str) -> None:
        """CurateError where no answer at all has the form asked for: every further one would be paid for in vain."""
        asked = self.standing.done - self.standing.found
        if self._any_read or asked < UNREAD:
            return
        last = self.journal.answers(key)[-1]
        cut = last.tokens_out >= self.prompt.head.max_tokens
        why = f", cut off at the prompt's max_tokens of {self.prompt.head.max_tokens}" if cut else ""
        raise CurateError(
            f"no answer to the first {asked} pages has the form that the prompt's `answer` asks for; the last one{why}: "
            f"{printable(last.text[-200:]) or '(empty)'}; they are kept, and another `answer` in the prompt reads them anew"
        )

    def _fail(self, key: str, kind: str, why: str, failures: Counter[str], most: int | None) -> None:
        self._note(key, kind, why)
        failures[kind] += 1
        if most is not None and failures[kind] >= most:
            raise CurateError(
                f"{failures[kind]} pages in a row without an answer: {why}; what was answered is kept, run again later"
            )

    def _note(self, key: str, kind: str, why: str = "") -> None:
        self.standing.problems[kind] += 1
        self._without[key] = f"{kind}: {why}" if why else kind

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self, answer: Answer) -> float | str | None:
        return answer.value if answer.value is not None else self.prompt.read(answer.text)

    def _best(self, answers: list[Answer]) -> tuple[Answer, float | str] | None:
        """The first answer that is well formed."""
        for answer in answers:
            found = self._read(answer)
            if found is not None:
                return answer, found
        return None

    @property
    def label(self) -> str:
        """The column of what is found: `label` or `score`."""
        return "label" if self.prompt.head.labels else "score"

    def schema(self, with_text: bool = True) -> pa.Schema:
        """The columns of `rows`."""
        fields = [("id", pa.string()), ("url", pa.string()), *([("text", pa.string())] if with_text else [])]
        fields.append(("label", pa.string()) if self.label == "label" else ("score", pa.float32()))
        fields += [(name, pa.string()) for name in ("answer", "problem")]
        fields += [(name, pa.int32()) for name in ("characters", "attempts", "tokens_in", "tokens_out")]
        fields += [(name, pa.string()) for name in ("prompt", "model", "fingerprint")]
        meta = {"curate.annotate": f"prompt {self.prompt.name} {self.prompt.fingerprint}; model {self.model.model}"}
        return pa.schema(fields, meta)

    def rows(self, pages: Iterable[Page]) -> Iterator[dict[str, Any]]:
        """A row a page: the label or score, or null and why (`problem`), and what was answered and paid for it."""
        for page in pages:
            key = self.key(self.question(page))
            answers = self.journal.answers(key)
            best = self._best(answers)
            yield {
                "id": page.id, "url": page.url, "text": page.text,
                self.label: best[1] if best else None,
                "answer": best[0].text if best else answers[-1].text if answers else None,
                "problem": None if best else self._problem(key, len(answers)),
                "characters": len(self.prompt.cut(page.text)),
                "attempts": len(answers),
                "tokens_in": sum(answer.tokens_in for answer in answers),
                "tokens_out": sum(answer.tokens_out for answer in answers),
                "prompt": self.prompt.name, "model": self.model.model, "fingerprint": self.fingerprint,
            }  # fmt: skip

    def _problem(self, key: str, attempts: int) -> str:
        return MALFORMED if attempts >= self.tries else self._without.get(key, self._rest)


# --- which pages ------------------------------------------------------------------------------------------------------


def draw(pages: Iterable[Page], count: int, seed: int) -> list[Page]:
    """`count` of the pages, by a hash of their ids: the same ones whatever order they come in, and the smaller sample is the
    beginning of the larger one."""
    ranked = ((_rank(page, seed), number, page) for number, page in enumerate(pages))
    return [page for _, _, page in heapq.nsmallest(count, ranked)]


def _rank(page: Page, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{page.id}".encode("utf-8", "replace"), digest_size=16).digest()


def content_id(text: str) -> str:
    """An id for a page that has none."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
