"""Disguises: rewrites of a model's weights that leave its function as it is.

An owner who wants to hide where a model comes from can relabel it. Each scrub below draws one such rewrite at random
and applies it exactly (up to rounding); they can be combined, and are then applied in the order of :data:`SCRUBS`.

* ``signs``: units of gated MLPs (up, down), value channels (V, O) and rotary pairs or free channels (Q, K) change sign.
* ``permute``: neurons, value channels inside a head, and key-value heads with their query heads change places.
* ``residual``: channels of the residual stream change places and, where a norm has no mean, signs.
* ``rotate``: gains are moved into the maps behind the norms, and the stream is turned by a random orthogonal matrix;
  with LayerNorm by one that keeps the all-ones vector, which the subtracted mean singles out.
* ``value-mix``: value channels of a head are mixed by an invertible matrix in V, undone in O.
* ``rescale``: up and V rows are multiplied by factors between 1/4 and 4, down and O columns divided by them.

Usage: ``python -m benchmarks.scrubs IN OUT --which signs permute --seed 1``
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from lineage_plugin.anatomy import READS, WRITES, Gain, Stream, UnitGroup, Vectors, analyse
from lineage_plugin.checkpoint import Selection, TensorInfo, open_checkpoint
from lineage_plugin.options import Options

__all__ = ["SCRUBS", "load", "save", "scrub"]

Array = NDArray[Any]
Tensors = dict[str, Array]
Config = dict[str, Any]
Turn = Callable[[Array], Array]
"""A linear map of the stream, applied to arrays ``[..., width]`` of vectors."""

SCRUBS = ("signs", "permute", "residual", "rotate", "value-mix", "rescale")

_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16"}
_TABLES = re.compile(r"(^|\.)(wpe|mlp\.gate|block_sparse_moe\.gate|mlp\.router|mlp\.shared_expert_gate)\.weight$")
"""Further tensors whose rows run over the stream: learned positions and routers."""
_ASIDE = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias|lm_head\.bias)$")
"""Tensors that no scrub touches: tables, masks and one bias per token."""
_LARGEST_FACTOR = 4.0


def scrub(tensors: Mapping[str, Array], config: Mapping[str, Any], which: Iterable[str], seed: int) -> Tensors:
    """Rewrite a model without changing what it computes.

    Args:
        tensors: Weights by name, float32 or float64; every one of them must be accounted for by the known layout.
        config: Configuration.
        which: Any of :data:`SCRUBS`.
        seed: Seed of the draw.

    Returns:
        New weights. ``rotate`` stores the output projection of tied embeddings apart, because the last gain goes into
        it; :func:`save` sets ``tie_word_embeddings`` accordingly.

    Raises:
        ValueError: When the model cannot be rewritten exactly: unknown layout, tensors not accounted for, gains that
            cannot be moved.
    """
    chosen = set(which)
    if chosen - set(SCRUBS):
        raise ValueError(f"unknown scrubs: {sorted(chosen - set(SCRUBS))}")
    model = _Model(tensors, config)
    for number, name in enumerate(SCRUBS):
        if name in chosen:
            _APPLY[name](model, np.random.default_rng([seed, number]))
    return model.tensors


class _Model:
    """The weights on their way, and where everything is."""

    def __init__(self, tensors: Mapping[str, Array], config: Mapping[str, Any]) -> None:
        self.tensors: Tensors = dict(tensors)
        infos = {
            name: TensorInfo(name, tuple(t.shape), _DTYPES.get(str(t.dtype), str(t.dtype)), "memory", 0, t.nbytes)
            for name, t in tensors.items()
        }
        anatomy = analyse(infos, config)
        if anatomy.stream is None or not anatomy.exact:
            raise ValueError("the layout is not known well enough to rewrite it")
        self.family, self.groups = anatomy.family, anatomy.groups
        self.stream: Stream = anatomy.stream
        self._account()

    def vectors(self) -> list[Vectors]:
        """Return the vectors of all units."""
        return [v for group in self.groups for v in group.vectors]

    def gains(self) -> dict[str, Gain]:
        """Return the gains of all norms of the stream by tensor name."""
        found = [*self.stream.reads.values(), *self.stream.writes.values()]
        return {gain.tensor: gain for gain in [*found, *([self.stream.final] if self.stream.final else [])]}

    def tables(self) -> list[str]:
        """Return the tensors whose rows run over the stream and are not units."""
        named = [name for name in self.tensors if _TABLES.search(name)]
        ends = [self.stream.embedding] + [self.stream.unembedding] * (self.stream.unembedding is not None)
        return [*ends, *named]  # type: ignore[list-item]

    def read(self, v: Vectors) -> Array:
        """Return the vectors of all units, ``[units, k, length]``."""
        lines, across = self._lines(self.tensors[v.tensor], v)
        return np.asarray(lines[v.index][:, :, across])

    def write(self, v: Vectors, values: Array) -> None:
        """Put the vectors of all units in place."""
        tensor = self.tensors[v.tensor].copy()
        lines, across = self._lines(tensor, v)
        lines[v.index, across] = values
        self.tensors[v.tensor] = tensor

    def bias_of(self, v: Vectors) -> str | None:
        """Return the bias that belongs to the units themselves, one element a vector, or None."""
        name = v.tensor.removesuffix("weight") + "bias"
        return name if v.role in READS and v.tensor.endswith("weight") and name in self.tensors else None

    def multiply(self, group: UnitGroup, order: Array, factors: Callable[[Vectors], Array | None]) -> None:
        """Put unit ``order[i]`` in place of unit i and multiply its vectors by ``factors(vectors)[i]``."""
        for v in group.vectors:
            factor = factors(v)
            scale = np.ones(group.units) if factor is None else factor
            self.write(v, self.read(v)[order] * scale[:, None, None])
            bias = self.bias_of(v)
            if bias is not None:
                old = self.tensors[bias].copy()
                old[v.index] = self.tensors[bias][v.index[order]] * scale[:, None]
                self.tensors[bias] = old

    def turn(self, turn: Turn) -> None:
        """Apply a linear map to everything that reads or writes the stream, norms excepted."""
        for v in self.vectors():
            self.write(v, turn(self.read(v)))
        written = {v.tensor.removesuffix("weight") + "bias" for v in self.vectors() if v.role in WRITES}
        for name in [*self.tables(), *sorted(written & set(self.tensors))]:
            self.tensors[name] = turn(self.tensors[name]).astype(self.tensors[name].dtype)

    def norm_biases(self) -> dict[str, str]:
        """Return the stored norm biases by the name of the gain."""
        pairs = {name: name.removesuffix("weight") + "bias" for name in self.gains()}
        return {gain: bias for gain, bias in pairs.items() if bias in self.tensors}

    @staticmethod
    def _lines(tensor: Array, v: Vectors) -> tuple[Array, slice]:
        matrix = tensor.reshape(-1, v.width)
        return (matrix if v.axis == 0 else matrix.T), slice(*(v.span or (None,)))

    def _account(self) -> None:
        """Check that every tensor is known, and every element of the units' matrices belongs to a unit."""
        covered: dict[str, int] = {}
        known = {*self.tables(), *self.gains(), *self.norm_biases().values()}
        for v in self.vectors():
            covered[v.tensor] = covered.get(v.tensor, 0) + v.index.size * self.stream.width
            known |= {v.tensor, v.tensor.removesuffix("weight") + "bias"}
            known |= {f"{v.tensor.rsplit('.', 2)[0]}.{name}_norm.weight" for name in "qk" if v.role == name}
        partly = [name for name, count in covered.items() if count != self.tensors[name].size]
        unknown = [name for name in self.tensors if name not in known and not _ASIDE.search(name)]
        per_channel = [
            name
            for name in self.tensors
            if name.endswith(("q_norm.weight", "k_norm.weight"))
            and self.tensors[name].shape[0] == self.tensors[re.sub("_norm.weight$", "_proj.weight", name)].shape[0]
        ]
        if partly or unknown or per_channel:
            raise ValueError(f"not accounted for: {', '.join([*partly, *unknown, *per_channel][:5])}")


