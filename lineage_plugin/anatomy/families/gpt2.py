"""GPT-2 layout: ``Conv1D`` weights ``[in, out]``, query, key and value in one of them, learned positions."""

from __future__ import annotations

from lineage_plugin.anatomy.channels import columns, rows
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.stream import Norms, StreamLayout

__all__ = ["FAMILY"]

_KNOWN = frozenset({"c_attn", "c_proj", "bias", "masked_bias"})


def _claims(stack: Stack) -> bool:
    for layer in stack.layers:
        fused = layer.tensors.get("attn.c_attn.weight")
        # Linear weights of the same name (GPTBigCode) stand the other way round.
        if fused is not None and len(fused.shape) == 2 and fused.shape[1] == 3 * fused.shape[0]:
            return True
    return False


def _analyse(task: Task, layer: Layer) -> None:
    _attention(task, layer)
    first, second = layer.matrix("mlp.c_fc.weight"), layer.matrix("mlp.c_proj.weight")
    if first is None or second is None:
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")
    else:
        task.mlp(layer, columns("fc1", first), rows("fc2", second))


def _attention(task: Task, layer: Layer) -> None:
    fused, output = layer.matrix("attn.c_attn.weight"), layer.matrix("attn.c_proj.weight")
    if not layer.modules("attn") <= _KNOWN or fused is None or output is None or fused.shape[1] != 3 * output.shape[0]:
        task.leave_out("value and query-key", layer, "its attention has other tensors than the known layouts")
        return
    if not task.knows_type(layer):
        return
    count, lines = output.shape[0], columns("q", fused)
    q, k, v = (lines.part(role, at * count, count) for at, role in enumerate("qkv"))
    task.attention(layer, q, k, v, rows("o", output), ("n_head", "num_attention_heads"))


def _norms(task: Task) -> Norms | None:
    # Positions are learned rows added to the stream: free to change along with it.
    return Norms("layer", attention="ln_1", mlp="ln_2", bias=True) if task.settings.model_type == "gpt2" else None


FAMILY = Family(
    name="gpt2",
    claims=_claims,
    analyse=_analyse,
    types=frozenset({"gpt2"}),
    stream=StreamLayout(
        embedding="wte", blocks=frozenset({"attn", "mlp"}), norms=_norms, unembedding=("lm_head",), final="ln_f"
    ),
    rank=1,
    models="GPT-2, DistilGPT2, DialoGPT",
    units=(("mlp", "swap"), ("value", "swap, flip"), ("query-key", "swap, flip")),
    notes="Weights are stored transposed.",
)
