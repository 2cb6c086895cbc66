"""The desk: takes questions, lets a few be answered at a time, and knows how far each is.

Each question is answered in a worker process (:mod:`lineage_plugin.web.process`), which is killed when the question is
cancelled, takes too long, or nobody waits for it any more. One worker more than there are questions at work is kept
ready. The same question of several visitors is answered once, unless it came with a token of its own.

The line is served in turns: of each visitor one question that waits, then of each the next. So whoever asks three
things at once holds up nobody for longer than whoever asks one; and where there are two hands and more, one stays free
of each visitor.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from lineage_plugin.web.asked import asked
from lineage_plugin.web.counts import counted
from lineage_plugin.web.failures import OUT_OF_MEMORY, STUMBLED
from lineage_plugin.web.jobs import Answer, Failed, Job, Update
from lineage_plugin.web.process import Worker
from lineage_plugin.web.settings import Settings
from lineage_plugin.web.wire import READY, question_line, read_message

__all__ = ["Desk", "Ticket"]

UNSEEN = 15.0
"""Seconds after which a question that nobody has looked at is cancelled."""
_TICK = 0.25
_MOST_QUESTIONS = 50
"""Questions after which a worker is replaced."""
_MOST_JOINED = 200
"""Visitors who may wait for the same answer."""
_KILLED = -9
_WAITING = "waiting"
_STARTING = "starting"


@dataclass(eq=False, slots=True)
class _Question:
    """A question, asked by one or more.

    Attributes:
        job: What is asked.
        token: Token that it is answered with, or None.
        own: Whether the token is the visitor's, so that nobody may join.
        turn: When it is served, among those that wait.
        tickets: Those who wait for it.
        update: How far the worker is.
        began: When it was given to a worker, on the monotonic clock; None while it waits.
        worker: Who is at it.
        heard: Whether the worker has said anything about it.
        again: Whether it was given to a second worker, since that the first failed was no fault of the question.
        outcome: What came of it; None while nothing has.
        ended: When that was, on the monotonic clock.
    """

    job: Job
    token: str | None = field(repr=False)
    own: bool
    turn: int
    tickets: list[Ticket] = field(default_factory=list)
    update: Update = field(default_factory=lambda: Update(_WAITING))
    began: float | None = None
    worker: Worker | None = None
    heard: bool = False
    again: bool = False
    outcome: Answer | Failed | None = None
    ended: float = 0.0


class Ticket:
    """One visitor's question; made by :meth:`Desk.ask`. Every method may be called from any thread.

    Attributes:
        visitor: Who asked.
        seen: When the visitor last looked at it, on the monotonic clock.
        ended: Why this ticket ended before its question; None while it has not.
    """

    def __init__(self, desk: Desk, question: _Question, visitor: str) -> None:
        self._desk = desk
        self._question = question
        self._asked = time.monotonic()
        self.visitor = visitor
        self.seen = self._asked
        self.ended: Failed | None = None

    def update(self) -> Update:
        """Return how far it is."""
        return self._desk.update_of(self)

    def answer(self) -> Answer | None:
        """Return the answer; None while there is none.

        Raises:
            Failed: When there will be none.
        """
        outcome = self._desk.outcome_of(self)
        if isinstance(outcome, Failed):
            raise Failed(outcome.why, outcome.message)
        return outcome

    def cancel(self) -> None:
        """Give the question up; nothing happens when it is answered already."""
        self._desk.give_up(self, Failed("cancelled", "The check was cancelled."))

    async def follow(self, every: float = 0.25) -> AsyncIterator[Update]:
        """Yield how far it is until it is done; closing the iterator before that cancels the question.

        One that was never asked for anything cannot notice that it is closed: then :meth:`cancel` is the caller's.

        Args:
            every: Seconds between two updates.
        """
        try:
            while self._desk.outcome_of(self) is None:
                yield self.update()
                until = time.monotonic() + every
                while (left := until - time.monotonic()) > 0 and self._desk.outcome_of(self) is None:
                    await asyncio.sleep(min(left, 0.05))
            yield self.update()
        finally:
            self.cancel()


class Desk:
    """Takes questions until it is closed.

    Args:
        settings: Choices of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: list[_Question] = []
        self._working: list[_Question] = []
        self._ready: list[Worker] = []
        self._workers: list[Worker] = []
        self._turn = 0
        self._closed = False
        self._clock = threading.Thread(target=self._watch, name="lineage-desk", daemon=True)
        self._clock.start()
        with self._lock:
            self._spare()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, job: Job, *, visitor: str, token: str | None = None) -> Ticket:
        """Take a question.

        Args:
            job: The question.
            visitor: Who asks: any text that is the same for the same visitor.
            token: The visitor's token, or None for the server's own, if it has one. Goes to the worker only.

        Raises:
            Failed: ``usage``, when the question is none; ``busy``, when the visitor asks too much, or all do.
        """
        counted(job)
        job = Job(job.kind, tuple(asked(model, settings=self._settings) for model in job.models))
        with self._lock:
            if self._closed:
                raise Failed("busy", "This page is being restarted. Try again in a minute.")
            mine = sum(ticket.visitor == visitor for one in self._open() for ticket in one.tickets)
            if mine >= self._settings.per_visitor:
                raise Failed("busy", f"You have {mine} checks under way. Wait for one of them, or cancel one.")
            question = None if token else self._same(job)
            if question is None:
                full = len(self._working) >= self._settings.at_once
                if full and len(self._waiting) >= self._settings.waiting:
                    many = len(self._waiting)
                    raise Failed(
                        "busy", f"{many} checks are waiting already, and no more may. Try again in some minutes."
                    )
                turns = [one.turn for one in self._waiting if any(it.visitor == visitor for it in one.tickets)]
                turn = max(turns, default=self._turn) + 1
                question = _Question(job, token or self._settings.token, own=bool(token), turn=turn)
                self._waiting.append(question)
            ticket = Ticket(self, question, visitor)
            question.tickets.append(ticket)
            self._dispatch()
            self._changed.notify_all()
            return ticket

    def close(self) -> None:
        """End every question and every process; nothing is taken from then on."""
        with self._lock:
            self._closed = True
            for question in self._open():
                self._finish(question, Failed("cancelled", "This page is being restarted. Ask again in a minute."))
            workers = list(self._workers)
            for worker in workers:
                worker.kill()
            self._changed.notify_all()
        for worker in workers:
            worker.join()
        self._clock.join()

    # What tickets ask -------------------------------------------------------------------------------------------------

    def update_of(self, ticket: Ticket) -> Update:
        """Return how far the question of a ticket is."""
        now = time.monotonic()
        with self._lock:
            ticket.seen = now
            question = ticket._question
            until = now if question.outcome is None else question.ended
            ahead = self._line().index(question) if question in self._waiting else 0
            return replace(question.update, seconds=until - ticket._asked, ahead=ahead)

    def outcome_of(self, ticket: Ticket) -> Answer | Failed | None:
        """Return what came of the question of a ticket."""
        with self._lock:
            ticket.seen = time.monotonic()
            return ticket.ended or ticket._question.outcome

    def give_up(self, ticket: Ticket, why: Failed) -> None:
        """End a ticket, and its question when nobody else waits for that."""
        with self._lock:
            question = ticket._question
            if question.outcome is not None or ticket.ended is not None:
                return
            ticket.ended = why
            question.tickets.remove(ticket)
            if not question.tickets:
                self._finish(question, why)
                self._dispatch()

    # The line ---------------------------------------------------------------------------------------------------------

    def _open(self) -> list[_Question]:
        return [*self._working, *self._waiting]

    def _same(self, job: Job) -> _Question | None:
        """Return a question that can be joined."""
        for question in self._open():
            if question.job == job and not question.own and len(question.tickets) < _MOST_JOINED:
                return question
        return None

    def _line(self) -> list[_Question]:
        """Return the questions that wait, in the order in which they are served."""
        # Of the same turn whoever came first is first.
        return sorted(self._waiting, key=lambda question: question.turn)

    def _dispatch(self) -> None:
        """Give questions to workers while hands are free."""
        while not self._closed and len(self._working) < self._settings.at_once:
            question = next(filter(self._may_begin, self._line()), None)
            if question is None:
                break
            line = question_line(question.job, self._settings, question.token)
            try:
                worker = self._ready.pop(0) if self._ready else self._start()
            except OSError:
                self._finish(
                    question, Failed("busy", "This page is out of processes or memory. Try again in a minute.")
                )
                continue
            worker.give(line)
            self._waiting.remove(question)
            self._working.append(question)
            self._turn = max(self._turn, question.turn)
            question.worker, question.began, question.heard = worker, time.monotonic(), False
            question.update = Update(_STARTING)
        self._spare()

    def _may_begin(self, question: _Question) -> bool:
        """Return whether its visitors leave a hand free for others."""
        most = max(1, self._settings.at_once - 1)
        return any(
            sum(any(other.visitor == ticket.visitor for other in one.tickets) for one in self._working) < most
            for ticket in question.tickets
        )

    def _start(self) -> Worker:
        worker = Worker(self._hear)
        self._workers.append(worker)
        return worker

    def _spare(self) -> None:
        """Keep one worker ready."""
        if not self._closed and not self._ready:
            # Where there is none, one is started when it is needed.
            with contextlib.suppress(OSError):
                self._ready.append(self._start())

    def _finish(self, question: _Question, outcome: Answer | Failed) -> None:
        """End a question; a worker that is still at it is killed."""
        if question.outcome is not None:
            return
        question.outcome, question.ended = outcome, time.monotonic()
        if question in self._waiting:
            self._waiting.remove(question)
        if question in self._working:
            self._working.remove(question)
        worker, question.worker, question.token = question.worker, None, None
        if worker is not None:
            worker.kill()

    # What workers say -------------------------------------------------------------------------------------------------

    def _hear(self, worker: Worker, line: bytes | None) -> None:
        """Take what a worker writes; called in the worker's thread."""
        with self._lock:
            question = next((one for one in self._working if one.worker is worker), None)
        said: Update | Answer | Failed | None = None
        if line is not None and line != READY and question is not None:
            try:
                # Outside the lock, since a large report takes a while to be read.
                said = read_message(line, question.job)
            except (ValueError, AttributeError):
                said = Failed("defect", STUMBLED)
                worker.kill()
        code = worker.join() if line is None else 0
        with self._lock:
            if line is None:
                self._gone(worker, code)
            elif said is not None and question is not None and question.worker is worker:
                question.heard = True
                if isinstance(said, Update):
                    question.update = said
                else:
                    self._done(question, worker, said)

    def _done(self, question: _Question, worker: Worker, said: Answer | Failed) -> None:
        """Note an answer; its worker is used again unless it may know a secret or be damaged."""
        damaged = isinstance(said, Failed) and said.why in ("limit", "defect")
        if isinstance(said, Failed) and said.message == OUT_OF_MEMORY and worker.asked > 1 and not question.again:
            # What earlier questions have left may have filled it.
            self._back(question)
            worker.kill()
            self._dispatch()
            return
        if question.token is None and not damaged and worker.asked < _MOST_QUESTIONS:
            question.worker = None
            if len(self._ready) < self._settings.at_once:
                self._ready.insert(0, worker)
            else:
                worker.kill()
        self._finish(question, said)
        self._dispatch()

    def _gone(self, worker: Worker, code: int) -> None:
        """Clear away a worker that has ended."""
        self._workers.remove(worker)
        if worker in self._ready:
            self._ready.remove(worker)
        question = next((one for one in self._working if one.worker is worker), None)
        if question is None:
            return
        if not question.heard and not question.again:
            # It ended before it began, as a spare may: another one is asked.
            self._back(question)
        elif code == _KILLED:
            self._finish(question, Failed("limit", OUT_OF_MEMORY))
        else:
            self._finish(question, Failed("defect", STUMBLED))
        self._dispatch()

    def _back(self, question: _Question) -> None:
        """Let a question be given to another worker, before all others of its turn."""
        question.again, question.began, question.worker = True, None, None
        question.update = Update(_WAITING)
        self._working.remove(question)
        self._waiting.insert(0, question)

    # The clock --------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """End what takes too long, and what nobody waits for."""
        while True:
            with self._lock:
                if self._closed:
                    return
                self._changed.wait(_TICK if self._open() else None)
                now = time.monotonic()
                for question in self._open():
                    for ticket in [one for one in question.tickets if now - one.seen > UNSEEN]:
                        self.give_up(ticket, Failed("cancelled", "Nobody waited for the answer any more."))
                    if question.began is not None and now - question.began > self._settings.seconds:
                        limit = f"{self._settings.seconds:.0f} seconds"
                        message = f"This check took more than {limit}, the longest that one may take here."
                        self._finish(question, Failed("limit", f"{message} Run it on your own machine."))
                        self._dispatch()