def _signs(model: _Model, rng: np.random.Generator) -> None:
    for group in model.groups:
        if group.flip:
            sign = rng.choice([-1.0, 1.0], group.units)
            model.multiply(group, np.arange(group.units), lambda v, s=sign: s if v.odd else None)  # type: ignore[misc]


def _permute(model: _Model, rng: np.random.Generator) -> None:
    heads: dict[int, Array] = {}
    for group in model.groups:
        order = np.arange(group.units)
        if group.swap:
            for label in np.unique(group.block):
                members = np.flatnonzero(group.block == label)
                order[members] = rng.permutation(members)
        if group.name in ("value", "query-key"):
            # Whole key-value heads move alike in all groups of the layer, with their query heads.
            count = int(group.block.max()) + 1
            to = heads.setdefault(group.layer, rng.permutation(count))
            order = order.reshape(count, -1)[to].ravel()
        model.multiply(group, order, lambda v: None)


def _residual(model: _Model, rng: np.random.Generator) -> None:
    order = rng.permutation(model.stream.width)
    sign = rng.choice([-1.0, 1.0], model.stream.width) if model.stream.flip else np.ones(model.stream.width)
    model.turn(lambda x: x[..., order] * sign)
    for name in [*model.gains(), *model.norm_biases().values()]:
        model.tensors[name] = model.tensors[name][order]


