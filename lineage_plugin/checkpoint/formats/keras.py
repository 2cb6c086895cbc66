"""Keras and TensorFlow: ``tf_model.h5`` of transformers and other ``.h5`` weights, in one piece or several."""

from __future__ import annotations

from collections.abc import Collection

from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.layout import Layout, read_index
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["FORMAT"]

_MODEL = "tf_model.h5"
_SUFFIXES = (".h5", ".hdf5", ".keras")


def _find(names: Collection[str], where: str) -> Layout | None:
    if _MODEL in names:
        return Layout(None, (_MODEL,))
    if f"{_MODEL}.index.json" in names:
        return Layout(f"{_MODEL}.index.json", ())
    loose = sorted(name for name in names if "/" not in name and name.lower().endswith(_SUFFIXES))
    return Layout(None, (loose[0],)) if len(loose) == 1 else None


def _open(source: Source, layout: Layout) -> Opened:
    # Most models are opened in another format, and need not wait for this one's parser.
    from lineage_plugin.checkpoint.foreign.arranged import Store
    from lineage_plugin.checkpoint.foreign.hdf5 import read_datasets
    from lineage_plugin.checkpoint.foreign.names import keras_name, keras_paths
    from lineage_plugin.checkpoint.foreign.window import Window, refuse_remote

    files = layout.files
    if layout.index is not None:
        files = tuple(sorted(set(read_index(source, layout.index, _SUFFIXES).values())))
    found: dict[tuple[str, ...], TensorInfo] = {}
    for file in files:
        refuse_remote(source, file, "Keras weights")
        if file.lower().endswith(".keras"):
            raise UnsupportedEncoding(
                f"{source.where}/{shown(file)}",
                "a .keras archive is not read",
                "Unpack it as a zip archive and give the `model.weights.h5` inside.",
            )
        for path, info in read_datasets(Window(source, file, "HDF5 file")).items():
            if path in found:
                raise UnreadableCheckpoint(source.where, f"two files hold the variable '{shown('/'.join(path), 120)}'")
            found[path] = info
    store = Store()
    seen: dict[str, tuple[str, ...]] = {}
    for path, bare in keras_paths(found).items():
        info = found[path]
        name, axes = keras_name(bare, len(info.shape))
        shape = info.shape
        if name.endswith("bias") and len(shape) == 2 and shape[0] == 1:
            # Conv1D of GPT-2 has its bias as a row.
            shape, axes = shape[1:], (0,)
        if name in store and seen.get(name) == bare:
            continue  # A variable that layers share is written with each of them.
        seen[name] = bare
        store.add("/".join(path) if name in store or not name else name, (info,), shape, axes)
    return Opened("keras", files, store.tensors, derived=store.derived, hidden=frozenset(store.hidden))


FORMAT = Format(
    name="keras",
    rank=35,
    suffixes=_SUFFIXES,
    find=_find,
    open=_open,
    rows=(
        Row(
            "Keras and TensorFlow: `tf_model.h5`, one file or shards, other `.h5` weights",
            "yes",
            "no: download first",
            "-",
            "HDF5 as Keras writes it: no chunks, no compression. Names become those of PyTorch for models of "
            "transformers; of others they stay.",
        ),
    ),
)
