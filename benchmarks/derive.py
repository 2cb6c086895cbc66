"""Every kind of derivation the zoo holds: how it is made, and what is true of it.

Each entry of :data:`DERIVATIONS` makes a changed model from trained ones as a pure function of their weights.
Fine-tunes and adapters, which are training themselves, name their recipe instead. :mod:`benchmarks.evidence_lab` writes
the result and trains it further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.derivations import depth, experts, merging, values, vocabulary, width
from benchmarks.derivations.layouts import LAYOUTS, Model
from benchmarks.derivations.vocabulary import BYTES, Tokens
from benchmarks.training import Recipe

__all__ = ["DERIVATIONS", "Derivation", "Derived", "Sources"]

GATED = ("llama", "qwen2")
ALL = ("llama", "gpt2", "qwen2", "gpt_neox")
SCRUBS = ("signs", "permute", "residual", "rotate", "value-mix", "rescale")

Layers = list[int | None]


@dataclass(frozen=True, slots=True)
class Sources:
    """The trained models of one family that derivations start from."""

    base: Model
    other: Model
    child_docs: Model
    child_other: Model


@dataclass(frozen=True, slots=True)
class Derived:
    """A changed model and the truth about it.

    Attributes:
        model: The model.
        layers: For each role of :class:`Sources` it descends from, the block there that each of its blocks comes from
            (None: from elsewhere).
        share: For the same roles, the share of the role's block weights that is left in it, by structure alone.
        tokens: What its token rows stand for.
        truth: Anything else that is known: ``weights`` and ``fitted`` of a merge, ``scrubs``.
    """

    model: Model
    layers: Mapping[str, Layers]
    share: Mapping[str, float]
    tokens: Tokens = BYTES
    truth: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[Sources, np.random.Generator], Derived]


@dataclass(frozen=True, slots=True)
class Derivation:
    """One kind.

    Attributes:
        name: Its name in the zoo.
        kinds: What the tool may call it.
        closest: Role of its closest parent; None when two are equally close.
        make: How it is made; None when it is trained.
        recipe: How it is trained, when it is.
        rank: Rank of the update, when what is trained is an adapter.
        families: Where it makes sense.
        raw: Whether it is kept as made too.
        tuned: Whether it is kept after further training too.
    """

    name: str
    kinds: tuple[str, ...]
    make: Make | None = None
    closest: str | None = "base"
    recipe: Recipe | None = None
    rank: int | None = None
    families: tuple[str, ...] = ALL
    raw: bool = True
    tuned: bool = True


def _of_base(model: Model, layers: Layers | None = None, share: float = 1.0, tokens: Tokens = BYTES) -> Derived:
    """Something made of the base alone."""
    layers = list(range(model.size("depth"))) if layers is None else layers
    return Derived(model, {"base": layers}, {"base": share}, tokens)


def _depth(change: Callable[[Model, np.random.Generator], depth.Changed]) -> Make:
    def make(sources: Sources, rng: np.random.Generator) -> Derived:
        model, layers = change(sources.base, rng)
        share = len(set(layers) - {None}) / sources.base.size("depth")
        return _of_base(model, layers, share)

    return make


def _volume(model: Model) -> int:
    """Elements of the matrices that stand neither for tokens nor for positions."""
    outside = {name for layout in LAYOUTS.values() for name in layout.outside}
    return sum(a.size for name, a in model.tensors.items() if a.ndim == 2 and name not in outside)


def _plain(change: Callable[[Model, np.random.Generator], Model]) -> Make:
    """A change that keeps all blocks where they are."""

    def make(sources: Sources, rng: np.random.Generator) -> Derived:
        model = change(sources.base, rng)
        layers = list(range(sources.base.size("depth")))
        return Derived(model, {"base": layers}, {"base": min(1.0, _volume(model) / _volume(sources.base))})

    return make


def _tokens(change: Callable[[Model, np.random.Generator], tuple[Model, Tokens]]) -> Make:
    def make(sources: Sources, rng: np.random.Generator) -> Derived:
        model, tokens = change(sources.base, rng)
        return _of_base(model, tokens=tokens)

    return make


def _renewed_and_upscaled(sources: Sources, rng: np.random.Generator) -> Derived:
    model, layers = depth.upscaled(sources.base, rng)
    model, tokens = vocabulary.renewed(model, rng)
    return _of_base(model, layers, tokens=tokens)


def _merge(mix: Callable[[Sources, np.random.Generator], Model], weights: merging.Weights) -> Make:
    def make(sources: Sources, rng: np.random.Generator) -> Derived:
        model = mix(sources, rng)
        fitted = merging.fitted(sources.base, sources.child_docs, sources.child_other, model)
        roles = ("base", "child_docs", "child_other")
        layers = list(range(model.size("depth")))
        truth = {
            "ancestor": "base",
            "weights": dict(zip(roles[1:], weights, strict=True)),
            "fitted": dict(zip(roles[1:], (round(w, 4) for w in fitted), strict=True)),
        }
        return Derived(model, dict.fromkeys(roles, layers), dict.fromkeys(roles, 1.0), truth=truth)

    return make


def _linear(weights: merging.Weights) -> Make:
    return _merge(lambda s, rng: merging.linear(s.child_docs, s.child_other, weights), weights)


def _grafted(sources: Sources, rng: np.random.Generator) -> Derived:
    model, ours, theirs = depth.grafted(sources.base, sources.other)
    share = len(set(ours) - {None}) / len(ours)
    return Derived(model, {"base": ours, "other": theirs}, {"base": share, "other": 1 - share})


def _stream(model: Model) -> Model:
    # Width is a number of whole heads where the two are tied.
    return width.stream_pruned(
        model, 5 * model.size("width") // 6 if model.layout.tied else 3 * model.size("width") // 4
    )


def _scrubbed(which: tuple[str, ...]) -> Make:
    def make(sources: Sources, rng: np.random.Generator) -> Derived:
        # Imported here: all else in this module works without the tool itself.
        from benchmarks.scrubs import scrub

        base = sources.base
        tensors = scrub(base.tensors, base.config, set(which), int(rng.integers(1 << 30)))
        config = dict(base.config)
        if len(tensors) > len(base.tensors):  # an output matrix of its own, since gains were folded into it
            config["tie_word_embeddings"] = False
        model = Model({name: array.astype(np.float32) for name, array in tensors.items()}, config)
        return replace(_of_base(model), truth={"scrubs": sorted(which)})

    return make


_TUNE = Recipe("docs", 301, 120, lr=1e-3, batch=4, length=64)
"""Further training of a fine-tune."""

_FAR = replace(_TUNE, steps=400, lr=3e-3, weight_decay=0.3)
_BACK = replace(_TUNE, data="code")

_SCRUBS = {name: (name,) for name in SCRUBS} | {"signs+permute": ("signs", "permute"), "all": tuple(SCRUBS)}

DERIVATIONS: dict[str, Derivation] = {
    entry.name: entry
    for entry in (
        Derivation("finetune", ("finetune",), recipe=_TUNE, raw=False),
        Derivation("finetune-far", ("finetune",), recipe=_FAR, raw=False),
        Derivation("finetune-of-child-docs", ("finetune",), closest="child_docs", recipe=_BACK, raw=False),
        Derivation("finetune-of-child-other", ("finetune",), closest="child_other", recipe=_TUNE, raw=False),
        Derivation("low-rank", ("adapter", "adapter-merged", "finetune"), recipe=replace(_TUNE, lr=3e-3), rank=8),
        Derivation("upscaled", ("upscaled",), _depth(depth.upscaled)),
        Derivation("dropped", ("pruned",), _depth(depth.dropped)),
        Derivation("inserted", ("upscaled",), _depth(depth.inserted)),
        Derivation("wrapped", ("upscaled",), _depth(depth.wrapped)),
        Derivation("reordered", ("finetune", "upscaled", "pruned"), _depth(depth.reordered)),
        Derivation("mlp-pruned", ("pruned",), _plain(lambda m, rng: width.units_pruned(m, 0.75))),
        Derivation("mlp-sorted", ("pruned",), _plain(lambda m, rng: width.units_pruned(m, 0.75, sort=True))),
        Derivation(
            "heads-pruned",
            ("pruned",),
            _plain(lambda m, rng: width.heads_pruned(m, 2 * m.size("kv") // 3)),
            families=GATED,
        ),
        Derivation("stream-pruned", ("pruned",), _plain(lambda m, rng: _stream(m))),
        Derivation(
            "kv-pooled",
            ("pruned", "finetune"),
            _plain(lambda m, rng: width.kv_pooled(m, m.size("kv") // 3)),
            families=GATED,
        ),
        Derivation("upcycled", ("upcycled",), _plain(lambda m, rng: experts.upcycled(m, 0.1, rng)), families=GATED),
        Derivation("experts-split", ("upcycled",), _plain(experts.split), families=GATED),
        Derivation("vocab-redrawn", ("finetune", "partial"), _tokens(vocabulary.redrawn)),
        Derivation("vocab-reordered", ("finetune",), _tokens(vocabulary.reordered)),
        Derivation("vocab-extended", ("finetune",), _tokens(vocabulary.extended)),
        Derivation("vocab-renewed", ("finetune",), _tokens(vocabulary.renewed)),
        Derivation("vocab-depth", ("upscaled",), _renewed_and_upscaled),
        Derivation("int8", ("quantized",), _plain(lambda m, rng: values.int8(m))),
        Derivation("int4", ("quantized",), _plain(lambda m, rng: values.int4(m))),
        Derivation("nf4", ("quantized",), _plain(lambda m, rng: values.nf4(m))),
        Derivation("noise", ("finetune",), _plain(lambda m, rng: values.noisy(m, 0.5, rng))),
        Derivation("merge-even", ("merge", "finetune"), _linear((0.5, 0.5)), closest=None),
        Derivation("merge-linear", ("merge", "finetune"), _linear((0.3, 0.7)), closest="child_other"),
        Derivation(
            "merge-slerp",
            ("merge", "finetune"),
            _merge(lambda s, rng: merging.slerp(s.child_docs, s.child_other, (0.6, 0.4)), (0.6, 0.4)),
            closest="child_docs",
        ),
        Derivation(
            "merge-ties",
            ("merge", "finetune"),
            _merge(lambda s, rng: merging.ties(s.base, s.child_docs, s.child_other, (0.5, 0.5)), (0.5, 0.5)),
            closest=None,
        ),
        Derivation(
            "merge-dare",
            ("merge", "finetune"),
            _merge(lambda s, rng: merging.dare(s.base, s.child_docs, s.child_other, (0.4, 0.6), rng), (0.4, 0.6)),
            closest="child_other",
        ),
        Derivation("partial-grafted", ("partial",), _grafted),
        Derivation("partial-reset", ("partial",), _depth(depth.reset)),
        *(
            Derivation(f"scrub-{name}", ("finetune",), _scrubbed(which), tuned=name in ("signs+permute", "all"))
            for name, which in _SCRUBS.items()
        ),
    )
}
