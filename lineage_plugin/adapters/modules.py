"""What an adapter's weight file holds: factors and vectors by adapted module, and tensors saved whole.

Names are those that PEFT writes: ``base_model.model.`` and the module's path in the base, then the name of a parameter
of the method, which tells the method. A full state dict keeps the adapter's name (``lora_A.default.weight``) and the
wrappers of trainers; both are taken off. Sizes follow from shapes::

    lora_A [r, in]   lora_B [out, r]      DoRA: lora_magnitude_vector [out]
    lora_embedding_A [r, tokens]          lora_embedding_B [width, r]
    ia3_l [out, 1] or [1, in]             hada_w1_a [out, r], hada_w1_b [r, in], ...

Source: what ``save_pretrained`` of PEFT 0.21 writes for each of its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lineage_plugin.adapters.settings import CONFIG_FILE
from lineage_plugin.checkpoint.types import Checkpoint, TensorInfo

__all__ = ["AdaptedModule", "Parts", "SavedTensor", "is_adapter", "parts_of"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one parameter of an adapter tells about the module that it changes; None where it tells nothing.

    Attributes:
        inputs: Input channels, for convolutions with the kernel behind them.
        outputs: Output channels.
        rank: Rank components.
        width: Either of the two: the width of an embedding.
    """

    inputs: Shape | None = None
    outputs: int | None = None
    rank: int | None = None
    width: int | None = None


_Rule = tuple[str, int, Callable[[Shape], Sizes]]


def _down(s: Shape) -> Sizes:
    return Sizes(inputs=s[1:], rank=s[0])


def _up(s: Shape) -> Sizes:
    return Sizes(outputs=s[0], rank=s[1])


def _ia3(s: Shape) -> Sizes:
    if len(s) == 2 and s[1] == 1 and s[0] != 1:
        return Sizes(outputs=s[0])
    return Sizes(inputs=(s[1],)) if len(s) == 2 and s[0] == 1 and s[1] != 1 else Sizes()


def _nothing(s: Shape) -> Sizes:
    return Sizes()


_RULES: Final[Mapping[str, _Rule]] = {
    "lora_A": ("LORA", 2, _down),
    "lora_B": ("LORA", 2, _up),
    "lora_E": ("ADALORA", 2, lambda s: Sizes(rank=s[0])),
    "lora_embedding_A": ("LORA", 2, lambda s: Sizes(inputs=(s[1],), rank=s[0])),
    "lora_embedding_B": ("LORA", 2, _up),
    "lora_magnitude_vector": ("LORA", 1, _nothing),
    "ia3_l": ("IA3", 2, _ia3),
    "hada_w1_a": ("LOHA", 2, _up),
    "hada_w1_b": ("LOHA", 2, _down),
    "hada_w2_a": ("LOHA", 2, _up),
    "hada_w2_b": ("LOHA", 2, _down),
    **{f"hada_t{i}": ("LOHA", 2, _nothing) for i in (1, 2)},
    **dict.fromkeys(("lokr_w1", "lokr_w2", "lokr_t2"), ("LOKR", 2, _nothing)),
    **{f"lokr_w{i}_{side}": ("LOKR", 2, _nothing) for i in (1, 2) for side in "ab"},
    "vera_lambda_b": ("VERA", 1, lambda s: Sizes(outputs=s[0])),
    "vera_lambda_d": ("VERA", 1, lambda s: Sizes(rank=s[0])),
    **dict.fromkeys(("vera_A", "vera_B"), ("VERA", 2, _nothing)),
    **dict.fromkeys(("pvera_A", "pvera_B"), ("PVERA", 2, _nothing)),
    "pvera_lambda_b": ("PVERA", 1, lambda s: Sizes(outputs=s[0])),
    "pvera_lambda_d": ("PVERA", 1, lambda s: Sizes(rank=s[0])),
    "oft_R": ("OFT", 2, _nothing),
    "boft_R": ("BOFT", 4, lambda s: Sizes(inputs=(s[1] * s[2],))),
    "boft_s": ("BOFT", 2, lambda s: Sizes(outputs=s[0])),
    "hra_u": ("HRA", 2, lambda s: Sizes(inputs=(s[0],), rank=s[1])),
    "beft_bias": ("BEFT", 2, lambda s: Sizes(outputs=s[1])),
    "c3a_kernel": ("C3A", 3, lambda s: Sizes(inputs=(s[1] * s[2],), outputs=s[0] * s[2])),
    "deft_P": ("DEFT", 2, _up),
    "deft_R": ("DEFT", 2, _down),
    "delora_A": ("DELORA", 2, _down),
    "delora_B": ("DELORA", 2, _up),
    "delora_lambda": ("DELORA", 1, _nothing),
    "delora_w_norm": ("DELORA", 1, lambda s: Sizes(inputs=(s[0],))),
    "hira_A": ("HIRA", 2, _down),
    "hira_B": ("HIRA", 2, _up),
    "fourierft_spectrum": ("FOURIERFT", 1, _nothing),
    "waveft_spectrum": ("WAVEFT", 1, _nothing),
    "trainable_tokens_delta": ("TRAINABLE_TOKENS", 2, lambda s: Sizes(width=s[1])),
    "adaption_prompt": ("ADAPTION_PROMPT", 3, lambda s: Sizes(width=s[2])),
    "adaption_gate": ("ADAPTION_PROMPT", 1, _nothing),
}
"""For each parameter its method, its least number of dimensions, and what its shape tells."""
_FAMILIES: Final = (
    *("adamss_", "frod_", "glora_", "gralora_", "lily_", "miss_", "osf_", "peanut_", "poly_", "psoft_", "randlora_"),
    *("road_", "shadow_", "shira_", "supertuning_", "tinylora_", "unilora_", "vblora_", "xlora_"),
)
"""Beginnings of the parameters of methods whose shapes say nothing simple."""
_PROMPTS: Final = frozenset({"prompt_embeddings", "prefix_task_cols", "prefix_task_rows"})
_PREFIXES: Final = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module"})
_WRAPPERS: Final = frozenset({"_orig_mod", "_fsdp_wrapped_module", "modules_to_save", "base_layer", "ln_tuning_layers"})


