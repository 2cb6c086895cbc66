"""What the user may type, and what he may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.checkpoint.open import parse_model_id
from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.options import Options
from tests.hub import LocalHub

from .builders import write_single

OFFLINE = Options(offline=True)


@pytest.mark.parametrize(
    ("ref", "parsed"),
    [
        ("owner/name", ("owner/name", None)),
        ("gpt2", ("gpt2", None)),
        ("owner/name@main", ("owner/name", "main")),
        ("owner/name@refs/pr/12", ("owner/name", "refs/pr/12")),
        ("owner/name@v1.0+rc1", ("owner/name", "v1.0+rc1")),
        ("o/n@" + "a" * 40, ("o/n", "a" * 40)),
        ("Qwen/Qwen2.5-0.5B_x", ("Qwen/Qwen2.5-0.5B_x", None)),
        ("gpt2@main", ("gpt2", "main")),
    ],
)
def test_ids(ref: str, parsed: tuple[str, str | None]) -> None:
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
        ("owner/name@a/../b", "revision"),
        ("owner/name@a b", "revision"),
        ("owner/name@main\n", "revision"),
        ("owner/name@a?b", "revision"),
        ("owner/name@a@b", "revision"),
        ("owner/name@/a", "revision"),
        ("owner/name@a//b", "revision"),
        ("owner/name@" + "a" * 300, "revision"),
    ],
)
def test_what_is_no_model_is_one_clear_line(ref: str, phrase: str) -> None:
    with pytest.raises(UsageError, match=phrase) as caught:
        open_checkpoint(ref, options=OFFLINE)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    assert "hf_secret" not in message


def test_what_exists_is_opened_here_even_if_it_looks_like_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_single(tmp_path / "owner" / "name", {"w": torch.ones(2)})
    write_single(tmp_path / "owner" / "name@v1", {"v": torch.ones(2)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for ref in ("owner/name", "./owner/name", str(tmp_path / "owner/name"), "~/owner/name"):
        assert isinstance(open_checkpoint(ref, options=OFFLINE), StoredCheckpoint)
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
