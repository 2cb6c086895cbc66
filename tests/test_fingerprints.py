"""Fingerprints in the place of models: files, beside the weights of a repository, from the cache."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lineage_plugin import Options, UsageError, check, compare, fingerprint_model
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.cli import main
from lineage_plugin.fingerprint.cache import FingerprintCache
from lineage_plugin.fingerprint.file import FILE, read_fingerprint, to_bytes
from lineage_plugin.fingerprint.make import fingerprint_of
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of fingerprints for each test."""
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fingerprints"


def written(model: str, path: Path) -> str:
    path.write_bytes(to_bytes(fingerprint_of(open_checkpoint(str(EXAMPLES / model), options=Options()), digests=True)))
    return str(path)


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


# --- as files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suspect", "relation"), [("honest", "derived"), ("twin", "shared-init"), ("liar", "unrelated")]
)
def test_a_file_stands_for_either_model(tmp_path: Path, suspect: str, relation: str) -> None:
    theirs, mine = written("base", tmp_path / "base.bin"), written(suspect, tmp_path / "mine.bin")
    folder = str(EXAMPLES / suspect)
    for pair in ((folder, theirs), (mine, str(EXAMPLES / "base")), (mine, theirs)):
        report = compare(*pair)
        assert report.comparisons[0].relation == relation
        assert any("fingerprint file" in limit for limit in report.comparisons[0].limits)
    # The same units give the same coins, wherever they come from.
    counts = {compare(*pair).comparisons[0].evidence for pair in ((folder, theirs), (mine, theirs))}
    assert len(counts) == 1
    weights = compare(folder, str(EXAMPLES / "base")).comparisons[0].evidence
    assert relation == "unrelated" or weights.log10_e / 3 < next(iter(counts)).log10_e < weights.log10_e * 3


def test_the_same_files_are_identical_by_their_digests(tmp_path: Path) -> None:
    theirs, mine = written("base", tmp_path / "base.bin"), written("base", tmp_path / "mine.bin")
    assert compare(mine, theirs).comparisons[0].relation == "identical"
    assert compare(str(EXAMPLES / "base"), theirs).comparisons[0].relation == "identical"


def test_a_card_is_checked_against_a_fingerprint_of_its_base(tmp_path: Path) -> None:
    theirs = written("base", tmp_path / "base.bin")
    assert check(str(EXAMPLES / "honest"), bases=[theirs]).verdict == "pass"
    report = check(str(EXAMPLES / "liar"), bases=[theirs])
    assert report.verdict == "fail" and "LIN101" in {found.code for found in report.findings}
    mine = written("liar", tmp_path / "mine.bin")
    report = check(mine, bases=[theirs], card=str(EXAMPLES / "liar" / "README.md"))
    assert report.verdict == "fail" and "LIN101" in {found.code for found in report.findings}