@dataclass(frozen=True, slots=True)
class AdaptedModule:
    """A module of the base that the adapter changes.

    Attributes:
        path: Its name in the base, such as ``model.layers.0.self_attn.q_proj``.
        method: The method, as ``peft_type`` calls it.
        parts: Tensor of the adapter by name of the parameter, such as ``lora_A``.
        inputs: Input channels, for convolutions with the kernel behind them; None when the shapes do not tell.
        outputs: Output channels, or None.
        rank: Rank components, or None.
        width: Width of an embedding, where no more is known.
        nested: How many further adapted parameters of the same module lie inside (``target_parameters``).
        problem: What is wrong with its tensors, as a phrase, or "".
    """

    path: str
    method: str
    parts: Mapping[str, TensorInfo]
    inputs: Shape | None = None
    outputs: int | None = None
    rank: int | None = None
    width: int | None = None
    nested: int = 0
    problem: str = ""

    @property
    def embedding(self) -> bool:
        """Whether it is an embedding: inputs are tokens, and the base stores ``[inputs, outputs]``."""
        return "lora_embedding_A" in self.parts


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """A tensor of the base that the adapter brings whole.

    Attributes:
        info: The tensor in the adapter.
        name: Its name in the base.
        kept: Whether it is the base's own, saved beside the factors (``base_layer``), and not trained.
    """

    info: TensorInfo
    name: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """What an adapter's weight file holds.

    Attributes:
        modules: Adapted modules, by path.
        saved: Tensors saved whole, by name.
        prompts: Learned virtual tokens, by name.
        methods: Methods whose parameters were found.
    """

    modules: tuple[AdaptedModule, ...] = ()
    saved: tuple[SavedTensor, ...] = ()
    prompts: tuple[TensorInfo, ...] = ()
    methods: frozenset[str] = field(default_factory=frozenset)


def is_adapter(checkpoint: Checkpoint) -> bool:
    """Say whether what was opened is an adapter and not a model.

    A folder may hold both; then the model counts, as the weight files that were opened show.

    Args:
        checkpoint: An opened checkpoint.
    """
    names = [name.split(".") for name in checkpoint.tensors]
    if any(_part_at(pieces) >= 0 for pieces in names):
        # Weights of layers beside the factors: a model whose adapter was not merged.
        return not any(pieces[-2:-1] == ["base_layer"] and any(map(str.isdigit, pieces)) for pieces in names)
    files = [name.rpartition("/")[2] for name in checkpoint.weight_files]
    named = bool(files) and all(name.startswith("adapter_model") for name in files)
    return named or (CONFIG_FILE in checkpoint.files and all(name in _PROMPTS for name in checkpoint.tensors))