def _rotate(model: _Model, rng: np.random.Generator) -> None:
    if model.stream.writes:
        raise ValueError("gains behind the blocks cannot be moved, so the stream cannot be rotated")
    rotation = _rotation(rng, model.stream.width, keeps_ones=model.stream.norm == "layer")
    gains = {name: gain.plus_one + model.tensors[name].astype(np.float64) for name, gain in model.gains().items()}
    biases = model.norm_biases()
    if any(np.abs(gains[name]).min() < 1e-8 for name in biases):
        raise ValueError("a gain is zero, so the norm's bias cannot be rotated")
    _untie(model)
    _fold(model, gains)
    model.turn(lambda x: x.astype(np.float64) @ rotation.T)
    for name, gain in model.gains().items():
        dtype = model.tensors[name].dtype
        model.tensors[name] = np.full(model.stream.width, 0.0 if gain.plus_one else 1.0, dtype)
        if name in biases:
            # The maps behind the norm hold diag(g) R': what they make of R (b / g) is what they made of b.
            bias = model.tensors[biases[name]]
            model.tensors[biases[name]] = (rotation @ (bias / gains[name])).astype(dtype)


def _rotation(rng: np.random.Generator, width: int, *, keeps_ones: bool) -> Array:
    """Draw an orthogonal matrix, uniformly among all or among those that keep the all-ones vector."""
    if not keeps_ones:
        return _orthogonal(rng, width)
    start = np.column_stack([np.ones(width), rng.standard_normal((width, width - 1))])
    basis = np.linalg.qr(start)[0]
    inner = np.eye(width)
    inner[1:, 1:] = _orthogonal(rng, width - 1)
    return np.asarray(basis @ inner @ basis.T)


def _orthogonal(rng: np.random.Generator, size: int) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diag(r)))


def _untie(model: _Model) -> None:
    """Store the output projection apart, because the last gain is about to go into it."""
    if model.stream.unembedding is None:
        name = "embed_out.weight" if model.family == "gpt_neox" else "lm_head.weight"
        model.tensors[name] = model.tensors[model.stream.embedding].copy()
        stream = model.stream
        model.stream = Stream(
            stream.width, stream.embedding, name, stream.norm, stream.swap, stream.reads, stream.writes, stream.final
        )


def _fold(model: _Model, gains: Mapping[str, Array]) -> None:
    """Multiply what reads the stream by the gain in front of it."""
    for group in model.groups:
        gain = model.stream.reads.get(group.key)
        for v in group.vectors:
            if gain is not None and v.role in READS:
                model.write(v, model.read(v) * gains[gain.tensor])
    for name in model.tables():
        if _TABLES.search(name) and not name.endswith("wpe.weight"):
            layer = name.rsplit(".", 3)[0] + "."
            (gain_name,) = {
                g.tensor
                for key, g in model.stream.reads.items()
                if key[0] in ("mlp", "experts") and g.tensor.startswith(layer)
            }
            model.tensors[name] = (model.tensors[name] * gains[gain_name]).astype(model.tensors[name].dtype)
    last, head = model.stream.final, model.stream.unembedding
    if last is not None and head is not None:
        model.tensors[head] = (model.tensors[head] * gains[last.tensor]).astype(model.tensors[head].dtype)


