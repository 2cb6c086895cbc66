"""BERT layout, and DistilBERT's names for the same graph."""

from __future__ import annotations

from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import AttentionNames, Task
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.stream import Norms, StreamLayout

__all__ = ["FAMILY"]

_BERT = AttentionNames(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.self",
    frozenset({"query", "key", "value"}),
)
_DISTILBERT = AttentionNames(
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "attention",
    frozenset({"q_lin", "k_lin", "v_lin", "out_lin"}),
)
_TYPES = frozenset({"bert", "camembert", "data2vec_text", "distilbert", "electra", "ernie", "roberta", "xlm_roberta"})


def _claims(stack: Stack) -> bool:
    return stack.has(_BERT.q + ".weight", "intermediate.dense.weight") or stack.has(_DISTILBERT.q + ".weight")


def _analyse(task: Task, layer: Layer) -> None:
    kind = task.settings.text("position_embedding_type")
    # Relative and rotary positions enter the scores channel by channel.
    positions = None if kind in (None, "absolute") else "positions enter its scores"
    names = _DISTILBERT if _DISTILBERT.q + ".weight" in layer.tensors else _BERT
    task.separate_attention(layer, names, ("num_attention_heads", "n_heads"), positions=positions)
    if not (
        task.dense_mlp(layer, "intermediate.dense", "output.dense") or task.dense_mlp(layer, "ffn.lin1", "ffn.lin2")
    ):
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")


def _norms(task: Task) -> Norms | None:
    settings = task.settings
    if settings.model_type not in _TYPES or settings.flag("sinusoidal_pos_embds", False) is not False:
        return None
    # The norms stand in the stream itself, so their gains act on the skip connection, too, and cannot be moved.
    if settings.model_type == "distilbert":
        return Norms("layer", after_attention="sa_layer_norm", after_mlp="output_layer_norm", bias=True, foldable=False)
    return Norms(
        "layer",
        after_attention="attention.output.LayerNorm",
        after_mlp="output.LayerNorm",
        bias=True,
        foldable=False,
    )


FAMILY = Family(
    name="bert",
    claims=_claims,
    analyse=_analyse,
    types=_TYPES,
    stream=StreamLayout(
        embedding="embeddings.word_embeddings",
        blocks=frozenset({"attention", "intermediate", "output", "ffn"}),
        norms=_norms,
    ),
    every_stack=True,
    models="BERT, RoBERTa, XLM-RoBERTa, ELECTRA, CamemBERT, DistilBERT",
    units=(("mlp", "swap"), ("value", "swap, flip"), ("query-key", "swap, flip")),
    notes="Query-key units need absolute positions. Cross-attention is not used.",
)
