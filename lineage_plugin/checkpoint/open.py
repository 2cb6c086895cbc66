"""From what the user types to an opened checkpoint."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from lineage_plugin.checkpoint.names import is_model_id, is_plain_path, shown
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import UsageError
from lineage_plugin.options import Options

__all__ = ["ModelId", "locate", "open_checkpoint", "parse_model_id"]

_REVISION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./+-]{0,254}\Z")
_AT_REF = re.compile(r"^refs/(?:pr/\d+|convert/[\w.-]+)", re.ASCII)
"""Revisions that hold slashes and are no branches: pull requests and converted copies."""
_OTHER_FILES = (".json", ".md")
_ID_HELP = "Give a folder, a file, or a model id such as owner/name or owner/name@revision"
_PATH_HELP = "A folder of it ends with a slash, a file like weights; a slash inside a branch is written %2F"


class ModelId(NamedTuple):
    """What an id on the Hub names.

    Attributes:
        repo: ``owner/name``, or ``name`` of the oldest models.
        revision: Branch, tag or commit, or None for the default branch.
        path: The file or folder of the repository that is meant, a folder with a slash at the end; empty for the whole.
    """

    repo: str
    revision: str | None = None
    path: str = ""


def open_checkpoint(ref: str, *, options: Options) -> Checkpoint:
    """Open a model.

    What exists on this machine is opened there; anything else must be an id on the Hub.

    Args:
        ref: A folder, a weight file, a shard index, or an id as :func:`parse_model_id` has it.
        options: ``offline``, ``token``, ``endpoint`` and ``budget`` count here.

    Returns:
        The checkpoint; only headers have been read.

    Raises:
        UsageError: When ``ref`` is neither, or an id while ``options.offline``.
        InputError: When the weights cannot be read.
        HubError: When the Hub does not deliver.
    """
    place = locate(ref)
    if isinstance(place, str):
        from lineage_plugin.checkpoint.local import open_local
        from lineage_plugin.checkpoint.pointers import Remote

        remote = None if options.offline else Remote(options.token, options.endpoint)
        return open_local(place, budget=options.budget, remote=remote)
    if options.offline:
        raise UsageError(f"'{shown(ref)}' is not on this machine, and offline mode allows nothing else")
    from lineage_plugin.checkpoint.hub import open_hub

    return open_hub(
        place.repo,
        place.revision,
        path=place.path,
        token=options.token,
        endpoint=options.endpoint,
        budget=options.budget,
    )


def locate(ref: str) -> str | ModelId:
    """Return where a model is: what exists on this machine is there, anything else must be an id on the Hub.

    Args:
        ref: As for :func:`open_checkpoint`.

    Returns:
        The path as given, with the home folder for ``~``; or the parts of the id.

    Raises:
        UsageError: When ``ref`` is neither.
    """
    if "\0" in ref or not ref.strip():
        raise UsageError(f"'{shown(ref)}' names no model. {_ID_HELP}")
    path = os.path.expanduser(ref)  # noqa: PTH111  # Path would drop the './' that tells a path from an id
    return path if os.path.lexists(path) else parse_model_id(ref)


def parse_model_id(ref: str) -> ModelId:
    """Split and validate a model id.

    The grammar is that of ``hf://`` addresses: ``owner/name[@revision][/path]``. A path is taken for one only when it
    ends like a weight file, or with a slash for a folder, so that a mistyped path on this machine is not asked for on
    the Hub. Since the revision ends at the first slash, one inside a branch name is written ``%2F``;
    ``refs/pr/12`` and ``refs/convert/parquet`` are written as they are.

    Args:
        ref: Such as ``owner/name``, ``owner/name@v1``, ``owner/name@main/unet/``, ``owner/name/model-q4.gguf``; a path
            needs the owner.

    Returns:
        Its parts.

    Raises:
        UsageError: When it is no id; says what it looks like instead.
    """
    from lineage_plugin.checkpoint.formats import weight_suffixes

    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://", ref):
        raise UsageError(f"'{shown(_without_query(ref))}' is an address, and addresses are not opened. {_ID_HELP}")
    if ref.startswith((".", "/", "~", "\\")) or "\\" in ref:
        raise UsageError(f"'{shown(ref)}': there is no such file or folder")
    repo, at, rest = ref.partition("@")
    path = ""
    if not at and repo.count("/") > 1:
        owner, name, path = repo.split("/", 2)
        repo = f"{owner}/{name}"
        if not _is_path(path):
            raise UsageError(f"'{shown(ref)}': there is no such file or folder. For a model on the Hub: {_PATH_HELP}")
    elif repo.count("/") > 1 or (not at and repo.lower().endswith((*weight_suffixes(), *_OTHER_FILES))):
        raise UsageError(f"'{shown(ref)}': there is no such file or folder")
    if not is_model_id(repo):
        raise UsageError(f"'{shown(ref)}' is neither a file nor a model id. {_ID_HELP}")
    if not at:
        return ModelId(repo, None, path)
    match = _AT_REF.match(rest)
    revision = match[0] if match is not None else rest.partition("/")[0]
    path = rest[len(revision) :]
    revision = revision.replace("%2F", "/").replace("%2f", "/")
    if not _REVISION.match(revision) or ".." in revision or "//" in revision or revision.endswith(("/", ".", ".lock")):
        raise UsageError(f"'{shown(revision)}' is no revision. Give a branch, a tag or a commit after the @")
    if path and ("/" not in repo or path[0] != "/" or not _is_path(path[1:])):
        raise UsageError(f"'{shown(path[1:])}' is no path in a repository after the revision. {_PATH_HELP}")
    return ModelId(repo, revision, path[1:])


def _is_path(path: str) -> bool:
    """Return whether a text is a plain path that ends like a weight file or as a folder."""
    from lineage_plugin.checkpoint.formats import weight_suffixes

    if not is_plain_path(path.removesuffix("/")) or "@" in path:
        return False
    lower = path.lower().removesuffix(".index.json")
    return path.endswith("/") or lower.endswith(weight_suffixes())


def _without_query(address: str) -> str:
    """Drop what may hold a secret: user, password and query."""
    scheme, _, rest = address.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
