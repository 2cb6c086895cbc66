"""Weights under the names of Meta's and Mistral's own code, presented as transformers has them.

``consolidated.safetensors`` of Mistral and ``consolidated.00.pth`` of Meta name a matrix
``layers.3.attention.wq.weight`` and describe the model in ``params.json``. Renaming is enough except for queries and
keys: there the two channels that the rotary embedding turns together lie side by side, in transformers half a head
apart. Row ``i`` of half ``j`` of a head of ``n`` channels is stored at ``2 i + j`` (the ``permute`` of transformers'
``convert_llama_weights_to_hf.py`` and ``permute_for_rope`` of ``convert_mistral_weights_to_hf.py``, undone row by row).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened, read_config
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.checkpoint.views import Ordered, Plain, axes_order
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["rename_original"]

_PARAMS = "params.json"
_LARGEST_PARAMS = 1 << 20
_LARGEST_NUMBER = 1 << 31

_TOP = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
_INSIDE = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.gate": "block_sparse_moe.gate",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_EXPERT = re.compile(r"feed_forward\.experts\.(\d{1,5})\.(w[123])", re.ASCII)
_LAYER = re.compile(r"^layers\.(\d{1,6})\.(.+)\.(weight|bias)\Z", re.ASCII)
_ROTATED = ("attention.wq", "attention.wk")

_SETTINGS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Settings that are whole numbers, by their names in ``params.json``."""


def rename_original(source: Source, opened: Opened) -> Opened:
    """Present a checkpoint in the names and the row order of transformers.

    Where the number of heads is not known, queries and keys are left as they are.

    Args:
        source: Where it is.
        opened: What its format found, unpacked.

    Returns:
        The same under other names, with a configuration; unchanged when its names are others already.

    Raises:
        UnreadableCheckpoint: When ``params.json`` is damaged.
        HubError: When the Hub does not deliver.
    """
    visible = {name: info for name, info in opened.tensors.items() if name not in opened.hidden}
    visible.update((name, derived.info) for name, derived in opened.derived.items())
    names = {name: new for name in visible if (new := _new_name(name)) is not None}
    if not _is_original(visible) or len(set(names.values())) < len(names) or names.keys() & set(names.values()):
        return opened
    if any(new in visible for new in names.values()):
        return opened
    params = _params(source)
    config = dict(read_config(source) if opened.config is None else opened.config)
    if not config:
        config = _config(params, visible)
    size = _head_size(visible, _whole(params, "n_heads") or _heads(config))
    tensors, derived, hidden = dict(opened.tensors), dict(opened.derived), set(opened.hidden)
    unknown = False
    for name, new in names.items():
        rotated = (match := _LAYER.match(name)) is not None and match[2] in _ROTATED
        inner = opened.derived.get(name)
        if rotated:
            ordered = _unpaired(visible[name], inner, size)
            if ordered is None:
                unknown = True
                continue
            hidden.add(name)
            derived.pop(name, None)
            derived[new] = replace(ordered, info=replace(ordered.info, name=new))
        elif inner is not None:
            derived[new] = replace(derived.pop(name), info=replace(inner.info, name=new))
        else:
            tensors[new] = replace(tensors.pop(name), name=new)
    notes = [*opened.notes, "The tensors are named as Meta and Mistral do; they were read as transformers has them."]
    if unknown:
        notes.append(f"Queries and keys stayed as they are stored: {_PARAMS} does not tell the heads, or tells others.")
    return replace(
        opened,
        tensors=tensors,
        derived=derived,
        hidden=frozenset(name for name in hidden if name in tensors),
        config=config,
        notes=tuple(notes),
    )


def _is_original(tensors: Mapping[str, TensorInfo]) -> bool:
    """Return whether the names are those of Meta's code; a few of them are used by others, too."""
    if "tok_embeddings.weight" not in tensors:
        return False
    layers = {match[1] for name in tensors if (match := _LAYER.match(name)) and match[2] == "attention.wq"}
    return any(f"layers.{layer}.attention_norm.weight" in tensors for layer in layers)


def _new_name(name: str) -> str | None:
    match = _LAYER.match(name)
    if match is None:
        stem, _, leaf = name.rpartition(".")
        return f"{_TOP[stem]}.{leaf}" if stem in _TOP and leaf in ("weight", "bias") else None
    inside = _INSIDE.get(match[2])
    if inside is None and (expert := _EXPERT.fullmatch(match[2])) is not None:
        inside = f"block_sparse_moe.experts.{expert[1]}.{expert[2]}"
    return None if inside is None else f"model.layers.{match[1]}.{inside}.{match[3]}"


def _head_size(tensors: Mapping[str, TensorInfo], heads: int | None) -> int | None:
    """Return the channels of a head, which all queries have the same number of; None when that is not certain."""
    rows = {
        info.shape[0]
        for name, info in tensors.items()
        if info.shape and (match := _LAYER.match(name)) is not None and match[2] == _ROTATED[0]
    }
    if heads is None or len(rows) != 1 or not (only := rows.pop()) or only % (2 * heads):
        return None
    return only // heads


def _unpaired(info: TensorInfo, inner: Derived | None, size: int | None) -> Derived | None:
    """Return queries or keys in the row order of transformers; None when their rows are no whole heads."""
    if size is None or not info.shape or not info.shape[0] or info.shape[0] % size:
        return None
    height, width = info.shape[0], prod(info.shape[1:])
    matrix = Plain(info.name, height, width) if inner is None else inner.matrix
    if not width or matrix.height != height:
        return None
    return Derived(info, Ordered(matrix, axes_order((height // size, 2, size // 2), (0, 2, 1))))


def _params(source: Source) -> Mapping[str, object]:
    """Return ``params.json``, or an empty mapping."""
    data = source.data(_PARAMS, _LARGEST_PARAMS) if _PARAMS in source.files else None
    if data is None:
        return {}
    where = f"{source.where}/{_PARAMS}"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableCheckpoint(where, "this is not valid JSON", "Get the file again.") from None
    if not isinstance(document, dict):
        raise UnreadableCheckpoint(where, "this is not a JSON object", "Get the file again.")
    inner = document.get("model")
    return inner if isinstance(inner, dict) else document


def _whole(params: Mapping[str, object], name: str) -> int | None:
    value = params.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST_NUMBER:
        return value
    return None


def _heads(config: Mapping[str, object]) -> int | None:
    inner = config.get("text_config")
    return _whole(inner if isinstance(inner, Mapping) else config, "num_attention_heads")


def _config(params: Mapping[str, object], tensors: Mapping[str, TensorInfo]) -> dict[str, object]:
    """Return what ``config.json`` of transformers would say, as far as ``params.json`` tells."""
    numbers = {new: number for old, new in _SETTINGS.items() if (number := _whole(params, old)) is not None}
    if "num_attention_heads" not in numbers:
        return {}
    numbers.setdefault("num_key_value_heads", numbers["num_attention_heads"])
    whole: dict[str, object] = dict(numbers)
    # Meta's settings tell the width of the MLP as a multiple, Mistral's as a number; the computation is the same.
    whole["model_type"] = "mistral" if "hidden_dim" in params else "llama"
    if any(_EXPERT.search(name) for name in tensors):
        whole["model_type"] = "mixtral"
    for old, new in (("rope_theta", "rope_theta"), ("norm_eps", "rms_norm_eps")):
        value = params.get(old)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            whole[new] = value
    whole["tie_word_embeddings"] = "output.weight" not in tensors
    return whole
