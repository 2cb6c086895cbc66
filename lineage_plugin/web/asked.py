"""What a visitor typed, made the name of a model that may be looked up, or refused.

Only three things are taken: the name of a model that the server offers itself, an id of the Hub, and the address of a
model's page on the Hub, since those are what people paste. Nothing here looks at the disk or at the network, and no
text that comes out means a path of this machine.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from lineage_plugin.checkpoint.open import ModelId, parse_model_id
from lineage_plugin.errors import UsageError
from lineage_plugin.text import one_line, quoted
from lineage_plugin.web.jobs import Failed
from lineage_plugin.web.settings import Settings

__all__ = ["asked"]

_LONGEST = 400
"""Characters of the longest text that is looked at; two parts of 96 and a revision of 255 are less."""
_HOSTS = ("huggingface.co/", "www.huggingface.co/", "hf.co/", "www.hf.co/")
_SCHEMES = ("https://", "http://", "")
_NO_OWNERS = re.compile(
    r"(?:(?:www\.)?(?:huggingface\.co|hf\.co)|localhost|\d+(?:\.\d+){3})\Z", re.ASCII | re.IGNORECASE
)
"""Hosts, which would pass as names."""
_NO_MODELS = {"datasets": "a dataset", "spaces": "a Space", "collections": "a collection", "papers": "a paper"}
_NO_NAMES = ("models", "docs", "blog", "login", "settings")
_SAY = "Type the id of a model on the Hub, such as owner/name or owner/name@revision"


def asked(text: str, revision: str = "", *, settings: Settings) -> str:
    """Return what a visitor typed as the text that a job holds.

    Args:
        text: What is in the field of the model: an id, the address of its page, or the name of an offered model.
        revision: What is in the field of the revision; empty for the default branch.
        settings: Which models are offered, and which Hub's addresses are taken.

    Returns:
        The name of an offered model as it is, or ``owner/name[@revision][/path]``; given again, the same comes out.

    Raises:
        Failed: ``usage``, when it is none of these; says what to type.
    """
    text, revision = text.strip(), revision.strip()
    if not text:
        raise _refused(f"No model is named. {_SAY}.")
    if len(text) > _LONGEST or len(revision) > _LONGEST:
        raise _refused(f"That is too long for the id of a model. {_SAY}.")
    if text in settings.models:
        if revision:
            raise _refused(f"{quoted(text)} is a model of this page and has no revisions. Leave the revision empty.")
        return text
    if not (text.isascii() and text.isprintable() and revision.isascii() and revision.isprintable()):
        raise _refused(f"{quoted(text)} holds characters that no id has. {_SAY}.")
    place = _place(text, settings)
    if not revision:
        return _text_of(place)
    if place.revision not in (None, revision):
        raise _refused(f"{quoted(text)} names a revision already. Leave the field of the revision empty.")
    return _text_of(_parsed(_text_of(place._replace(revision=revision)), revision))


def _place(text: str, settings: Settings) -> ModelId:
    """Return what an id or an address names."""
    path = _path_of(text, settings)
    if path is None:
        if "://" in text or text.startswith("//"):
            raise _refused(f"{quoted(text)} is no address of a model on the Hub. {_SAY}.")
        path = text
        parts = text.split("/")
    else:
        parts = [part for part in path.split("?")[0].split("#")[0].split("/") if part]
        if not parts or (len(parts) == 1 and parts[0].lower() in _NO_NAMES):
            raise _refused(f"{quoted(text)} is no address of a model on the Hub. {_SAY}.")
    if len(parts) > 1 and (what := _NO_MODELS.get(parts[0].lower())) is not None:
        raise _refused(f"{quoted(text)} is {what}, and only models can be looked at. {_SAY}.")
    return _parsed(text if path is text else _id_of(parts), text)


def _path_of(text: str, settings: Settings) -> str | None:
    """Return the path of an address of the Hub; None for any other text."""
    own = settings.endpoint or os.environ.get("HF_ENDPOINT") or ""
    starts = [f"{scheme}{host}" for scheme in _SCHEMES for host in _HOSTS]
    # Compared up to the slash behind the host, so that no user, port or longer name fits in between.
    for start in [*starts, *([f"{own.rstrip('/')}/"] if own else [])]:
        if text[: len(start)].lower() == start.lower():
            return text[len(start) :]
    return None


def _id_of(parts: list[str]) -> str:
    """Return the parts of an address as an id: ``owner/name``, and behind ``tree`` a revision and a folder."""
    # The oldest models have no owner.
    length = 1 if len(parts) == 1 or parts[1] == "tree" else 2
    name, rest = "/".join(parts[:length]), parts[length:]
    if len(rest) < 2 or rest[0] != "tree":
        # What follows the name otherwise is no revision; the whole is then refused as no id.
        return "/".join(parts)
    revision, folder = unquote(rest[1]).replace("/", "%2F"), "".join(f"/{unquote(part)}" for part in rest[2:])
    return f"{name}@{revision}{folder}" + ("/" if folder else "")


def _parsed(id: str, typed: str) -> ModelId:
    if not (id.isascii() and id.isprintable()):
        raise _refused(f"{quoted(typed)} holds characters that no id has. {_SAY}.")
    if one_line(id, len(id)) != id:
        raise _refused(f"That looks like an access token, and belongs in no field. {_SAY}.")
    if _NO_OWNERS.match(id.partition("@")[0].partition("/")[0]):
        raise _refused(f"{quoted(typed)} is no address of a model on the Hub. {_SAY}.")
    try:
        return parse_model_id(id)
    except UsageError:
        raise _refused(f"{quoted(typed)} is no model of the Hub, or no revision of one. {_SAY}.") from None


def _text_of(place: ModelId) -> str:
    """Return an id as :func:`~lineage_plugin.checkpoint.open.parse_model_id` reads it."""
    revision = "" if place.revision is None else "@" + place.revision.replace("/", "%2F")
    return f"{place.repo}{revision}" + (f"/{place.path}" if place.path else "")


def _refused(message: str) -> Failed:
    return Failed("usage", message)
