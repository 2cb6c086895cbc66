"""What a GGUF file says about its model: a configuration like ``config.json``, and claims for the card.

Keys are those of the specification (``docs/gguf.md`` of ggml); names of settings are those of transformers. Nothing
of it is trusted: later stages hold every number against the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lineage_plugin.checkpoint.gguf_files.names import ARCHITECTURES
from lineage_plugin.text import one_line

__all__ = ["claims", "per_layer", "settings"]

_SETTINGS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "rope.freq_base": "rope_theta",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
"""Settings whose meaning is the same."""
_CLAIMED = ("general.", "quantize.", "split.")
_OTHERS = frozenset({"tokenizer.ggml.model", "tokenizer.ggml.pre"})
_MOST_CLAIMS = 512
_MOST_ITEMS = 64
_LONGEST = 500


def settings(
    architecture: str, values: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, object]:
    """Return what stands in for ``config.json``.

    Args:
        architecture: ``general.architecture``.
        values: Key-value pairs.
        shapes: Shapes of the tensors by their names in the file.
    """
    known = ARCHITECTURES.get(architecture)
    config: dict[str, object] = {"model_type": _model_type(architecture, values)}
    for key, name in _SETTINGS.items():
        value = values.get(f"{architecture}.{key}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            config[name] = value
        elif isinstance(value, tuple) and len(set(value)) == 1:
            config[name] = value[0]
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if isinstance(heads, int):
        config.setdefault("num_key_value_heads", heads)
    size = values.get(f"{architecture}.attention.key_length")
    if not isinstance(size, int) and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        size = hidden // heads
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        config["head_dim"] = size
        turning = values.get(f"{architecture}.rope.dimension_count")
        if isinstance(turning, int) and 0 < turning < size:
            config["partial_rotary_factor"] = _share(turning, size)
    tokens = shapes.get("token_embd.weight", ())
    if len(tokens) == 2:
        config.setdefault("vocab_size", tokens[0])
    if known is not None:
        config["tie_word_embeddings"] = "output.weight" not in shapes
    return config


def _model_type(architecture: str, values: Mapping[str, object]) -> str:
    """Return the model type; one architecture of llama.cpp may stand for several."""
    if architecture == "llama" and values.get("llama.expert_count"):
        return "mixtral"
    if architecture == "olmo2" and values.get("olmo2.attention.sliding_window"):
        return "olmo3"
    if architecture == "mistral3" and values.get("mistral3.attention.temperature_scale"):
        return "ministral3"
    known = ARCHITECTURES.get(architecture)
    return known.model_type if known is not None else one_line(architecture, 40)


def _share(turning: int, size: int) -> float:
    """Return the rotary share from which ``int(size * share)`` gives back the number of turning channels."""
    share = turning / size
    return share if int(size * share) == turning else math.nextafter(share, 1.0)


def per_layer(values: Mapping[str, object], key: str, layer: int | None) -> int | None:
    """Return a positive number that is given once for all layers or in a list by layer; None when it is neither."""
    value = values.get(key)
    if isinstance(value, Sequence) and not isinstance(value, str) and layer is not None:
        value = value[layer] if layer < len(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def claims(values: Mapping[str, object]) -> dict[str, object]:
    """Return what the file says about its origin, licence and quantisation, fit to be shown.

    Args:
        values: Key-value pairs.

    Returns:
        Text, numbers and short lists of them under the keys of the file; text is one line each.
    """
    found: dict[str, object] = {}
    for key, value in values.items():
        if (key.startswith(_CLAIMED) or key in _OTHERS) and len(found) < _MOST_CLAIMS:
            items = [_shown(item) for item in value[:_MOST_ITEMS]] if isinstance(value, tuple) else _shown(value)
            found[one_line(key, 120)] = items
    return found


def _shown(value: object) -> object:
    return one_line(value, _LONGEST) if isinstance(value, str) else value
