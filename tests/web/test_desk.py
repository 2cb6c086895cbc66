"""The desk with real worker processes over a Hub on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lineage_plugin.judge.types import Report
from lineage_plugin.web import desk as desk_module
from lineage_plugin.web import process
from lineage_plugin.web.desk import Desk, Ticket
from lineage_plugin.web.jobs import Answer, Failed, Job, Update
from lineage_plugin.web.settings import Settings
from tests.hub import TOKEN, LocalHub

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes in /proc")

EXAMPLES = Path(__file__).parents[2] / "examples"
HONEST = Job("compare", ("examples/honest", "examples/base"))
LIAR = Job("compare", ("examples/liar", "examples/base"))
TWIN = Job("compare", ("examples/twin", "examples/base"))
SAME = Job("compare", ("examples/base", "examples/base"))
"""Answered from the digests that the Hub knows, as soon as the headers are read."""
HANGING = 300.0


@pytest.fixture
def hub(hub: LocalHub) -> LocalHub:
    shutil.copytree(EXAMPLES, hub.root / "examples")
    return hub


class Watched(Desk):
    """A desk that knows which processes it has started; servers of other tests have theirs, too."""

    def __init__(self, settings: Settings) -> None:
        self.pids: set[int] = set()
        super().__init__(settings)

    def _start(self) -> process.Worker:
        worker = super()._start()
        self.pids.add(worker.pid)
        return worker

    def running(self) -> set[int]:
        """Its processes that have not ended."""
        return self.pids & children()


@contextmanager
def opened(hub: LocalHub, **settings: object) -> Iterator[Watched]:
    """A desk; no process of it is left behind."""
    with Watched(Settings(endpoint=hub.endpoint, **settings)) as desk:  # type: ignore[arg-type]
        yield desk
    assert not desk.running()


def children() -> set[int]:
    """The processes that this one has started."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(place.name))
    return found


