"""Flax: ``flax_model.msgpack`` of transformers and alike, in one piece or several."""

from __future__ import annotations

from collections.abc import Collection

from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.layout import Layout, read_index
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["FORMAT"]

_SUFFIXES = (".msgpack",)
_NAMES = ("flax_model.msgpack", "diffusion_flax_model.msgpack")


def _find(names: Collection[str], where: str) -> Layout | None:
    for name in _NAMES:
        if name in names:
            return Layout(None, (name,))
        if f"{name}.index.json" in names:
            return Layout(f"{name}.index.json", ())
    loose = sorted(name for name in names if "/" not in name and name.endswith(".msgpack"))
    return Layout(None, (loose[0],)) if len(loose) == 1 else None


def _open(source: Source, layout: Layout) -> Opened:
    # Most models are opened in another format, and need not wait for this one's parser.
    from lineage_plugin.checkpoint.foreign.arranged import Store
    from lineage_plugin.checkpoint.foreign.flax_tree import read_tree
    from lineage_plugin.checkpoint.foreign.names import flax_name, flax_paths
    from lineage_plugin.checkpoint.foreign.window import Window, refuse_remote

    files = layout.files
    if layout.index is not None:
        files = tuple(sorted(set(read_index(source, layout.index, _SUFFIXES).values())))
    found = {}
    for file in files:
        refuse_remote(source, file, "Flax weights")
        for path, leaf in read_tree(Window(source, file, "Flax file")).items():
            if path in found:
                raise UnreadableCheckpoint(source.where, f"two files hold the array '{shown('/'.join(path), 120)}'")
            found[path] = leaf
    store = Store()
    for path, bare in flax_paths(found).items():
        leaf = found[path]
        name, axes = flax_name(bare, len(leaf.shape))
        store.add("/".join(path) if name in store else name, leaf.pieces, leaf.shape, axes)
    return Opened("flax", files, store.tensors, derived=store.derived, hidden=frozenset(store.hidden))


FORMAT = Format(
    name="flax",
    rank=30,
    suffixes=_SUFFIXES,
    find=_find,
    open=_open,
    rows=(
        Row(
            "Flax: `flax_model.msgpack`, one file or shards",
            "yes",
            "no: download first",
            "-",
            "Names become those of PyTorch by the rules of transformers; kernels are turned back.",
        ),
    ),
)
