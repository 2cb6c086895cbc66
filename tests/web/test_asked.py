"""What visitors type: ids and addresses of models come out as ids, everything else is refused in a sentence."""

from __future__ import annotations

import builtins
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.checkpoint.open import parse_model_id
from lineage_plugin.text import one_line
from lineage_plugin.web.asked import asked
from lineage_plugin.web.jobs import Failed
from lineage_plugin.web.settings import Settings

SETTINGS = Settings(models={"examples:honest": Path("/nowhere")}, endpoint="http://127.0.0.1:8000")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("owner/name", "owner/name"),
        ("  owner/name\n", "owner/name"),
        ("gpt2", "gpt2"),
        ("owner/name@v1.0", "owner/name@v1.0"),
        (f"owner/name@{COMMIT}", f"owner/name@{COMMIT}"),
        ("owner/name@refs/pr/12", "owner/name@refs%2Fpr%2F12"),
        ("owner/name@a%2Fbranch", "owner/name@a%2Fbranch"),
        ("owner/name/model-q4.gguf", "owner/name/model-q4.gguf"),
        ("owner/name@main/unet/", "owner/name@main/unet/"),
        ("examples:honest", "examples:honest"),
        ("https://huggingface.co/owner/name", "owner/name"),
        ("HTTPS://HuggingFace.co/Owner/Name/", "Owner/Name"),
        ("http://huggingface.co/owner/name?library=x#card", "owner/name"),
        ("huggingface.co/owner/name", "owner/name"),
        ("hf.co/owner/name", "owner/name"),
        ("https://hf.co/gpt2/tree/main", "gpt2@main"),
        ("https://huggingface.co/owner/name/tree/v1", "owner/name@v1"),
        ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F1", "owner/name@refs%2Fpr%2F1"),
        ("https://huggingface.co/owner/name/tree/main/unet", "owner/name@main/unet/"),
        ("http://127.0.0.1:8000/owner/name", "owner/name"),
    ],
)
def test_what_names_a_model_becomes_its_id(typed: str, meant: str) -> None:
    assert asked(typed, settings=SETTINGS) == meant
    assert asked(meant, settings=SETTINGS) == meant


@pytest.mark.parametrize(
    ("typed", "revision", "meant"),
    [
        ("owner/name", "v1", "owner/name@v1"),
        ("owner/name", " refs/pr/3 ", "owner/name@refs%2Fpr%2F3"),
        ("owner/name", "feature/x", "owner/name@feature%2Fx"),
        ("owner/name@v1", "v1", "owner/name@v1"),
        ("https://huggingface.co/owner/name", "v1", "owner/name@v1"),
        ("owner/name/model-q4.gguf", "v1", "owner/name@v1/model-q4.gguf"),
    ],
)
def test_the_revision_has_a_field_of_its_own(typed: str, revision: str, meant: str) -> None:
    assert asked(typed, revision, settings=SETTINGS) == meant


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "No model is named"),
        ("\u00a0 \t", "No model is named"),
        *((path, "is no model of the Hub") for path in ("/etc/passwd", "~", "~/x", ".", "..", "../x", "./x", "a\\b")),
        *(
            (path, "is no model of the Hub")
            for path in ("C:\\x", "C:/x", "a/b/c", "a/../b", "a//b", "model.safetensors")
        ),
        ("examples:liar", "is no model of the Hub"),
        ("owner/name@", "is no model of the Hub"),
        ("owner/name@../x", "is no model of the Hub"),
        ("owner/name/../../x.gguf", "is no model of the Hub"),
        *(
            (name, "is no address")
            for name in ("127.0.0.1", "127.0.0.1/x", "localhost", "localhost/x", "huggingface.co")
        ),
        ("https://huggingface.co.evil.org/owner/name", "is no address"),
        ("https://huggingface.co@evil.org/owner/name", "is no address"),
        ("https://user@huggingface.co/owner/name", "is no address"),
        ("https://huggingface.co:8443/owner/name", "is no address"),
        ("https://evil.org/huggingface.co/owner/name", "is no address"),
        ("http://127.0.0.1:8001/owner/name", "is no address"),
        ("http://169.254.169.254/latest/meta-data", "is no address"),
        ("file:///etc/passwd", "is no address"),
        ("ftp://huggingface.co/owner/name", "is no address"),
        ("//huggingface.co/owner/name", "is no address"),
        ("https://huggingface.co/", "is no address"),
        ("https://huggingface.co/models", "is no address"),
        ("https://huggingface.co/owner/name/blob/main/README.md", "is no model of the Hub"),
        ("https://huggingface.co/owner/name/tree/..", "is no model of the Hub"),
        ("https://huggingface.co/owner/name/tree/main/%2e%2e", "is no model of the Hub"),
        ("https://huggingface.co/owner/name/tree/a%00b", "holds characters"),
        ("https://huggingface.co/datasets/owner/name", "is a dataset"),
        ("datasets/owner/name", "is a dataset"),
        ("datasets/squad", "is a dataset"),
        ("https://huggingface.co/spaces/owner/name", "is a Space"),
        ("owner/na\x1bme", "holds characters"),
        ("owner/na\nme", "holds characters"),
        ("\u043ewner/name", "holds characters"),  # a Cyrillic o
        ("owner\u2215name", "holds characters"),
        ("owner/name\u200b", "holds characters"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "looks like an access token"),
        ("a/" + "b" * 400, "too long"),
    ],
)
def test_everything_else_is_refused_in_a_sentence(typed: str, why: str) -> None:
    with pytest.raises(Failed) as refused:
        asked(typed, settings=SETTINGS)
    assert refused.value.why == "usage"
    assert why in refused.value.message
    assert "Type the id of a model on the Hub, such as owner/name" in refused.value.message
    assert refused.value.message == one_line(refused.value.message, 500), "one line, inert"


