"""Which policy holds where none is named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lineage_plugin.answer import folder_of
from lineage_plugin.checkpoint.files import inside
from lineage_plugin.errors import UsageError
from lineage_plugin.policy.load import load_policy
from lineage_plugin.policy.trust import only_stricter
from lineage_plugin.policy.types import Policy

__all__ = ["NAME", "find_policy"]

NAME: Final = ".lineage.yml"


def find_policy(model: str, card: str | None = None, came_with: Iterable[Path] = ()) -> Policy | None:
    """Look for a policy file on this machine; none is ever fetched.

    The current folder's comes first and counts whole, unless the current folder is the model's or lies in it: a file
    that came with the model must not take the place of the user's own. Otherwise the file beside the card that was
    given, or beside a local model, counts so far as it makes the check stricter.

    Args:
        model: What the user typed for the model.
        card: The card that was given instead of the model's own.
        came_with: Further folders that belong to the model.

    Returns:
        The policy; None when there is none.

    Raises:
        UsageError: When a file is there and is no policy.
        UnreadableCheckpoint: When the file beside the model is a link that leads out of its folder.
    """
    folder = _folder(model)
    belongs = [*came_with, *([] if folder is None else [folder])]
    if os.path.lexists(NAME) and not any(_lies_in(Path(), place) for place in belongs):
        return load_policy(NAME)
    beside = folder if card is None else Path(card).parent
    if beside is None or not os.path.lexists(beside / NAME):
        return None
    return only_stricter(load_policy(inside(beside, NAME)))


def _folder(model: str) -> Path | None:
    """Return the folder of a model on this machine; None for one of the Hub, or for none at all."""
    try:
        folder = folder_of(model)
    except UsageError:
        return None  # The command itself says what is wrong.
    return None if folder is None else Path(folder)


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return True  # A loop of links is nobody's own folder.