def test_an_adapter_has_none_and_wants_weights(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = {
        f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_{side}.weight": np.ones(shape, np.float32)
        for layer in range(2)
        for side, shape in (("A", (4, 32)), ("B", (64, 4)))
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "base_model_name_or_path": "a/b"}')
    with pytest.raises(UsageError, match="adapter"):
        fingerprint_of(open_checkpoint(str(folder), options=Options()))
    with pytest.raises(UsageError, match="adapter is compared with its base's weights"):
        compare(str(folder), written("base", tmp_path / "base.bin"))


def test_weights_of_another_shape_are_undecided_not_accused(tmp_path: Path) -> None:
    theirs = written("base", tmp_path / "base.bin")
    folder = tmp_path / "narrow"
    shutil.copytree(EXAMPLES / "liar", folder)
    tensors = load_file(folder / "model.safetensors")
    cut = {
        name: value[:-2]
        if name.endswith(("up_proj.weight", "gate_proj.weight"))
        else np.ascontiguousarray(value[:, :-2])
        if name.endswith("down_proj.weight")
        else value
        for name, value in tensors.items()
    }
    save_file(cut, folder / "model.safetensors")
    report = compare(str(folder), theirs)
    assert report.comparisons[0].relation in ("unrelated", "inconclusive")
    assert report.comparisons[0].evidence.log10_e < 3


# --- in repositories ----------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub: LocalHub) -> LocalHub:
    """A base that ships its fingerprint, and a child and a stranger that do not."""
    for name in ("base", "honest", "liar"):
        shutil.copytree(EXAMPLES / name, hub.root / "acme" / name)
    written("base", hub.root / "acme" / "base" / FILE)
    return hub


def weight_reads(hub: LocalHub, repo: str) -> int:
    return sum("safetensors" in record.path and FILE not in record.path for record in hub.log.records(repo=repo))


def test_a_shipped_fingerprint_saves_reading_the_base(published: LocalHub) -> None:
    options = Options(endpoint=published.endpoint)
    report = compare(str(EXAMPLES / "honest"), "acme/base", options=options)
    found = report.comparisons[0]
    assert found.relation == "derived"
    assert weight_reads(published, "acme/base") == 0
    assert any("publisher's word" in limit for limit in found.limits)
    # Either way of looking could have made the claim, so each has half of the average.
    assert [(stage.name, stage.weight) for stage in found.evidence.stages] == [("fingerprint", 0.5)]
    assert found.evidence.log10_e == pytest.approx(found.evidence.stages[0].log10_e - np.log10(2))


def test_of_a_suspect_on_the_hub_weights_are_read_unless_its_fingerprint_is_at_hand(published: LocalHub) -> None:
    options = Options(endpoint=published.endpoint)
    found = compare("acme/honest", "acme/base", options=options).comparisons[0]
    assert found.relation == "derived" and all(stage.name != "fingerprint" for stage in found.evidence.stages)
    assert weight_reads(published, "acme/base") > 0
    fingerprint_model("acme/honest", options=options)
    published.log.clear()
    found = compare("acme/honest", "acme/base", options=options).comparisons[0]
    assert found.relation == "derived" and found.evidence.stages[0].name == "fingerprint"
    assert weight_reads(published, "acme/base") == 0


def test_what_a_fingerprint_does_not_show_is_read(published: LocalHub) -> None:
    report = compare(str(EXAMPLES / "liar"), "acme/base", options=Options(endpoint=published.endpoint))
    assert report.comparisons[0].relation == "unrelated"
    assert weight_reads(published, "acme/base") > 0
    stages = report.comparisons[0].evidence.stages
    assert stages[0].name == "fingerprint" and sum(stage.weight for stage in stages) == pytest.approx(1.0, abs=0.05)
    only = compare("acme/liar", "acme/base", options=Options(endpoint=published.endpoint, fingerprints="only"))
    assert only.comparisons[0].relation == "unrelated"


def test_fingerprints_off_reads_weights(published: LocalHub) -> None:
    options = Options(endpoint=published.endpoint, fingerprints="off")
    report = compare(str(EXAMPLES / "honest"), "acme/base", options=options)
    assert report.comparisons[0].relation == "derived"
    assert weight_reads(published, "acme/base") > 0
    assert all(stage.name != "fingerprint" for stage in report.comparisons[0].evidence.stages)


@pytest.mark.parametrize("how", ["weights changed", "digests unknown", "another's", "damaged", "further weights"])
def test_a_fingerprint_that_is_not_of_these_weights_is_not_believed(published: LocalHub, how: str) -> None:
    folder = published.root / "acme" / "base"
    if how == "weights changed":
        shutil.copy(EXAMPLES / "liar" / "model.safetensors", folder / "model.safetensors")
    elif how == "digests unknown":
        checkpoint = open_checkpoint(str(EXAMPLES / "base"), options=Options())
        (folder / FILE).write_bytes(to_bytes(fingerprint_of(checkpoint)))
    elif how == "another's":
        written("honest", folder / FILE)
    elif how == "damaged":
        (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-7])
    else:
        shutil.copy(EXAMPLES / "liar" / "model.safetensors", folder / "pytorch_model.safetensors")
    report = compare(str(EXAMPLES / "honest"), "acme/base", options=Options(endpoint=published.endpoint))
    assert weight_reads(published, "acme/base") > 0
    assert report.comparisons[0].relation == ("unrelated" if how == "weights changed" else "derived")


def test_the_model_that_is_checked_is_read_whatever_it_ships(published: LocalHub) -> None:
    # It says it is the honest child; its weights are a stranger's.
    liar = published.root / "acme" / "liar"
    forged = fingerprint_of(
        open_checkpoint(str(EXAMPLES / "honest"), options=Options()), name="acme/liar", digests=True
    )
    (liar / FILE).write_bytes(to_bytes(forged))
    report = compare("acme/liar", "acme/base", options=Options(endpoint=published.endpoint))
    assert report.comparisons[0].relation == "unrelated"