def test_a_token_in_a_field_is_not_shown() -> None:
    for text in ("hf_abcdefghijklmnop", "owner/hf_abcdefghijklmnop", "../hf_abcdefghijklmnop"):
        with pytest.raises(Failed) as refused:
            asked(text, settings=SETTINGS)
        assert "abcdefgh" not in refused.value.message


@pytest.mark.parametrize(
    ("typed", "revision"), [("examples:honest", "v1"), ("a/b@v1", "v2"), ("a/b", "../x"), ("a/b", "x y")]
)
def test_revisions_that_cannot_be_are_refused(typed: str, revision: str) -> None:
    with pytest.raises(Failed) as refused:
        asked(typed, revision, settings=SETTINGS)
    assert refused.value.why == "usage"


def _asked(text: str, revision: str) -> tuple[str, Failed | None]:
    try:
        return asked(text, revision, settings=SETTINGS), None
    except Failed as failed:
        return "", failed


_PIECES = st.one_of(
    st.sampled_from(["owner", "name", "x.gguf", "tree", "main", "refs/pr/1", "datasets", "examples:honest", "a" * 96]),
    st.sampled_from(
        ["/", "@", "..", ".", "~", "\\", ":", "://", "%2F", "%2e", "%00", "#", "?", "-", "\n", "\x00", "é"]
    ),
    st.sampled_from(
        ["https://", "huggingface.co/", "hf.co/", "127.0.0.1", "http://127.0.0.1:8000/", "hf_aaaaaaaaaaaa"]
    ),
)
_TEXTS = st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=9).map("".join))


@given(_TEXTS, st.one_of(st.just(""), _TEXTS))
def test_whatever_comes_is_an_id_or_refused_and_the_disk_is_never_looked_at(text: str, revision: str) -> None:
    def touched(*arguments: object, **named: object) -> None:
        raise AssertionError("the disk was looked at")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("stat", "lstat", "scandir", "listdir", "open", "readlink"):
            patch.setattr(os, name, touched)
        patch.setattr(builtins, "open", touched)
        found, failed = _asked(text, revision)
        if failed is not None:
            assert (failed.why, failed.message.isprintable()) == ("usage", True)
            return
        if found not in SETTINGS.models:
            place = parse_model_id(found)
            assert found.isascii() and found.isprintable() and ".." not in found
            assert place.repo.count("/") <= 1
        assert asked(found, settings=SETTINGS) == found