def parts_of(tensors: Mapping[str, TensorInfo]) -> Parts:
    """Sort the tensors of an adapter by the module that they belong to.

    Args:
        tensors: Tensors by name.

    Returns:
        The parts. Tensors that contradict each other are named in the module's ``problem``.
    """
    found: dict[str, dict[str, TensorInfo]] = {}
    saved: dict[str, SavedTensor] = {}
    prompts: list[TensorInfo] = []
    for name in sorted(tensors):
        info, pieces = tensors[name], name.split(".")
        at = _part_at(pieces)
        if at >= 0:
            # Biases of factors, and numbered pieces of a parameter, say nothing about sizes.
            leaf = pieces[at] if len(pieces) == at + 1 or pieces[-1] == "weight" else ".".join(pieces[at:])
            if len(pieces) == at + 2 and pieces[-1] not in ("weight", "bias") and pieces[at] in _RULES:
                leaf = pieces[at]
            found.setdefault(".".join(_stripped(pieces[:at])), {}).setdefault(leaf, info)
        elif pieces[-1] in _PROMPTS:
            prompts.append(info)
        elif "original_module" not in pieces:
            entry = _saved(pieces, info)
            saved.setdefault(entry.name, entry)
    # Banks that all modules share (VeRA, RandLoRA, ...) stand under no module.
    modules = tuple(_module(path, found[path]) for path in sorted(found) if path)
    return Parts(
        modules,
        tuple(saved[name] for name in sorted(saved)),
        tuple(prompts),
        frozenset(module.method for module in modules),
    )


def _part_at(pieces: list[str]) -> int:
    """Return where the parameter of a method stands in a name, or -1."""
    for at, piece in enumerate(pieces):
        if piece in _RULES or piece.startswith(_FAMILIES):
            return at
    return -1


def _stripped(pieces: list[str]) -> list[str]:
    """Take off what PEFT and trainers put in front of a name of the base."""
    while pieces and pieces[0] in _PREFIXES:
        pieces = pieces[1:]
    if pieces[:2] == ["base_model", "model"]:
        pieces = pieces[2:]
    elif pieces[:1] == ["base_model"]:
        pieces = pieces[1:]
    pieces = [piece for piece in pieces if piece not in ("_orig_mod", "_fsdp_wrapped_module")]
    return pieces[:-1] if pieces[-1:] == ["token_adapter"] else pieces


def _saved(pieces: list[str], info: TensorInfo) -> SavedTensor:
    plain: list[str] = []
    before = ""
    for piece in _stripped(pieces):
        # A full state dict has the adapter's name behind the wrapper.
        if piece not in _WRAPPERS and not (before == "modules_to_save" and piece == "default"):
            plain.append(piece)
        before = piece
    return SavedTensor(info, ".".join(plain), "base_layer" in pieces)


def _module(path: str, parts: dict[str, TensorInfo]) -> AdaptedModule:
    nested = 0
    while path.endswith(".base_layer"):
        path, nested = path.removesuffix(".base_layer"), nested + 1
    sizes: dict[str, object] = {}
    problem, method = "", ""
    for leaf, info in parts.items():
        name = leaf.split(".")[0]
        rule = _RULES.get(name)
        method = (rule[0] if rule else name.split("_")[0].upper()) if method in ("", "LORA") else method
        if rule is None or leaf.endswith(".bias"):
            continue
        if len(info.shape) < rule[1] or 0 in info.shape:
            problem = f"{name} has the shape {_shown(info.shape)}"
            continue
        told = rule[2](info.shape)
        for key in ("inputs", "outputs", "rank", "width"):
            value = getattr(told, key)
            if value is not None and sizes.setdefault(key, value) != value:
                problem = f"its tensors disagree about {key}: {_shown(sizes[key])} and {_shown(value)}"
    if "lora_A" in parts or "lora_B" in parts:
        missing = [name for name in ("lora_A", "lora_B") if name not in parts]
        problem = problem or (f"{missing[0]} is missing" if missing else "")
    if method == "LOKR":
        sizes |= _kronecker(parts)
    return AdaptedModule(path, method, parts, nested=nested, problem=problem, **sizes)  # type: ignore[arg-type]


def _kronecker(parts: Mapping[str, TensorInfo]) -> dict[str, object]:
    """Return the sizes of ``w1 (x) w2``, either of which may be a product of two factors."""
    sides: list[Shape] = []
    for number in (1, 2):
        whole, a, b = (parts.get(f"lokr_w{number}{side}") for side in ("", "_a", "_b"))
        if whole is not None and len(whole.shape) == 2:
            sides.append(whole.shape)
        elif a is not None and b is not None and len(a.shape) == len(b.shape) == 2:
            sides.append((a.shape[0], b.shape[1]))
    if len(sides) < 2:
        return {}
    return {"outputs": sides[0][0] * sides[1][0], "inputs": (sides[0][1] * sides[1][1],)}


def _shown(value: object) -> str:
    return "x".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
