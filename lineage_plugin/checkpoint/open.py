"""From what the user types to an opened checkpoint."""

from __future__ import annotations

import os
import re

from lineage_plugin.checkpoint.names import is_model_id, shown
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import UsageError
from lineage_plugin.options import Options

__all__ = ["open_checkpoint", "parse_model_id"]

_REVISION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./+-]{0,254}\Z")
_FILE_SUFFIXES = (".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".md")
_ID_HELP = "Give a folder, a file, or a model id such as owner/name or owner/name@revision"


def open_checkpoint(ref: str, *, options: Options) -> Checkpoint:
    """Open a model.

    What exists on this machine is opened there; anything else must be an id on the Hub.

    Args:
        ref: A folder, a safetensors file, a shard index, or ``owner/name[@revision]`` (``name`` alone for the oldest
            models).
        options: ``offline``, ``token``, ``endpoint`` and ``budget`` count here.

    Returns:
        The checkpoint; only headers have been read.

    Raises:
        UsageError: When ``ref`` is neither, or an id while ``options.offline``.
        InputError: When the weights cannot be read.
        HubError: When the Hub does not deliver.
    """
    if "\0" in ref or not ref.strip():
        raise UsageError(f"'{shown(ref)}' names no model. {_ID_HELP}")
    path = os.path.expanduser(ref)  # noqa: PTH111  # Path would drop the './' that tells a path from an id
    if os.path.lexists(path):
        from lineage_plugin.checkpoint.local import open_local

        return open_local(path, budget=options.budget)
    repo, revision = parse_model_id(ref)
    if options.offline:
        raise UsageError(f"'{shown(ref)}' is not on this machine, and offline mode allows nothing else")
    from lineage_plugin.checkpoint.hub import open_hub

    return open_hub(repo, revision, token=options.token, endpoint=options.endpoint, budget=options.budget)


def parse_model_id(ref: str) -> tuple[str, str | None]:
    """Split and validate a model id.

    Args:
        ref: ``owner/name``, ``owner/name@revision``, or either with ``name`` alone.

    Returns:
        The id and the revision, or None.

    Raises:
        UsageError: When it is no id; says what it looks like instead.
    """
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://", ref):
        raise UsageError(f"'{shown(_without_query(ref))}' is an address, and addresses are not opened. {_ID_HELP}")
    repo, at, revision = ref.partition("@")
    if ref.startswith((".", "/", "~", "\\")) or ref.endswith(_FILE_SUFFIXES) or repo.count("/") > 1 or "\\" in ref:
        raise UsageError(f"'{shown(ref)}': there is no such file or folder")
    if not is_model_id(repo):
        raise UsageError(f"'{shown(ref)}' is neither a file nor a model id. {_ID_HELP}")
    if not at:
        return repo, None
    if not _REVISION.match(revision) or ".." in revision or "//" in revision or revision.endswith(("/", ".", ".lock")):
        raise UsageError(f"'{shown(revision)}' is no revision. Give a branch, a tag or a commit after the @")
    return repo, revision


def _without_query(address: str) -> str:
    """Drop what may hold a secret: user, password and query."""
    scheme, _, rest = address.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
