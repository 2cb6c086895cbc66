"""Patterns of model ids and folders.

>>> matches("acme/*", "acme/base-7b"), matches("acme*", "acme-mirror/base-7b"), matches("*", "acme/base-7b")
(True, False, False)
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

from lineage_plugin.checkpoint.open import locate

__all__ = ["matches", "names_of"]


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern fits a name.

    Args:
        pattern: ``*`` stands for any characters but a slash, ``?`` for one of them; case counts.
        name: An id or a path with forward slashes.
    """
    parts, names = pattern.split("/"), name.split("/")
    # Part by part, so that acme* is no way to write acme-mirror/anything. A bracket is a plain character in a path.
    return len(parts) == len(names) and all(
        fnmatchcase(found, part.replace("[", "[[]")) for part, found in zip(parts, names, strict=True)
    )


def names_of(model: str, policy_file: str) -> tuple[str, ...]:
    """Return what exceptions may call a model: what its user typed, never what the model says of itself.

    Args:
        model: What the user typed.
        policy_file: The policy file.

    Returns:
        Of a model on the Hub its id, without the revision. Of one on this machine its path from the folder of the
        policy file, with forward slashes, and for a single file the path of its folder besides.
    """
    place = locate(model)
    if not isinstance(place, str):
        return (place.repo, f"{place.repo}/{place.path.removesuffix('/')}") if place.path else (place.repo,)
    # Links are not followed: the name that counts is the one that people use.
    path = Path(_from(place, policy_file))
    names = (path,) if Path(place).is_dir() else (path, path.parent)
    return tuple(name.as_posix() for name in names)


def _from(place: str, policy_file: str) -> str:
    folder = os.path.dirname(os.path.abspath(policy_file))  # noqa: PTH100, PTH120  # Path.resolve would follow links
    try:
        return os.path.relpath(place, folder)
    except ValueError:  # on another drive
        return place