def test_the_file_itself_is_no_weight_file(published: LocalHub) -> None:
    report = check("acme/base", options=Options(endpoint=published.endpoint))
    assert "LIN305" not in {found.code for found in report.findings}


# --- the command and the cache ------------------------------------------------------------------------------------


def test_the_command_writes_the_same_bytes_from_a_folder_and_from_the_hub(
    published: LocalHub, tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here.bin", tmp_path / "there.bin"
    assert main(["fingerprint", str(EXAMPLES / "honest"), "-o", str(here), "--name", "acme/honest"]) == 0
    endpoint = ["--endpoint", published.endpoint]
    assert main(["fingerprint", "acme/honest", "-o", str(there), *endpoint]) == 0
    one, other = (read_fingerprint(path.read_bytes(), path.name) for path in (here, there))
    assert other.source.revision is not None and one.source.revision is None
    assert dict(one.source.files) == dict(other.source.files)
    for mine, theirs in zip(one.shelves, other.shelves, strict=True):
        assert all(np.array_equal(a.bits, b.bits) for a, b in zip(mine.strips, theirs.strips, strict=True))
        assert all(
            np.array_equal(a.energy, b.energy, equal_nan=True) for a, b in zip(mine.strips, theirs.strips, strict=True)
        )
    # Made once: the second time weights are not read.
    before = weight_reads(published, "acme/honest")
    again = tmp_path / "again.bin"
    assert main(["fingerprint", "acme/honest", "-o", str(again), *endpoint]) == 0
    assert again.read_bytes() == there.read_bytes()
    assert len(kept(own_cache)) == 1
    headers = weight_reads(published, "acme/honest") - before
    assert headers <= before
    assert "layers" in capsys.readouterr().err


def test_a_cached_base_is_not_read_again(published: LocalHub, own_cache: Path) -> None:
    (published.root / "acme" / "base" / FILE).unlink()
    options = Options(endpoint=published.endpoint)
    assert main(["fingerprint", "acme/base", "-o", os.devnull, "--endpoint", published.endpoint]) == 0
    before = weight_reads(published, "acme/base")
    report = compare(str(EXAMPLES / "honest"), "acme/base", options=options)
    assert report.comparisons[0].relation == "derived"
    assert weight_reads(published, "acme/base") == before
    assert any("made of this commit before" in limit for limit in report.comparisons[0].limits)
    # A new commit is another model.
    shutil.copy(EXAMPLES / "liar" / "model.safetensors", published.root / "acme" / "base" / "model.safetensors")
    assert compare(str(EXAMPLES / "honest"), "acme/base", options=options).comparisons[0].relation == "unrelated"


def test_damage_in_the_cache_is_no_error(published: LocalHub, own_cache: Path) -> None:
    assert main(["fingerprint", "acme/base", "-o", os.devnull, "--endpoint", published.endpoint]) == 0
    (path,) = kept(own_cache)
    path.write_bytes(b"nonsense")
    found = fingerprint_of(open_checkpoint(str(EXAMPLES / "base"), options=Options()))
    assert FingerprintCache("x").get(found.source.id, "0" * 40) is None
    assert compare(str(EXAMPLES / "honest"), "acme/base", options=Options(endpoint=published.endpoint)).comparisons


def test_the_cache_keeps_to_its_limit(own_cache: Path, tmp_path: Path) -> None:
    found = fingerprint_of(open_checkpoint(str(EXAMPLES / "base"), options=Options()), name="acme/base")
    commits = [f"{number:040x}" for number in range(6)]
    size = len(to_bytes(replace(found, source=replace(found.source, revision=commits[0]))))
    cache = FingerprintCache("hub", tmp_path / "small", limit=3 * size)
    for commit in commits:
        cache.put(replace(found, source=replace(found.source, revision=commit)))
        assert cache.get("acme/base", commits[0]) is not None  # used each time, so it stays
        time.sleep(0.02)
    assert [cache.get("acme/base", commit) is not None for commit in commits].count(True) == 3
    assert cache.get("acme/base", commits[-1]) is not None


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["--name", "../etc"], "is no model id to name"),
        (["-o", "/nowhere/at/all.bin"], "does not exist"),
    ],
)
def test_bad_calls_are_one_line(arguments: list[str], phrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", str(EXAMPLES / "base"), *arguments]) == 2
    said = capsys.readouterr().err
    assert phrase in said and said.count("\n") == 1