def shown_of(pid: int, name: str) -> bytes:
    """What everybody on this machine may see of a process; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def eventually(true: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "this should have happened by now"
        time.sleep(0.02)


def outcome(ticket: Ticket) -> Answer:
    eventually(lambda: ticket.answer() is not None, 60)
    answer = ticket.answer()
    assert answer is not None
    return answer


def failure(ticket: Ticket) -> Failed:
    with pytest.raises(Failed) as failed:
        outcome(ticket)
    return failed.value


def relation(answer: Answer) -> str:
    assert isinstance(answer.result, Report)
    return answer.result.comparisons[0].relation


def at_work(ticket: Ticket) -> bool:
    return ticket.update().stage == "asking the Hub"


def pid_of(ticket: Ticket) -> int:
    worker = ticket._question.worker
    assert worker is not None
    return worker.pid


# Answers ------------------------------------------------------------------------------------------------------------


def test_questions_at_once_each_get_their_own_answer(hub: LocalHub, tmp_path: Path) -> None:
    jobs = [HONEST, LIAR, TWIN, Job("compare", ("examples:base", "examples/liar"))]
    relations = ["derived", "unrelated", "shared-init", "unrelated"]
    offered = {"examples:base": EXAMPLES / "base"}
    with opened(hub, cache=tmp_path / "answers", models=offered) as desk:
        for kept in (False, True):
            tickets = [desk.ask(job, visitor=str(number)) for number, job in enumerate(jobs)]
            answers = [outcome(ticket) for ticket in tickets]
            assert [relation(answer) for answer in answers] == relations
            for answer, ticket, job in zip(answers, tickets, jobs, strict=True):
                assert isinstance(answer.result, Report)
                assert answer.job == job
                assert answer.result.suspect.id == job.models[0]
                assert answer.kept == kept
                if not kept:
                    assert ticket.update().bytes_read == answer.result.cost.bytes_read
        workers = desk.running()
        assert len(workers) <= 3, "they are used again"
        for pid in workers:
            assert b"lineage" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_numbers_grow_while_it_is_read(hub: LocalHub) -> None:
    hub.faults.slow(4_000_000, port="cdn")
    with opened(hub) as desk:
        ticket = desk.ask(HONEST, visitor="a")
        seen: list[Update] = []

        async def follow() -> None:
            async for update in ticket.follow(0.05):
                seen.append(update)

        asyncio.run(follow())
        assert relation(outcome(ticket)) == "derived"
    reads = [update.bytes_read for update in seen]
    assert reads == sorted(reads) and len(set(reads)) >= 3, "not all at once"
    assert seen[-1].coins >= seen[-1].heads > 0
    seconds = [update.seconds for update in seen]
    assert seconds == sorted(seconds)
    assert ticket.update().seconds == seen[-1].seconds, "the clock stops with the answer"


def test_the_same_question_is_answered_once(hub: LocalHub) -> None:
    hub.latency = 0.02
    with opened(hub, at_once=2) as desk:
        alone = outcome(desk.ask(SAME, visitor="a"))
        requests = hub.log.requests()
        hub.log.clear()
        first, second, third = (desk.ask(SAME, visitor=visitor) for visitor in "abc")
        with_token = desk.ask(SAME, visitor="d", token=TOKEN)
        first.cancel()
        assert failure(first).why == "cancelled"
        assert outcome(second) is outcome(third), "it goes on while one is left"
        answer = outcome(with_token)
        assert answer is not outcome(second)
        assert relation(answer) == relation(alone) == "identical"
        assert hub.log.requests() == 2 * requests


# The line -----------------------------------------------------------------------------------------------------------


def test_the_line_is_served_in_turns_and_everybody_knows_his_place(hub: LocalHub) -> None:
    hub.latency = HANGING
    with opened(hub, at_once=1, waiting=4, per_visitor=3) as desk:
        a1, a2, a3 = (desk.ask(job, visitor="a") for job in (HONEST, LIAR, TWIN))
        with pytest.raises(Failed, match="You have 3 checks under way") as failed:
            desk.ask(Job("check", ("examples/liar",)), visitor="a")
        assert failed.value.why == "busy"
        b1 = desk.ask(Job("check", ("examples/honest",)), visitor="b")
        c1 = desk.ask(Job("check", ("examples/twin",)), visitor="c")
        with pytest.raises(Failed, match="4 checks are waiting already") as failed:
            desk.ask(Job("check", ("examples/base",)), visitor="d")
        assert failed.value.why == "busy"
        line = [a1, a2, b1, c1, a3]
        eventually(lambda: at_work(a1))
        while line:
            assert [ticket.update().ahead for ticket in line] == [0, *range(len(line) - 1)]
            assert all(ticket.update().stage == "waiting" for ticket in line[1:])
            gone = line.pop(0)
            gone.cancel()
            assert failure(gone).why == "cancelled"
            if line:
                eventually(lambda: line[0].update().stage != "waiting", 3)
        assert desk.ask(HONEST, visitor="a").update().ahead == 0


def test_one_visitor_leaves_a_hand_free(hub: LocalHub) -> None:
    hub.latency = HANGING
    with opened(hub, at_once=2) as desk:
        first, second = desk.ask(HONEST, visitor="a"), desk.ask(LIAR, visitor="a")
        eventually(lambda: at_work(first))
        assert second.update().stage == "waiting"
        hub.latency = 0.0  # what was asked before goes on hanging
        assert relation(outcome(desk.ask(SAME, visitor="b"))) == "identical"
        assert second.update().stage == "waiting"
        first.cancel()
        assert relation(outcome(second)) == "unrelated"


def test_a_worker_that_does_not_read_holds_up_nobody(hub: LocalHub) -> None:
    with opened(hub, models={f"many:{number}": EXAMPLES / "base" for number in range(3000)}) as desk:
        eventually(lambda: desk._ready)
        os.kill(desk._ready[0].pid, signal.SIGSTOP)
        start = time.monotonic()
        # Of more bytes than a pipe holds.
        stuck = desk.ask(Job("check", ("many:1",)), visitor="a")
        stuck.update()
        assert relation(outcome(desk.ask(SAME, visitor="b"))) == "identical"
        assert time.monotonic() - start < 30
        stuck.cancel()
        assert failure(stuck).why == "cancelled"


def test_whoever_cancels_frees_the_slot_and_ends_the_process(hub: LocalHub) -> None:
    hub.latency = HANGING
    with opened(hub, at_once=1) as desk:
        first, second = desk.ask(HONEST, visitor="a"), desk.ask(SAME, visitor="b")
        eventually(lambda: at_work(first))
        pid = pid_of(first)
        hub.latency = 0.0
        first.cancel()
        eventually(lambda: pid not in children(), 5)
        assert relation(outcome(second)) == "identical"
        second.cancel()
        assert relation(outcome(second)) == "identical", "what is answered stays so"


def test_closing_the_iterator_cancels(hub: LocalHub) -> None:
    hub.latency = HANGING
    with opened(hub) as desk:

        async def leave() -> Ticket:
            ticket = desk.ask(HONEST, visitor="a")
            async for _ in (updates := ticket.follow()):
                await updates.aclose()
            return ticket

        async def is_stopped() -> Ticket:
            ticket = desk.ask(LIAR, visitor="a")

            async def follow() -> None:
                async for _ in ticket.follow():
                    pass

            task = asyncio.create_task(follow())
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return ticket

        for visitor in (leave, is_stopped):
            assert failure(asyncio.run(visitor())).why == "cancelled"


def test_nobody_is_worked_for_who_has_gone(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "UNSEEN", 1.0)
    hub.latency = HANGING
    with opened(hub, at_once=1) as desk:
        gone, waits, left = (desk.ask(job, visitor=name) for job, name in ((HONEST, "a"), (LIAR, "b"), (TWIN, "c")))
        pid = pid_of(gone)
        eventually(lambda: waits.update() and pid not in children(), 10)
        hub.latency = 0.0
        waits.cancel()
        assert failure(left).message == "Nobody waited for the answer any more."
        assert failure(gone).why == "cancelled"


def test_a_check_may_take_so_long(hub: LocalHub) -> None:
    hub.latency = HANGING
    with opened(hub, seconds=1.0) as desk:
        ticket = desk.ask(HONEST, visitor="a")
        pid = pid_of(ticket)
        failed = failure(ticket)
        assert failed.why == "limit"
        assert "more than 1 second" in failed.message
        eventually(lambda: pid not in children(), 5)


def test_a_question_that_is_none_is_refused_at_once(hub: LocalHub) -> None:
    with opened(hub) as desk:
        for job in (Job("check", ("/etc/passwd",)), Job("compare", ("a/b",)), Job("tree", ("a/b",) * 9)):
            with pytest.raises(Failed) as failed:
                desk.ask(job, visitor="a")
            assert failed.value.why == "usage"


# Secrets ------------------------------------------------------------------------------------------------------------


def test_a_token_is_for_its_question_only_and_nowhere_to_be_seen(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.gated.add("examples/base")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    said: list[bytes | None] = []
    hear = Desk._hear
    monkeypatch.setattr(Desk, "_hear", lambda desk, worker, line: (said.append(line), hear(desk, worker, line)))
    hub.latency = 0.02
    with opened(hub, cache=tmp_path / "answers", on_space=True, at_once=1) as desk:
        assert failure(desk.ask(SAME, visitor="a")).message.endswith("then sign in here.")
        ticket = desk.ask(SAME, visitor="b", token=TOKEN)
        pid, seen = pid_of(ticket), set()
        while ticket.answer() is None:
            # One that is only just being started is a copy of this process.
            for worker in [one for one in children() if b"lineage_plugin.web.worker" in shown_of(one, "cmdline")]:
                seen |= {TOKEN.encode() in shown_of(worker, name) for name in ("cmdline", "environ")}
        assert seen == {False}
        assert relation(outcome(ticket)) == "identical"
        eventually(lambda: pid not in children(), 5)
        assert failure(desk.ask(SAME, visitor="a")).why == "denied", "the next one has no token"
        assert TOKEN not in repr(ticket._question) + repr(desk.__dict__)
    assert said and not any(TOKEN.encode() in line for line in said if line is not None)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert not list((tmp_path / "answers").rglob("*.json"))


def test_the_token_of_the_server_is_used_where_it_has_one(hub: LocalHub) -> None:
    hub.faults.gated.add("examples/base")
    with opened(hub, token=TOKEN) as desk:
        assert relation(outcome(desk.ask(SAME, visitor="a"))) == "identical"


# What goes wrong ----------------------------------------------------------------------------------------------------


def test_a_worker_that_crashes_takes_one_answer_along(hub: LocalHub) -> None:
    with opened(hub, at_once=1) as desk:
        for pid in desk.running():
            os.kill(pid, signal.SIGKILL)  # a spare
        assert relation(outcome(desk.ask(SAME, visitor="a"))) == "identical"
        hub.latency = HANGING
        for number, why in ((signal.SIGKILL, "limit"), (signal.SIGSEGV, "defect")):
            ticket = desk.ask(LIAR, visitor="a")
            eventually(lambda ticket=ticket: at_work(ticket))
            os.kill(pid_of(ticket), number)
            assert failure(ticket).why == why
        hub.latency = 0.0
        assert relation(outcome(desk.ask(SAME, visitor="a"))) == "identical"


@pytest.mark.parametrize(
    "script",
    [
        "print('garbage', flush=True); input()",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        "raise SystemExit(1)",
    ],
    ids=["words", "no end", "nothing"],
)
def test_a_worker_that_says_something_else_is_not_believed(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(process, "_RUN", f"input()\n{script}")
    with opened(hub, at_once=1) as desk:
        ticket = desk.ask(HONEST, visitor="a")
        assert failure(ticket).why in ("defect", "limit")
        eventually(lambda: not desk._working and not desk._waiting)


_FULL = """
import sys
from lineage_plugin.web.failures import OUT_OF_MEMORY
for number, line in enumerate(sys.stdin):
    said = ("limit", OUT_OF_MEMORY) if number else ("missing", "none")
    print('{"failed": "%s", "message": "%s"}' % said, flush=True)
