"""Fairseq layout of encoders and decoders: Whisper, BART, OPT and their relatives."""

from __future__ import annotations

from lineage_plugin.anatomy.attention import CROSS
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import AttentionNames, Task
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.stream import Norms, StreamLayout

__all__ = ["FAMILY", "SELF"]


def _names(parent: str) -> AttentionNames:
    modules = ("q_proj", "k_proj", "v_proj", "out_proj")
    q, k, v, o = (f"{parent}.{module}" for module in modules)
    return AttentionNames(q, k, v, o, parent, frozenset(modules))


SELF = _names("self_attn")
_CROSS = _names("encoder_attn")
_TYPES = frozenset(
    {
        "bart",
        "biogpt",
        "blenderbot",
        "blenderbot_small",
        "m2m_100",
        "marian",
        "mbart",
        "opt",
        "pegasus",
        "whisper",
    }
)


def _claims(stack: Stack) -> bool:
    return stack.has(SELF.q + ".weight", SELF.o + ".weight", "fc1.weight", "fc2.weight")


def _analyse(task: Task, layer: Layer) -> None:
    side = "decoder_attention_heads" if "decoder" in task.stack.prefix else "encoder_attention_heads"
    heads = (side, "num_attention_heads", "attention_heads")
    task.separate_attention(layer, SELF, heads)
    task.separate_attention(layer, _CROSS, heads, part=CROSS)
    if not task.dense_mlp(layer, "fc1", "fc2"):
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")


def _norms(task: Task) -> Norms | None:
    # Encoder and decoder have a stream each, joined by shared embeddings; and some add fixed sinusoids. OPT has one
    # stream, learned positions, and (but for one size) norms before the blocks.
    settings = task.settings
    if settings.model_type != "opt" or settings.flag("do_layer_norm_before", True) is not True:
        return None
    return Norms("layer", attention="self_attn_layer_norm", mlp="final_layer_norm", bias=True)


FAMILY = Family(
    name="fairseq",
    claims=_claims,
    analyse=_analyse,
    types=_TYPES,
    stream=StreamLayout(
        embedding="embed_tokens",
        blocks=frozenset({"self_attn", "fc1", "fc2"}),
        norms=_norms,
        unembedding=("lm_head",),
        final="final_layer_norm",
        symmetry="swap (OPT)",
    ),
    every_stack=True,
    models="Whisper, BART, mBART, Marian, Pegasus, M2M-100, OPT",
    units=(("mlp", "swap"), ("value", "swap, flip"), ("query-key", "swap, flip")),
    notes="Decoder layers are numbered after the encoder's; cross-attention is part 2 of its layer.",
)
