"""Files that are about to go: which of them are weights, and what a folder would upload."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import example, given
from hypothesis import strategies as st

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.staged import SAMPLE, from_folder, from_operations, laid_out, looks_like_weights
from tests.hooks.conftest import EXAMPLES, WEIGHTS

HEADER = (EXAMPLES / "honest" / WEIGHTS).read_bytes()[:SAMPLE]


@given(st.text(max_size=30), st.binary(max_size=SAMPLE))
@example("", b"")
def test_any_name_and_bytes(name: str, first: bytes) -> None:
    assert looks_like_weights(name, first) in (True, False)


@given(st.sampled_from([".safetensors", ".bin", ".gguf", ".pt", ".SAFETENSORS", ".h5"]), st.binary(max_size=SAMPLE))
def test_weights_by_name(ending: str, first: bytes) -> None:
    assert looks_like_weights(f"some/model{ending}", first)


@pytest.mark.parametrize("first", [HEADER, b"GGUF\x03\0\0\0", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04x/data.pkl"])
@pytest.mark.parametrize("name", ["model.dat", "README", "weights", "a.txt", "model.safetensors.part"])
def test_weights_by_first_bytes(name: str, first: bytes) -> None:
    assert looks_like_weights(name, first)


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "run/scheduler.pt", "rng_state_0.pth"])
def test_the_state_of_a_training_is_no_weights(name: str) -> None:
    assert not looks_like_weights(name, b"PK\x03\x04archive/data.pkl")


@pytest.mark.parametrize("name", ["README.md", "config.json", "x.png", "a.zip"])
def test_other_files_are_no_weights(name: str) -> None:
    assert not looks_like_weights(name, b"# A model")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("card.md", "a/b.txt", "a/c.bin", ".gitattributes", ".git/HEAD", "w x.txt", "\u0444.md"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "patterns",
    [
        {},
        {"allow_patterns": "*.md"},
        {"allow_patterns": ["a/"]},
        {"ignore_patterns": "*.bin"},
        {"ignore_patterns": ["a/*", "*.md"]},
        {"allow_patterns": ["*.bin", "*.txt"], "ignore_patterns": ["w*"]},
    ],
)
@pytest.mark.parametrize("below", ["", "v2", "/v2/", "./v2", "v2/x", "."])
def test_a_folder_is_what_the_client_uploads(tree: Path, patterns: dict[str, str | list[str]], below: str) -> None:
    from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS

    ignored = patterns.get("ignore_patterns", [])
    theirs = HfApi()._prepare_upload_folder_additions(
        tree,
        "" if below == "." else below,
        allow_patterns=patterns.get("allow_patterns"),
        ignore_patterns=[*([ignored] if isinstance(ignored, str) else ignored), *DEFAULT_IGNORE_PATTERNS],
        token=False,
    )
    found = from_folder(tree, below, **patterns)  # type: ignore[arg-type]
    assert set(found.files) == {one.path_in_repo.removeprefix("./") for one in theirs}


def test_a_folder_below_the_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    assert from_folder(Path("~/tree")).files.keys() == from_folder(tree).files.keys()


def test_operations_of_every_kind(tree: Path) -> None:
    data = (tree / "a/c.bin").read_bytes()
    file = io.BytesIO(data)
    file.seek(3)
    kinds = [str(tree / "a/c.bin"), data, file]
    for kind in kinds:
        one = CommitOperationAdd(path_in_repo="x/c.bin", path_or_fileobj=kind)
        found = from_operations([one]).files["x/c.bin"]
        assert (found.first, found.size, found.is_weights) == (data, len(data), True)
        with laid_out(from_operations([one]), "me/model", {}) as (laid, names):
            assert (laid.top / "x/c.bin").read_bytes() == data
            assert names == laid.new == laid.weights == {"x/c.bin"}
            top = laid.top
        assert not top.exists()
    assert file.tell() in (0, 3)


def test_a_file_that_is_gone(tree: Path) -> None:
    one = CommitOperationAdd(path_in_repo="c.bin", path_or_fileobj=str(tree / "a/c.bin"))
    (tree / "a/c.bin").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        from_operations([one])
    with pytest.raises(UsageError, match="no such folder"):
        from_folder(tree / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tree: Path) -> None:
    (tree / "a/c.bin").chmod(0)
    with pytest.raises(UsageError, match="cannot be read"):
        from_folder(tree)


def test_a_name_that_is_a_file_and_a_folder(tree: Path) -> None:
    both = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=b"x") for name in ("a.json", "a.json/README.md")]
    with pytest.raises(UsageError), laid_out(from_operations(both), "me/model", {}):
        pass
