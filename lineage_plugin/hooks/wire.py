"""What a request of the Hub's client is about to send: read from its address and its body, before it leaves.

Three requests matter, all of them POST (``huggingface_hub`` 1.0 to 2.4, ``_commit_api.py`` and ``lfs.py``): *preupload*
says which files will come, with 512 bytes of each; the *LFS batch* asks where to put objects; *commit* makes the
commit, with small files in it and large ones by their sha256. Uploads to xet storage are announced by a preupload and
made known by a commit; between these, another library sends the bytes, out of sight.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = ["OutgoingFile", "Sending", "Unreadable", "sending"]

_API = re.compile(r"/api/models/([^/]+(?:/[^/]+)?)/(preupload|commit)/(.+)\Z")
_LFS = re.compile(r"/([^/]+(?:/[^/]+)?)\.git/info/lfs/objects/batch\Z")
_NO_MODELS = ("datasets", "spaces", "kernels")


class Unreadable(ValueError):
    """The body of a request is not what the client of the Hub sends."""


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file that a request is about.

    Attributes:
        name: Its name in the repository; empty for an object of the LFS, which has none.
        size: Bytes, where the request says.
        sha256: Its digest, where the request says.
        content: Its bytes, where the request holds them: all of them in a commit, the first in a preupload.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """A request that announces, places or commits files of a model repository.

    Attributes:
        step: Which of the three it is.
        endpoint: Address of the Hub that it goes to.
        repo: The repository.
        revision: The revision that it names, unquoted; None for an LFS batch.
        files: The files.
    """

    step: Literal["preupload", "lfs", "commit"]
    endpoint: str
    repo: str
    revision: str | None
    files: tuple[OutgoingFile, ...]


def sending(method: str, url: str, body: Callable[[], bytes]) -> Sending | None:
    """Read a request.

    Args:
        method: Such as ``POST``.
        url: Its address.
        body: Returns its body; asked only when it is one of the three.

    Returns:
        What it sends; None when it sends no files of a model repository.

    Raises:
        Unreadable: When it is one of the three, and its body cannot be read.
    """
    if method.upper() != "POST":
        return None
    path = ""
    try:
        parts = urlsplit(url)
        path = parts.path
        if (match := _API.search(path)) is not None:
            endpoint = _endpoint(parts, match.start())
            repo, step, revision = unquote(match[1]), match[2], unquote(match[3])
            if step == "preupload":
                return Sending("preupload", endpoint, repo, revision, tuple(_announced(json.loads(body()))))
            return Sending("commit", endpoint, repo, revision, tuple(_committed(body())))
        if (match := _LFS.search(path)) is not None:
            repo = unquote(match[1])
            before = path[: match.start()].rpartition("/")[2]
            if before in _NO_MODELS or (before == "" and repo.split("/")[0] in _NO_MODELS):
                return None
            endpoint = _endpoint(parts, match.start())
            return Sending("lfs", endpoint, repo, None, tuple(_placed(json.loads(body()))))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"the body of the request to {path} cannot be read") from error
    return None


def _endpoint(parts: SplitResult, end: int) -> str:
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path[:end]}".rstrip("/")


def _announced(said: Any) -> Iterator[OutgoingFile]:
    for file in said["files"]:
        yield OutgoingFile(str(file["path"]), int(file["size"]), None, base64.b64decode(file["sample"]))


def _placed(said: Any) -> Iterator[OutgoingFile]:
    if said["operation"] != "upload":
        return
    for one in said["objects"]:
        yield OutgoingFile("", int(one["size"]), str(one["oid"]))


def _committed(body: bytes) -> Iterator[OutgoingFile]:
    for line in body.splitlines():
        if not line.strip():
            continue
        entry = json.loads(line)
        key, value = entry["key"], entry["value"]
        if key == "file":
            content = value["content"]
            data = base64.b64decode(content) if value.get("encoding") == "base64" else str(content).encode()
            yield OutgoingFile(str(value["path"]), len(data), None, data)
        elif key == "lfsFile":
            size = value.get("size")
            yield OutgoingFile(str(value["path"]), None if size is None else int(size), str(value["oid"]))