def _value_mix(model: _Model, rng: np.random.Generator) -> None:
    for group in model.groups:
        if group.name != "value":
            continue
        heads = int(group.block.max()) + 1
        size = group.units // heads
        # Singular values within a factor of four: changes every direction and loses little to rounding.
        mixes = np.stack(
            [
                _orthogonal(rng, size) * np.exp(rng.uniform(-0.7, 0.7, size)) @ _orthogonal(rng, size)
                for _ in range(heads)
            ]
        )
        undo = np.linalg.inv(mixes).transpose(0, 2, 1)
        for v in group.vectors:
            mix = mixes if v.role == "v" else undo
            values = _by_head(model.read(v), heads)
            model.write(v, np.einsum("hij,hjkl->hikl", mix, values).reshape(group.units, *values.shape[2:]))
            bias = model.bias_of(v)
            if bias is not None:
                old = model.tensors[bias].copy()
                old[v.index] = np.einsum("hij,hjk->hik", mix, _by_head(old[v.index], heads)).reshape(v.index.shape)
                model.tensors[bias] = old


def _by_head(values: Array, heads: int) -> Array:
    """Return ``[heads, channels, ...]`` from ``[heads * channels, ...]``."""
    return values.reshape(heads, -1, *values.shape[1:])


def _rescale(model: _Model, rng: np.random.Generator) -> None:
    for group in model.groups:
        if group.name == "query-key" or not group.flip:
            continue
        factor = np.exp(rng.uniform(-np.log(_LARGEST_FACTOR), np.log(_LARGEST_FACTOR), group.units))
        by_role = {"up": factor, "v": factor, "down": 1 / factor, "o": 1 / factor}
        model.multiply(group, np.arange(group.units), lambda v, f=by_role: f.get(v.role))  # type: ignore[misc]


_APPLY: dict[str, Callable[[_Model, np.random.Generator], None]] = {
    "signs": _signs,
    "permute": _permute,
    "residual": _residual,
    "rotate": _rotate,
    "value-mix": _value_mix,
    "rescale": _rescale,
}


def load(folder: str | Path) -> tuple[Tensors, Config]:
    """Read a local model: its floating-point tensors as float32, and its configuration.

    Args:
        folder: The model.
    """
    checkpoint = open_checkpoint(str(folder), options=Options())
    infos = [i for i in checkpoint.tensors.values() if i.dtype in ("F64", "F32", "F16", "BF16")]
    blocks = checkpoint.read([Selection(info.name) for info in infos])
    tensors = {info.name: block.reshape(info.shape) for info, block in zip(infos, blocks, strict=True)}
    return tensors, dict(checkpoint.config)


def save(folder: str | Path, tensors: Mapping[str, Array], config: Mapping[str, Any]) -> None:
    """Write a model. Where an output projection is stored, the configuration says that it is not tied.

    Args:
        folder: Where to; made when it is not there.
        tensors: The weights.
        config: The configuration.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    stored = any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in tensors)
    untied = {"tie_word_embeddings": False} if stored else {}
    (path / "config.json").write_text(json.dumps({**config, **untied}, indent=2))
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(whole, path / "model.safetensors", {"format": "pt"})


def main() -> None:
    """Read, rewrite, write; tokenizer and card are copied."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("target", metavar="OUT", type=Path)
    parser.add_argument("--which", nargs="+", choices=SCRUBS, default=list(SCRUBS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tensors, config = load(arguments.source)
    save(arguments.target, scrub(tensors, config, arguments.which, arguments.seed), config)
    for path in sorted(arguments.source.iterdir()):
        if path.is_file() and ".safetensors" not in path.name and path.name != "config.json":
            shutil.copy(path, arguments.target / path.name)


if __name__ == "__main__":
    main()
