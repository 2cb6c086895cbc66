"""A dense gated model made a mixture of experts: Llama to the Mixtral layout, Qwen2 to that of Qwen2-MoE."""

from __future__ import annotations

import numpy as np

from benchmarks.derivations.layouts import Array, Block, Model, fresh

__all__ = ["split", "upcycled"]

EXPERTS = 4
SHARED = 64
"""Units of the shared expert of Qwen2-MoE."""

_MLP = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
_MIXTRAL = ("w1.weight", "w3.weight", "w2.weight")

Expert = tuple[Array, Array, Array]
"""Gate and up, ``[units, width]``, and down, ``[width, units]``."""


def upcycled(model: Model, noise: float, rng: np.random.Generator) -> Model:
    """Every expert a noisy copy of the dense MLP (Komatsuzaki et al. 2023, "Sparse upcycling").

    Args:
        model: A Llama or Qwen2 model.
        noise: Standard deviation of the noise, as a share of each matrix's root mean square.
        rng: Where noise, router and shared expert come from.

    Returns:
        The mixture; two of its four experts are active. A shared expert, where the layout has one, is new.
    """

    def copies(block: Block) -> list[Expert]:
        def noisy(a: Array) -> Array:
            return a + noise * np.sqrt(np.mean(a**2)) * rng.standard_normal(a.shape, dtype=np.float32)

        gate, up, down = (block[name] for name in _MLP)
        made = [(noisy(gate), noisy(up), noisy(down)) for _ in range(EXPERTS)]
        new = fresh(block, rng, outputs=0.1)
        gate, up, down = (new[name] for name in _MLP)
        return [*made, (gate[:SHARED], up[:SHARED], down[:, :SHARED])]

    return _mixture(model, [copies(block) for block in model.blocks()], rng)


def split(model: Model, rng: np.random.Generator) -> Model:
    """Every hidden unit in one expert, at random: fine-grained experts that hold disjoint parts of the dense MLP.

    Args:
        model: A Llama or Qwen2 model.
        rng: Where partition and router come from.

    Returns:
        The mixture; two of its four experts are active, and what they write is scaled up to make good for the others.
    """
    shared = SHARED if model.config["model_type"] == "qwen2" else 0
    scale = np.float32(2.0)

    def parts(block: Block) -> list[Expert]:
        gate, up, down = (block[name] for name in _MLP)
        order = rng.permutation(len(gate))
        chosen = [*np.split(order[shared:], EXPERTS), order[:shared]]
        return [(gate[p], up[p], scale * down[:, p]) for p in chosen]

    return _mixture(model, [parts(block) for block in model.blocks()], rng)


def _mixture(model: Model, experts: list[list[Expert]], rng: np.random.Generator) -> Model:
    """Put experts (the shared one last) in place of the MLPs."""
    mixtral, width = model.config["model_type"] == "llama", model.size("width")
    place = "block_sparse_moe" if mixtral else "mlp"
    tensors = {name: a for name, a in model.tensors.items() if not name.endswith(_MLP)}
    for number, (*routed, shared) in enumerate(experts):
        prefix = f"{model.layout.prefix}{number}.{place}"
        tensors[f"{prefix}.gate.weight"] = 0.02 * rng.standard_normal((EXPERTS, width), dtype=np.float32)
        for index, expert in enumerate(routed):
            names = _MIXTRAL if mixtral else [name.removeprefix("mlp.") for name in _MLP]
            tensors.update({f"{prefix}.experts.{index}.{n}": a for n, a in zip(names, expert, strict=True)})
        if not mixtral:
            tensors.update({f"{prefix}.shared_expert.{n[4:]}": a for n, a in zip(_MLP, shared, strict=True)})
            tensors[f"{prefix}.shared_expert_gate.weight"] = np.zeros((1, width), np.float32)
    units = len(experts[0][0][0])
    config = dict(model.config) | {"num_experts_per_tok": 2, "output_router_logits": True}
    if mixtral:
        dropped = ("attention_bias", "mlp_bias", "pretraining_tp")
        config = {k: v for k, v in config.items() if k not in dropped}
        config |= {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "intermediate_size": units}
        return Model(tensors, config | {"num_local_experts": EXPERTS, "sliding_window": None})
    config |= {"model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "num_experts": EXPERTS}
    config |= {"moe_intermediate_size": units, "shared_expert_intermediate_size": SHARED, "norm_topk_prob": True}
    return Model(tensors, config | {"decoder_sparse_step": 1, "mlp_only_layers": []})
