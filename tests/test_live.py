"""What is counted while a run goes on is what its report says at the end."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from lineage_plugin import BudgetExceeded, Options, compare, fingerprint_model
from lineage_plugin.live import Live, watched, watching
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def options(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Options:
    shutil.copytree(EXAMPLES, hub.root / "examples")
    monkeypatch.chdir(hub.root.parent)  # here ids are ids
    return Options(endpoint=hub.endpoint, fingerprints="off")


def test_the_numbers_grow_to_those_of_the_report(options: Options) -> None:
    live = Live()
    seen: list[tuple[int, int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append((live.bytes_read, live.coins, live.heads))

    with watched(live):
        report = compare("examples/honest", "examples/base", options=options, progress=progress)
    assert (live.bytes_read, live.requests) == (report.cost.bytes_read, report.cost.requests)
    evidence = report.comparisons[0].evidence
    assert (live.coins, live.heads) == (evidence.coins, evidence.heads)
    assert seen == sorted(seen), "they never shrink"
    assert 0 < seen[0][0] <= live.bytes_read
    assert 0 < seen[0][1] <= live.coins


def test_the_answer_is_the_same_whoever_watches(options: Options) -> None:
    plain = compare("examples/twin", "examples/base", options=options)
    with watched(Live()):
        live = compare("examples/twin", "examples/base", options=options)
    assert plain.comparisons[0].evidence == live.comparisons[0].evidence
    assert plain.verdict == live.verdict


def test_all_models_together_read_no_more_than_they_may(options: Options) -> None:
    live = Live(most=500_000)
    with watched(live):
        report = compare("examples/honest", "examples/base", options=options)
    assert live.bytes_read <= 500_000
    assert report.comparisons[0].relation != "unrelated", "what was not read shows nothing"
    assert any("byte budget" in limit for limit in report.comparisons[0].limits)
    with watched(Live(most=10)), pytest.raises(BudgetExceeded, match="all models may take together"):
        compare("examples/honest", "examples/base", options=options)


def test_two_runs_at_once_count_each_for_themselves(options: Options) -> None:
    lives = {name: Live() for name in ("honest", "liar")}
    read: dict[str, int] = {}

    def one(name: str) -> None:
        with watched(lives[name]):
            read[name] = compare(f"examples/{name}", "examples/base", options=options).cost.bytes_read

    threads = [threading.Thread(target=one, args=(name,)) for name in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: live.bytes_read for name, live in lives.items()} == read
    assert watching() is None


def test_nobody_watches_after_the_block(options: Options) -> None:
    live = Live()
    with watched(live):
        assert watching() is live
    fingerprint_model("examples/base", options=options)
    assert live.bytes_read == 0
