"""Repairs: together, until nothing is left, and written whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lineage_plugin.card import read_card
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import Finding, finding
from lineage_plugin.fixes import Change, Fix, RemoveItem, RenameKey, SetItem, SetKey, TrimFence
from lineage_plugin.linting.place import CARD_LIMIT
from lineage_plugin.linting.repair import MAX_BYTES, MAX_PASSES, MAX_REPAIRS, Repaired, fixed, repair, write_back
from tests.card.corpus import CASES, Case

CARD = b"---\nbase_model: [a/b, c/d, e/f] # bases\nlicense: mit\n---\n# T\n"


def found(*changes: Change, title: str = "Do it") -> Finding:
    return finding("LIN207", "something is wrong", fix=Fix(title, changes) if changes else None)


def lint(card: bytes) -> Sequence[Finding]:
    return read_card(card)[1]


def test_repairs_are_made_one_after_the_other() -> None:
    first, second = found(SetKey("license", "apache-2.0")), found(SetItem("base_model", 1, "n/m"))
    done = repair(CARD, [found(), first, second])
    assert done.card == CARD.replace(b"mit", b"apache-2.0").replace(b"c/d", b"n/m")
    assert (done.applied, done.refused) == ((first, second), ())
    assert repair(CARD, [found()]) == Repaired(CARD)


def test_items_are_counted_as_they_were_when_the_findings_were_made() -> None:
    repairs = [
        found(RemoveItem("base_model", 0)),
        found(SetItem("base_model", 2, "x/y")),
        found(RemoveItem("base_model", 1)),
    ]
    done = repair(CARD, repairs)
    assert done.card == CARD.replace(b"a/b, c/d, e/f", b"x/y")
    assert len(done.applied) == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SetKey("license", "other"), SetKey("license", "apache-2.0")),
        (RemoveItem("base_model", 1), SetItem("base_model", 1, "x/y")),
        (RemoveItem("base_model", 1), SetKey("base_model", "x/y")),
        (RenameKey("license", "licence"), SetKey("license", "other")),
        (RenameKey("license", "licence"), SetKey("licence", "other")),
    ],
)
def test_what_collides_is_left_for_the_next_pass(first: Change, second: Change) -> None:
    alone = repair(CARD, [found(first)])
    assert repair(CARD, [found(first), found(second)]) == alone
    assert len(alone.applied) == 1


def test_the_same_repair_is_made_once_and_counts_twice() -> None:
    twice = [found(RemoveItem("base_model", 1), title="One"), found(RemoveItem("base_model", 1), title="Other")]
    done = repair(CARD, twice)
    assert done.card == CARD.replace(b"c/d, ", b"")
    assert done.applied == tuple(twice)
    fence = [found(TrimFence()), found(TrimFence())]
    assert repair(b"--- \nx: y\n---\n", fence) == Repaired(b"---\nx: y\n---\n", tuple(fence))


def test_what_is_ignored_is_not_repaired() -> None:
    ignored = replace(found(SetKey("license", "other")), ignored="we know", level="note")
    assert repair(CARD, [ignored]) == Repaired(CARD)


def test_what_cannot_be_repaired_is_said() -> None:
    bad, good = found(SetKey("license", "x"), SetItem("none", 0, "y")), found(SetKey("license", "other"))
    done = repair(CARD, [bad, good])
    assert done.card == CARD.replace(b"mit", b"other")
    assert done.refused == ((bad, "there is no none in the front matter"),)
    assert done.applied == (good,)


def test_lint_and_repair_until_nothing_is_left() -> None:
    address = "https://huggingface.co/a/b"
    card = f"--- \r\nbase_model:\r\n- {address}\r\n- a/b\r\n-\r\n- {address}\r\n- c/d\r\n---".encode()
    done = fixed(lint, card)
    assert done.card == b"---\r\nbase_model:\r\n- a/b\r\n- c/d\r\n---"
    assert [f.code for f in done.applied] == ["LIN207"] * len(done.applied)
    assert done.refused == ()
    assert fixed(lint, done.card) == Repaired(done.card)


HOSTILE = {
    "the same base again and again": b"---\nbase_model:\n" + b"- a/b\n" * 900 + b"---\n",
    "the same in brackets": b"---\nbase_model: [" + b"a/b, " * 900 + b"c/d]\n---\n",
    "many licences": b"---\nlicense: [" + b"Apache 2.0, " * 4000 + b"x]\n---\n",
    "many addresses": b"---\nbase_model:\n"
    + b"".join(b"- https://huggingface.co/a/b%d\n" % number for number in range(1000))
    + b"---\n",
    "many lines below": b"---\nbase_model:\n"
    + b"".join(b"- https://huggingface.co/a/b%d\n" % number for number in range(64))
    + b"tags:\n"
    + b"- x\n" * 4000
    + b"---\n",
}


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cards_are_repaired_in_little_time(name: str) -> None:
    start = time.process_time()
    done = fixed(lint, HOSTILE[name])
    assert time.process_time() - start < 2.0
    assert done.applied
    assert done.refused == ()


def test_a_card_has_so_many_repairs_and_the_rest_is_left() -> None:
    bases = b"- a/b\n" * (MAX_REPAIRS + 80)
    done = fixed(lint, b"---\nbase_model:\n" + bases + b"---\n")
    assert len(done.applied) == MAX_REPAIRS
    ((_, why),) = done.refused
    assert re.fullmatch(r"1,000 repairs are made of a card, and this repair and \d+ others are left: run again", why)
    again = fixed(lint, done.card)
    assert (again.card.count(b"a/b"), again.refused) == (1, ())


def test_what_cannot_be_repaired_does_not_take_for_ever() -> None:
    size = MAX_BYTES // 8
    card = b"---\nbase_model: [" + b", ".join([b"*x"] * 100) + b"]\nx: &x a/b\ny: " + b"y" * size + b"\n---\n"
    card = card.replace(b"base_model", b"z: &x a/b\nbase_model", 1)
    wanted = [found(SetItem("base_model", index, "c/d")) for index in range(100)]
    done = repair(card, wanted)
    assert (done.card, done.applied) == (card, ())
    assert "is a YAML alias" in done.refused[0][1]
    assert "the card takes too long to repair" in done.refused[-1][1]
    assert len(done.refused) < 10


def test_one_repair_that_cannot_be_made_keeps_no_other_from_being_made() -> None:
    card = b"---\nx: &x a/b\nbase_model: [" + b", ".join([b"p/q"] * 9 + [b"*x"] + [b"p/q"] * 9) + b"]\n---\n"
    wanted = [found(SetItem("base_model", index, f"c/d{index}")) for index in range(19)]
    done = repair(card, wanted)
    assert done.applied == (*wanted[:9], *wanted[10:])
    assert [refused for refused, _ in done.refused] == [wanted[9]]
    assert done.card.count(b"c/d") == 18


def test_what_collides_with_a_refused_repair_alone_is_made() -> None:
    refused, same = found(SetKey("license", "x"), SetItem("none", 0, "y")), found(SetKey("license", "mit"))
    wanted = found(SetKey("license", "other"))
    done = repair(CARD, [refused, same, wanted])
    assert done.card == CARD.replace(b"mit", b"other")
    assert done.applied == (wanted,)
    assert [one for one, _ in done.refused] == [refused, same]


SMALL = [case for case in CASES if case.content is not None and len(case.content) < 50_000]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_corpus_is_repaired_in_one_go(case: Case) -> None:
    assert case.content is not None
    card = case.content.encode("utf-8", "surrogatepass") if isinstance(case.content, str) else case.content
    done = fixed(lint, card)
    again = fixed(lint, done.card)
    assert (again.card, again.applied) == (done.card, ())
    assert not any(f.fix for f in lint(done.card) if f not in [refused for refused, _ in again.refused])
    grave = [sum(f.code == "LIN207" and f.level != "note" for f in lint(text)) for text in (card, done.card)]
    assert grave[1] <= grave[0]


def test_a_repair_that_does_not_last_is_a_defect() -> None:
    def swaps(card: bytes) -> list[Finding]:
        return [found(SetKey("license", "b" if b"license: a" in card else "a"))]

    done = fixed(swaps, CARD)
    assert done.card == CARD.replace(b"mit", b"b")
    assert len(done.applied) == 2
    assert [reason for _, reason in done.refused] == [
        "the repair does not last, which is a defect of lineage: please report it"
    ]

    def grows(card: bytes) -> list[Finding]:
        return [found(SetKey("license", "x" * (card.count(b"x") + 1)))]

    endless = fixed(grows, CARD)
    assert len(endless.applied) == MAX_PASSES
    assert endless.refused[0][1].startswith(f"{MAX_PASSES} passes over the card did not do")

    # One that changes nothing would come back for ever.
    same = found(SetKey("license", "mit"))
    ((refused, why),) = fixed(lambda card: [same], CARD).refused
    assert refused == same
    assert "defect" in why


# Writing back.


def test_a_card_is_written_back_with_its_permissions(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"old")
    card.chmod(0o640)
    write_back(card, b"old", b"new")
    assert card.read_bytes() == b"new"
    assert stat.S_IMODE(card.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def refusal(path: Path, old: bytes = b"old") -> str:
    with pytest.raises(UsageError) as refused:
        write_back(path, old, b"new")
    assert str(refused.value).isprintable()
    return str(refused.value)


def test_a_card_that_changed_meanwhile_is_not_written(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"edited")
    assert "changed" in refusal(card)
    assert card.read_bytes() == b"edited"
    card.unlink()
    assert "No such file" in refusal(card)
    assert not card.exists()
    card.mkdir()
    assert "not a regular file" in refusal(card)


def test_a_card_that_is_not_read_to_its_end_is_not_written(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"x" * (CARD_LIMIT + 1))
    assert "too large for a card to be repaired" in refusal(card, b"x" * CARD_LIMIT)
    assert card.stat().st_size == CARD_LIMIT + 1
    card.write_bytes(b"x" * CARD_LIMIT)
    write_back(card, b"x" * CARD_LIMIT, b"new")
    assert card.read_bytes() == b"new"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    assert "not a regular file" in refusal(tmp_path / "README.md")


def test_links_are_followed_inside_of_the_folder_only(tmp_path: Path) -> None:
    home = tmp_path / "model"
    home.mkdir()
    outside = tmp_path / "outside.md"
    outside.write_bytes(b"old")
    card = home / "README.md"
    card.symlink_to(outside)
    assert "link" in refusal(card)
    assert outside.read_bytes() == b"old"
    card.unlink()
    (home / "CARD.md").write_bytes(b"old")
    card.symlink_to("CARD.md")
    write_back(card, b"old", b"new")
    assert card.is_symlink()
    assert (home / "CARD.md").read_bytes() == b"new"
    card.unlink()
    card.symlink_to("README.md")
    refusal(card)


def test_a_file_of_the_cache_of_the_hub_is_not_written(tmp_path: Path) -> None:
    snapshot, blob = tmp_path / "snapshots" / "0f", tmp_path / "blobs" / "abc"
    snapshot.mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_bytes(b"old")
    (snapshot / "README.md").symlink_to("../../blobs/abc")
    assert "link" in refusal(snapshot / "README.md")
    assert blob.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_a_failure_leaves_the_old_card_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"old")

    def fails(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, call) if call == "fsync" else (Path, call)), fails)
    assert "No space left" in refusal(card)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"README.md": b"old"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is permitted here")
def test_what_is_read_only_stays_as_it_is(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"old")
    card.chmod(0o444)
    assert "not permitted" in refusal(card)
    assert card.read_bytes() == b"old"
