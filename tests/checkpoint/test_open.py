"""What the user may type, and what he may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.checkpoint.beside import source_of
from lineage_plugin.checkpoint.open import parse_model_id
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.errors import HubNotFound, LineageError, UnreadableCheckpoint, UsageError
from lineage_plugin.options import Options
from tests.hub import LocalHub

from .builders import write_single

OFFLINE = Options(offline=True)


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("owner/name", ("owner/name", None, "")),
        ("gpt2", ("gpt2", None, "")),
        ("owner/name@main", ("owner/name", "main", "")),
        ("owner/name@refs/pr/12", ("owner/name", "refs/pr/12", "")),
        ("owner/name@refs/convert/onnx-1.2", ("owner/name", "refs/convert/onnx-1.2", "")),
        ("owner/name@v1.0+rc1", ("owner/name", "v1.0+rc1", "")),
        ("o/n@" + "a" * 40, ("o/n", "a" * 40, "")),
        ("Qwen/Qwen2.5-0.5B_x", ("Qwen/Qwen2.5-0.5B_x", None, "")),
        ("gpt2@main", ("gpt2", "main", "")),
        ("owner/name@feature%2Fx", ("owner/name", "feature/x", "")),
        ("owner/name/model.safetensors", ("owner/name", None, "model.safetensors")),
        ("owner/name/deep/er/Model.GGUF", ("owner/name", None, "deep/er/Model.GGUF")),
        ("owner/name/model.safetensors.index.json", ("owner/name", None, "model.safetensors.index.json")),
        ("owner/name/unet/", ("owner/name", None, "unet/")),
        ("owner/name@main/unet/", ("owner/name", "main", "unet/")),
        ("owner/name@v1/a/b.safetensors", ("owner/name", "v1", "a/b.safetensors")),
        ("owner/name@refs/pr/12/a.gguf", ("owner/name", "refs/pr/12", "a.gguf")),
        ("owner/name@feature%2fx/a.gguf", ("owner/name", "feature/x", "a.gguf")),
        ("owner/name@main/odd name (1).safetensors", ("owner/name", "main", "odd name (1).safetensors")),
    ],
)
def test_ids(ref: str, parsed: tuple[str, str | None, str]) -> None:
    assert parse_model_id(ref) == parsed


@pytest.mark.parametrize(
    ("ref", "phrase"),
    [
        ("", "names no model"),
        ("   ", "names no model"),
        ("a\0b", "names no model"),
        ("https://huggingface.co/owner/name", "owner/name"),
        ("http://user:hf_secretpassword@host/x?token=hf_secretpassword", "addresses are not opened"),
        ("file:///etc/passwd", "addresses are not opened"),
        ("./nothing", "no such file or folder"),
        ("../nothing", "no such file or folder"),
        ("/nowhere/model", "no such file or folder"),
        ("~/nothing-of-this-name", "no such file or folder"),
        ("model.safetensors", "no such file or folder"),
        ("a/b/c", "no such file or folder"),
        ("a\\b", "no such file or folder"),
        ("owner/../name", "no such file or folder"),
        ("owner/..", "neither"),
        ("own..er/name", "neither"),
        ("own--er/name", "neither"),
        ("owner/", "neither"),
        ("/name", "no such file or folder"),
        ("-rf", "neither"),
        ("--help/x", "neither"),
        ("owner/-name", "neither"),
        ("owner/na me", "neither"),
        ("owner/name?x=1", "neither"),
        ("owner/name#x", "neither"),
        ("owner/name%2f..", "neither"),
        ("owner/name.git", "neither"),
        ("owner/nämé", "neither"),
        ("owner/name\n", "neither"),
        ("owner/name\x1b[31m", "neither"),
        ("owner/" + "n" * 97, "neither"),
        ("owner/name@", "revision"),
        ("owner/name@-x", "revision"),
        ("owner/name@a..b", "revision"),
        ("owner/name@a/../b", "no path in a repository"),
        ("owner/name@a b", "revision"),
        ("owner/name@main\n", "revision"),
        ("owner/name@a?b", "revision"),
        ("owner/name@a@b", "revision"),
        ("owner/name@/a", "revision"),
        ("owner/name@a//b", "no path in a repository"),
        ("owner/name@" + "a" * 300, "revision"),
        ("owner/name@feature/x", "no path in a repository"),
        ("owner/name@refs/heads/main", "no path in a repository"),
        ("owner/name@refs/pr/12x", "no path in a repository"),
        ("owner/name@main/a.txt", "no path in a repository"),
        ("owner/name@main/a/../b.gguf", "no path in a repository"),
        ("owner/name@main//b.gguf", "no path in a repository"),
        ("owner/name@main/b@c.gguf", "no path in a repository"),
        ("owner/name@feature%2F..%2Fx", "revision"),
        ("owner/name@a%2F%2Fb", "revision"),
        ("owner/name@a%20b", "revision"),
        ("gpt2@main/unet/", "no path in a repository"),
        ("a/b/c", "ends with a slash"),
        ("a/b/c.txt", "no such file or folder"),
        ("a/b/../c.gguf", "no such file or folder"),
        ("a/b/c@d/e.gguf", "no such file or folder"),
        ("a/b//c.gguf", "no such file or folder"),
        ("a/b/c\n.gguf", "no such file or folder"),
        ("own..er/name/x.gguf", "neither"),
    ],
)
def test_what_is_no_model_is_one_clear_line(ref: str, phrase: str) -> None:
    with pytest.raises(UsageError, match=phrase) as caught:
        open_checkpoint(ref, options=OFFLINE)
    with pytest.raises(UsageError, match=phrase):
        source_of(ref, options=OFFLINE)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    assert "hf_secret" not in message


def test_what_exists_is_opened_here_even_if_it_looks_like_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_single(tmp_path / "owner" / "name", {"w": torch.ones(2)})
    write_single(tmp_path / "owner" / "name@v1", {"v": torch.ones(2)})
    config = tmp_path / "owner" / "name" / "config.json"
    config.write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for ref in ("owner/name", "./owner/name", str(tmp_path / "owner/name"), "~/owner/name"):
        assert isinstance(open_checkpoint(ref, options=OFFLINE), StoredCheckpoint)
        assert source_of(ref, options=OFFLINE).data("config.json") == config.read_bytes()
    assert list(open_checkpoint("owner/name@v1", options=OFFLINE).tensors) == ["v"]


def test_offline_refuses_ids_and_sends_nothing(hub: LocalHub) -> None:
    write_single(hub.root / "owner" / "name", {"w": torch.ones(2)})
    with pytest.raises(UsageError, match="offline"):
        open_checkpoint("owner/name", options=Options(offline=True, endpoint=hub.endpoint))
    assert hub.log.requests() == 0


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://host", "file:///", "host", "http://", "http://[::1", "http://h:99999", "http://h/?q=1", "ht\ntp:"],
)
def test_bad_endpoints(endpoint: str) -> None:
    with pytest.raises(UsageError, match="endpoint"):
        open_checkpoint("owner/name", options=Options(endpoint=endpoint))


def test_the_endpoint_comes_from_the_environment(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    write_single(hub.root / "owner" / "name", {"w": torch.ones(2)})
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    checkpoint = open_checkpoint("owner/name", options=Options())
    assert not checkpoint.local
    assert checkpoint.revision == hub.commit_id("owner/name")


@pytest.mark.parametrize("token", ["hf_abc\ndef", "hf abc", "hf_ümläut", "\x00"])
def test_impossible_tokens_are_refused_and_not_repeated(hub: LocalHub, token: str) -> None:
    with pytest.raises(LineageError) as caught:
        open_checkpoint("owner/name", options=Options(endpoint=hub.endpoint, token=token))
    assert isinstance(caught.value, UsageError)
    assert token not in str(caught.value)
    assert hub.log.requests() == 0


# One file, or one folder, of a repository -----------------------------------------------------------------------------


@pytest.fixture
def repository(hub: LocalHub) -> LocalHub:
    """A repository of two files and a folder with settings of its own."""
    folder = hub.root / "owner" / "name"
    write_single(folder, {"w": torch.ones(2, 2)})
    write_single(folder / "deep" / "er", {"w": torch.full((2, 2), 2.0)})
    (folder / "model.safetensors").rename(folder / "first.safetensors")
    save_file({"w": torch.full((2, 2), 3.0)}, folder / "second.safetensors")
    (folder / "config.json").write_text('{"model_type": "top"}')
    (folder / "deep" / "er" / "config.json").write_text('{"model_type": "deep"}')
    (folder / "README.md").write_text("# card")
    return hub


@pytest.mark.parametrize(
    ("ref", "file", "value", "settings"),
    [
        ("owner/name/second.safetensors", "second.safetensors", 3, "top"),
        ("owner/name@main/first.safetensors", "first.safetensors", 1, "top"),
        ("owner/name/deep/er/model.safetensors", "model.safetensors", 2, "deep"),
        ("owner/name/deep/er/", "model.safetensors", 2, "deep"),
        ("owner/name@main/deep/er/", "model.safetensors", 2, "deep"),
    ],
)
def test_a_part_of_a_repository(repository: LocalHub, ref: str, file: str, value: float, settings: str) -> None:
    checkpoint = open_checkpoint(ref, options=Options(endpoint=repository.endpoint))
    assert checkpoint.weight_files == (file,)
    assert checkpoint.id == ref.replace("@main", "").rstrip("/")
    assert checkpoint.config == {"model_type": settings}
    assert checkpoint.text("README.md") == "# card"
    assert checkpoint.read([Selection("w")])[0][0, 0] == value
    assert checkpoint.cost().requests == repository.log.requests()
    # On this machine the same folder and file give the same.
    path = repository.root / ref.replace("@main", "")
    assert open_checkpoint(str(path), options=OFFLINE).read([Selection("w")])[0][0, 0] == value


@pytest.mark.parametrize("path", ["missing.safetensors", "missing/", "deep/er/model.gguf", "first.safetensors/"])
def test_a_part_that_is_not_there_is_one_line(repository: LocalHub, path: str) -> None:
    with pytest.raises(HubNotFound, match="no file or folder") as caught:
        open_checkpoint(f"owner/name/{path}", options=Options(endpoint=repository.endpoint))
    assert str(caught.value).isprintable()


def test_files_that_collide_can_be_given_as_the_message_says(repository: LocalHub) -> None:
    options = Options(endpoint=repository.endpoint)
    with pytest.raises(UnreadableCheckpoint, match="both hold 'w'") as caught:
        open_checkpoint("owner/name", options=options)
    given = str(caught.value).split("as '")[1].split("'")[0]
    assert open_checkpoint(given, options=options).read([Selection("w")])[0][0, 0] == 3
