"""Repositories that hold several models: diffusers pipelines and the modules of sentence-transformers.

A pipeline has ``model_index.json`` at the top, an object of component name to ``[library, class]`` (``[null, null]``
for one that was left out), and one folder a component with files and a ``config.json`` of its own::

    unet/  transformer/  transformer_2/  vae/  text_encoder/  text_encoder_2/  prior/

Sentence-transformers has ``modules.json``, a list of ``{"idx": 0, "name": "0", "path": "", "type": ...}``. The first
module is the encoder, at the top or in ``0_Transformer/``; few of the others hold weights (``2_Dense/``).

The tensors of a component are named after it, as ``unet.conv_in.weight``; those of an encoder keep their names, so that
it is comparable with its base. The configuration is that of the encoder, or what ``model_index.json`` says, with one
section a component. (Layouts: the writers of diffusers 0.42 and sentence-transformers 6.2.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from lineage_plugin.checkpoint.layout import Layout, Part
from lineage_plugin.checkpoint.names import is_plain_path, shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import read_config
from lineage_plugin.checkpoint.variants import choose_files
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["config_of", "find_parts", "find_weights", "keep_named"]

_PIPELINE = "model_index.json"
_MODULES = "modules.json"
_MODULE = re.compile(r"^(?:\w+_)?(?P<number>\d{1,3})_\w+\Z", re.ASCII)
"""Folder of a module: its number and class, behind the name of the route where there are several."""
_ROUTERS = ("Router", "Asym")
_AT_THE_TOP = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_MOST_PARTS = 64
_LARGEST_CONFIGS = 8 << 20
"""Bytes of the configurations of all components together."""
_LARGEST_GUIDE = 1 << 20


def find_weights(names: Collection[str], *, where: str) -> Layout | None:
    """Choose the weight files among the files of a model: the components of a pipeline, or the files at the top.

    Args:
        names: All files, with forward slashes.
        where: The model, for messages.

    Returns:
        Where they are; None when there are none.

    Raises:
        UnreadableCheckpoint: When it is not certain which ones count.
    """
    layout = find_parts(names, where=where)
    return layout if layout is not None else choose_files([name for name in names if "/" not in name], where=where)


def find_parts(names: Collection[str], *, where: str) -> Layout | None:
    """Find the components of a pipeline, or the modules of a sentence-transformers model.

    Args:
        names: All files, with forward slashes.
        where: The model, for messages.

    Returns:
        The components that hold safetensors weights, as far as names tell; None when this is neither, or none does.

    Raises:
        UnreadableCheckpoint: When a component lacks shards, or there are too many.
    """
    if _PIPELINE not in names and _MODULES not in names:
        return None
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        if "/" not in folder:
            folders.setdefault(folder, []).append(file)
    if _PIPELINE in names:
        parts, notes = _parts({f: files for f, files in folders.items() if f}, where)
        return Layout(None, (), tuple(notes), _PIPELINE, tuple(parts)) if parts else None
    parts, notes = _parts({f: files for f, files in folders.items() if not f or _MODULE.match(f)}, where)
    first = [part for part in parts if not part.folder] or [part for part in parts if _number(part) == 0]
    if not first or (len(parts) == 1 and not first[0].folder):
        # The encoder is stored in another format, or it is alone at the top and a plain model.
        return None
    if len(first) == 1:
        parts = [replace(part, prefix="") if part is first[0] else part for part in parts]
    return Layout(None, (), tuple(notes), _MODULES, tuple(parts))


def _parts(folders: Mapping[str, list[str]], where: str) -> tuple[list[Part], list[str]]:
    parts: list[Part] = []
    notes: list[str] = []
    for folder in sorted(folders):
        choice = choose_files(folders[folder], where=f"{where}/{shown(folder)}" if folder else where)
        if choice is None:
            continue
        start = f"{folder}/" if folder else ""
        index = None if choice.index is None else start + choice.index
        parts.append(Part(folder, start, index, tuple(start + file for file in choice.files)))
        notes += [f"{folder or 'Top'}: {note}" for note in choice.notes]
        if len(parts) > _MOST_PARTS:
            raise UnreadableCheckpoint(where, f"more than {_MOST_PARTS} folders hold weights", "Give one of them.")
    return parts, notes


def _number(part: Part) -> int | None:
    match = _MODULE.match(part.prefix)
    return int(match["number"]) if match is not None else None


def keep_named(source: Source, layout: Layout) -> Layout:
    """Keep the components that the model's own list names.

    Args:
        source: The model.
        layout: What :func:`find_parts` found.

    Raises:
        UnreadableCheckpoint: When the list cannot be read, or names none of the folders that hold weights.
        HubError: When the Hub does not deliver.
    """
    if layout.guide is None:
        return layout
    where = f"{source.where}/{layout.guide}"
    document = _guide(source, layout.guide, where)
    if layout.guide == _PIPELINE and isinstance(document, dict):
        named = {key for key, value in document.items() if isinstance(value, list) and any(value)}
    elif layout.guide == _MODULES and isinstance(document, list):
        modules = [module for module in document if isinstance(module, dict)]
        named = {path.strip("/") for module in modules if isinstance(path := module.get("path"), str)}
        if any(str(module.get("type", "")).endswith(_ROUTERS) for module in modules):
            # A router names the modules of its routes in a list of its own.
            named |= {part.folder.rstrip("/") for part in layout.parts}
    else:
        raise UnreadableCheckpoint(where, "this is no list of components", "Get the file again.")
    parts = tuple(part for part in layout.parts if part.folder.rstrip("/") in named)
    if not parts:
        raise UnreadableCheckpoint(where, "none of the folders that hold weights is named in it", "Give one of them.")
    top = sorted(name for name in source.files if name in _AT_THE_TOP)
    if top and all(part.folder for part in parts):
        # Loaders that do not look at the list take the top.
        raise UnreadableCheckpoint(
            source.where,
            f"there are weights at the top ({top[0]}) and in the folders that {layout.guide} names",
            f"Give the one that is meant: '{shown(f'{source.where}/{top[0]}', 160)}', or a folder.",
        )
    notes = list(layout.notes)
    held = {part.folder.rstrip("/") for part in layout.parts}
    aside = [part.folder.rstrip("/") for part in layout.parts if part not in parts]
    if aside:
        notes.append(f"{_quoted(aside)} left aside: {layout.guide} does not name {'them' if aside[1:] else 'it'}.")
    pickled = {file.partition("/")[0] for file in source.files if _is_pickle(file)}
    bare = sorted((named - held) & pickled)
    if bare:
        notes.append(f"{_quoted(bare)} left aside: there are no safetensors weights in {'them' if bare[1:] else 'it'}.")
    return replace(layout, parts=parts, notes=tuple(notes))


def _guide(source: Source, name: str, where: str) -> object:
    data = source.data(name, _LARGEST_GUIDE)
    if data is None or source.files[name].size > _LARGEST_GUIDE:
        raise UnreadableCheckpoint(where, f"the file is gone or larger than {_LARGEST_GUIDE} bytes", "Get it again.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableCheckpoint(where, "this is not valid JSON", "Get the file again.") from None


def _is_pickle(name: str) -> bool:
    return name.lower().endswith((".bin", ".pt", ".pth", ".ckpt"))


def _quoted(names: list[str]) -> str:
    more = ", ..." if names[3:] else ""
    return ", ".join(f"'{shown(name, 60)}'" for name in names[:3]) + more + (" were" if names[1:] else " was")


def config_of(source: Source, layout: Layout) -> dict[str, object]:
    """Return the configuration of a model of several parts: one section a part, beside that of the encoder.

    Args:
        source: The model.
        layout: Its parts.

    Raises:
        UnreadableCheckpoint: When a part's ``config.json`` is damaged.
        HubError: When the Hub does not deliver.
    """
    files = [f"{part.folder}config.json" for part in layout.parts]
    if sum(source.files[file].size for file in files if file in source.files) > _LARGEST_CONFIGS:
        raise UnreadableCheckpoint(source.where, f"the components' configurations exceed {_LARGEST_CONFIGS} bytes")
    found = source.each(lambda file: read_config(source, file), files)
    whole: dict[str, object] = {}
    for part, config in zip(layout.parts, found, strict=True):
        if not part.prefix:
            whole.update(config)
    for part, config in zip(layout.parts, found, strict=True):
        if part.prefix and config:
            whole.setdefault(part.prefix, config)
    # Packed weights are described where they lie; the schemes look at the top.
    for config in found:
        if isinstance(config.get("quantization_config"), dict):
            whole.setdefault("quantization_config", config["quantization_config"])
    if layout.guide == _PIPELINE:
        document = _guide(source, _PIPELINE, f"{source.where}/{_PIPELINE}")
        name = document.get("_class_name") if isinstance(document, dict) else None
        if isinstance(name, str) and is_plain_path(name):
            whole.setdefault("_class_name", name)
    return whole
