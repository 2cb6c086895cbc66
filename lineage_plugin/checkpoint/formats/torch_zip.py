"""PyTorch: ``.bin``, ``.pt``, ``.pth`` and ``.ckpt``, in one file or shards, read without running the pickle."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from types import MappingProxyType

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.header import Header
from lineage_plugin.checkpoint.layout import NOT_WEIGHTS, Layout, TensorLimit, join_headers, read_index
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["FORMAT"]

_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
_DISTRIBUTED = ".distcp"
_STANDARD = ("pytorch_model.bin", "diffusion_pytorch_model.bin", "open_clip_pytorch_model.bin")
_ADAPTER = "adapter_model.bin"
_BESIDE = re.compile(
    r"^(openvino_.*|ggml-.*|params_shard_\d+|.*(tokenizer|vocab|merges).*|.*optim(izer)?_?(state)?s?"
    r"|.*_optim_states|random_states_\d+|.*_fp32_shard_\d+|events\..*)\.(bin|pt|pth|ckpt)\Z",
    re.IGNORECASE,
)
"""Files with a suffix of PyTorch that are none, or hold no weights."""
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(bin|pt|pth|ckpt)\Z", re.ASCII)
_SLICE = re.compile(r"^(consolidated\.\d{2}\.pth|mp_rank_\d{2}_model_states\.pt)\Z", re.ASCII)
_MOST_FILES = 64
_NOTE = (
    "The weights are a pickle: it was read without running it, but a program that loads it may run what it holds; "
    "safetensors is the safe format."
)


def _find(names: Collection[str], where: str) -> Layout | None:
    """Choose the files: the standard names first, then whatever is there; their tensors must not collide."""
    root = sorted(name for name in names if "/" not in name)
    found = [n for n in root if n.lower().endswith(_SUFFIXES) and not NOT_WEIGHTS.match(n) and not _BESIDE.match(n)]
    indices = [n for n in root if n.lower().endswith(tuple(f"{suffix}.index.json" for suffix in _SUFFIXES))]
    for name in _STANDARD:
        if name in found:
            return Layout(None, (name,))
        if f"{name}.index.json" in indices:
            return Layout(f"{name}.index.json", ())
    if len(indices) == 1:
        return Layout(indices[0], ())
    slices = [n for n in found if _SLICE.match(n)]
    if len(slices) > 1:
        raise UnsupportedEncoding(
            where,
            f"'{shown(slices[0], 60)}' and {len(slices) - 1} more hold slices of each tensor (tensor parallel)",
            "Give the model as transformers has it, in one piece.",
        )
    loose = [n for n in found if n != _ADAPTER] or found
    if len(loose) > _MOST_FILES:
        raise UnreadableCheckpoint(
            where, f"{len(loose)} weight files and no index: not clear which belong together", "Give one of the files."
        )
    _check_numbering(loose, where)
    if loose:
        return Layout(None, tuple(loose))
    parts = [n for n in root if n.endswith(_DISTRIBUTED)]
    return Layout(None, (parts[0],)) if parts else None


def _check_numbering(names: list[str], where: str) -> None:
    """Refuse an incomplete set of ``stem-00001-of-00003.bin``."""
    there = set(names)
    for name in names:
        match = _SHARD.match(name)
        for number in range(1, min(int(match["count"]), _MOST_FILES + 1) + 1) if match else ():
            missing = f"{match['stem']}-{number:05d}-of-{match['count']}.{match[4]}" if match else name
            if missing not in there:
                raise UnreadableCheckpoint(where, f"the shard '{shown(missing)}' is missing", "Get the missing file.")


def _open(source: Source, layout: Layout) -> Opened:
    # Most models are opened in another format, and need not wait for this one's parser.
    from lineage_plugin.checkpoint.pickles.states import unwrap_names
    from lineage_plugin.checkpoint.pickles.tensors import File, read_file

    weight_map, files = None, layout.files
    if layout.index is not None:
        weight_map = read_index(source, layout.index, _SUFFIXES)
        files = tuple(sorted(set(weight_map.values())))
    if any(name.lower().endswith(_DISTRIBUTED) for name in files):
        raise UnsupportedEncoding(
            source.where,
            "this is a folder of torch.distributed.checkpoint",
            "Convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt.",
        )
    limit = TensorLimit(source.where)

    def file_of(name: str) -> File:
        file = read_file(source, name, len(files))
        limit.add(len(file.stored) + len(file.derived))
        return file

    found = dict(zip(files, source.each(file_of, files), strict=True))
    headers: dict[str, Header] = {}
    made: dict[str, Derived] = {}
    parts: dict[str, TensorInfo] = {}
    notes = [_NOTE]
    for name, file in found.items():
        seen = {**file.stored, **{n: derived.info for n, derived in file.derived.items()}}
        headers[name] = Header(MappingProxyType(seen), MappingProxyType({}), 0)
        made.update(file.derived)
        parts.update(file.parts)
        notes += [note for note in file.notes if note not in notes]
    joined = join_headers(headers, weight_map, where=source.where)
    plain, remarks = unwrap_names(list(joined))
    tensors = {plain[n]: replace(info, name=plain[n]) for n, info in joined.items() if n not in made}
    derived = {plain[n]: replace(one, info=replace(one.info, name=plain[n])) for n, one in made.items()}
    return Opened("pytorch", files, {**tensors, **parts}, derived, frozenset(parts), notes=(*notes, *remarks))


FORMAT = Format(
    name="pytorch",
    rank=20,
    suffixes=(*_SUFFIXES, _DISTRIBUTED),
    find=_find,
    open=_open,
    rows=(
        Row(
            "PyTorch since 1.6: `.bin`, `.pt`, `.pth`, `.ckpt`; one file, shards, training checkpoints",
            "yes",
            "end of the file and `data.pkl`, then the rows",
            "-",
            "The pickle is read, never run; what `weights_only=True` refuses is refused (LIN301). Transposed views are "
            "read by columns.",
        ),
        Row(
            "PyTorch before 1.6 (plain pickles), TorchScript, `torch.package`",
            "no",
            "no",
            "-",
            "Refused (LIN301), with what to do.",
        ),
        Row(
            "`torch.distributed.checkpoint` (`.distcp`), tensor-parallel slices",
            "no",
            "no",
            "-",
            "Refused (LIN303), with the conversion.",
        ),
    ),
)
