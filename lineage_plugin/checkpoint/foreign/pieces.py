"""Shard indices of Flax and Keras models."""

from __future__ import annotations

from lineage_plugin.checkpoint.layout import MAX_INDEX, Layout
from lineage_plugin.checkpoint.names import is_plain_path, shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["pieces"]

_MOST_PIECES = 4096
_MOST_VALUES = 1 << 19


def pieces(source: Source, layout: Layout, suffix: str, what: str) -> tuple[str, ...]:
    """Return the weight files of a layout, those that its index names if it has one.

    Args:
        source: Where they are.
        layout: What was found.
        suffix: How they must end.
        what: What they hold, for messages.

    Raises:
        UnreadableCheckpoint: When the index is none, or names files that are missing or outside the model.
    """
    if layout.index is None:
        return layout.files
    where = f"{source.where}/{shown(layout.index)}"
    known = source.files.get(layout.index)
    if known is None or known.size > MAX_INDEX:
        raise UnreadableCheckpoint(where, "the index is missing or too large", "Get the index again.")
    data = source.data(layout.index, MAX_INDEX)
    if data is None:
        raise UnreadableCheckpoint(where, "there is no such file")
    document = load_object(data, where=where, what="index", values=_MOST_VALUES, containers=1000)
    weight_map = document.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableCheckpoint(where, "there is no weight_map", "Get the index again.")
    files: set[str] = set()
    for file in weight_map.values():
        if not isinstance(file, str) or not is_plain_path(file) or not file.endswith(suffix):
            raise UnreadableCheckpoint(where, f"'{shown(file, 120)}' is not the plain name of a file with {what}")
        if file not in source.files:
            raise UnreadableCheckpoint(where, f"the shard '{shown(file, 120)}' is missing", "Get the missing file.")
        files.add(file)
        if len(files) > _MOST_PIECES:
            raise UnreadableCheckpoint(where, f"it names more than {_MOST_PIECES} files")
    return tuple(sorted(files))