"""


def test_memory_that_others_have_filled_is_no_fault_of_a_question(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_RUN", f"import sys; sys.path.append(sys.argv[1])\n{_FULL}")
    with opened(hub, at_once=1) as desk:
        for job in (HONEST, LIAR, TWIN):
            assert failure(desk.ask(job, visitor="a")).why == "missing"


_SERVER = """
import sys, time
from lineage_plugin.web.desk import Desk
from lineage_plugin.web.jobs import Job
from lineage_plugin.web.settings import Settings
desk = Desk(Settings(endpoint=sys.argv[1]))
ticket = desk.ask(Job("compare", ("examples/honest", "examples/base")), visitor="a")
while ticket.update().stage != "asking the Hub": time.sleep(0.02)
print(*[worker._process.pid for worker in desk._workers], flush=True)
time.sleep(300)
"""


def test_nothing_outlives_the_server(hub: LocalHub, tmp_path: Path) -> None:
    hub.latency = HANGING
    (scratch := tmp_path / "scratch").mkdir()
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, hub.endpoint],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert server.stdout is not None
    pids = [int(pid) for pid in server.stdout.readline().split()]
    assert len(pids) == 2
    server.kill()
    server.wait(20)
    server.stdout.close()
    eventually(lambda: not any(_runs(pid) for pid in pids))
    assert not list(scratch.iterdir())


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_closed_desk_takes_nothing_and_owes_nothing(hub: LocalHub) -> None:
    hub.latency = HANGING
    with opened(hub, at_once=1) as desk:
        tickets = [desk.ask(HONEST, visitor="a"), desk.ask(LIAR, visitor="b")]
        threads = [threading.Thread(target=desk.close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [failure(ticket).why for ticket in tickets] == ["cancelled", "cancelled"]
        with pytest.raises(Failed) as failed:
            desk.ask(TWIN, visitor="a")
        assert failed.value.why == "busy"
