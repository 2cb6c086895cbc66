"""Measure the null of the calibrated evidence, and its power: ``python -m benchmarks.calibration LAB...``.

Each LAB is a manifest (``zoo.json``, ``lab.json``, ...) with the models beside it. Every unrelated pair of one shape is
compared layer by layer, units matched by the first vector alone, in several ways of laying the two residual streams
over each other. A relabelled copy need not be made: order and signs of units are searched or ignored, and the recovery
of the basis turns with the basis, so that a scrubbed model gives the same counts.

======================  =========================================================================================
basis
======================  =========================================================================================
stored                  channels as they are stored
embedding               orthogonal Procrustes on the token embeddings
both                    the same on token embeddings and output projection together
refined                 from ``embedding``, three rounds of Procrustes on the matched first vectors of all layers
thin                    as ``embedding``; principal directions from half as many units as vectors have elements
======================  =========================================================================================
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lineage_plugin.anatomy import analyse
from lineage_plugin.anatomy.stream import READS
from lineage_plugin.anatomy.types import Gain
from lineage_plugin.checkpoint import Checkpoint, open_checkpoint
from lineage_plugin.checkpoint.types import Selection
from lineage_plugin.evidence.calibrated import NULL, Agreements, Null, calibrated, count_agreements
from lineage_plugin.evidence.sample import Probe, read_probes
from lineage_plugin.evidence.units import match_units
from lineage_plugin.options import Options

FloatArray = NDArray[np.float32]
BASES = ("stored", "embedding", "both", "refined", "thin")
FIRST = ("gate", "fc1")
SHARES = (1.0, 0.5, 0.3, 0.2, 0.1)


@dataclass(frozen=True, eq=False)
class Model:
    """The MLPs of a model, gains folded in, and what its tokens look like in the stream."""

    family: str
    parameters: int
    layers: tuple[Mapping[str, FloatArray], ...]
    odd: Mapping[str, bool]
    embedding: FloatArray
    both: FloatArray

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the first vectors, and of the embedding."""
        return (*(layer[_first(layer)].shape for layer in self.layers), self.embedding.shape, self.both.shape)


def _first(layer: Mapping[str, FloatArray]) -> str:
    return next(role for role in FIRST if role in layer)


def _vector(checkpoint: Checkpoint, gain: Gain | None, width: int) -> FloatArray:
    if gain is None:
        return np.ones(width, np.float32)
    stored = checkpoint.read([Selection(gain.tensor, None, None, width)])[0].reshape(-1)
    return stored + np.float32(gain.plus_one)


@cache
def load(folder: Path) -> Model | None:
    """Read a model; None when its graph is not known or it has no MLPs that are looked at."""
    checkpoint = open_checkpoint(str(folder), options=Options())
    anatomy = analyse(checkpoint.tensors, checkpoint.config)
    stream = anatomy.stream
    groups = [group for group in anatomy.groups if group.name in ("mlp", "experts")]
    if not groups or stream is None:
        return None
    layers = []
    odd: dict[str, bool] = {}
    for group in groups:
        roles = tuple(v.role for v in group.vectors if v.index.shape[1] * (v.width if v.axis == 0 else 2) > 1)
        sample = read_probes(checkpoint, checkpoint, [Probe(group, group, np.arange(group.units), roles)], 0)[0]
        vectors = {r: part for r, part in zip(sample.roles, sample.base, strict=True) if part.shape[1] == stream.width}
        odd |= dict(zip(sample.roles, sample.odd, strict=True))
        before = _vector(checkpoint, stream.reads.get(group.key), stream.width)
        layers.append({role: part * before if role in READS else part for role, part in vectors.items()})
    tables = [checkpoint.read([Selection(stream.embedding)])[0]]
    if stream.unembedding is not None:
        final = _vector(checkpoint, stream.final, stream.width)
        tables.append(checkpoint.read([Selection(stream.unembedding)])[0] * final)
    scaled = [_rows(table - table.mean(axis=0)) for table in tables]
    count = sum(int(np.prod(info.shape)) for info in checkpoint.tensors.values())
    return Model(anatomy.family, count, tuple(layers), odd, scaled[0], np.concatenate(scaled))


def _rows(table: FloatArray) -> FloatArray:
    length = np.linalg.norm(table, axis=1, keepdims=True)
    return table / np.where(length > 0, length, 1)


def _procrustes(a: FloatArray, b: FloatArray) -> FloatArray:
    """The orthogonal matrix that brings the rows of ``a`` nearest to those of ``b`` (Schoenemann 1966)."""
    u, _, vt = np.linalg.svd(a.T.astype(np.float64) @ b)
    return (u @ vt).astype(np.float32)


def _match(a: Mapping[str, FloatArray], b: Mapping[str, FloatArray]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    role = _first(b)
    found = match_units(a[role], b[role], even=False)
    return found.suspect_rows, found.base_rows


def _turn(a: Model, b: Model, basis: str) -> FloatArray | None:
    if basis == "stored":
        return None
    if basis == "both":
        return _procrustes(a.both, b.both)
    turn = _procrustes(a.embedding, b.embedding)
    for _ in range(3 if basis == "refined" else 0):
        ends = []
        for mine, theirs in zip(a.layers, b.layers, strict=True):
            role = _first(theirs)
            i, j = _match({role: mine[role] @ turn}, theirs)
            ends.append((_rows(mine[role][i]), _rows(theirs[role][j])))
        turn = _procrustes(np.concatenate([e[0] for e in ends]), np.concatenate([e[1] for e in ends]))
    return turn


def compare(a: Model, b: Model, basis: str) -> list[Agreements]:
    """Count the agreements of every layer with the layer of the same number."""
    turn, found = _turn(a, b, basis), []
    for mine, theirs in zip(a.layers, b.layers, strict=True):
        turned = mine if turn is None else {role: part @ turn for role, part in mine.items()}
        i, j = _match(turned, theirs)
        if basis == "thin":
            turned, i = _thinned(turned, i)
            theirs, j = _thinned(theirs, j)
        counts = count_agreements(turned, theirs, a.odd, matched_on=_first(theirs), rows=(i, j))
        found.append(counts)
    return found


def _thinned(
    layer: Mapping[str, FloatArray], rows: NDArray[np.int64]
) -> tuple[dict[str, FloatArray], NDArray[np.int64]]:
    """Keep the matched units, and others up to half as many as the vectors have elements."""
    units, dim = layer[_first(layer)].shape
    others = np.setdiff1d(np.arange(units), rows)
    kept = np.concatenate([rows, others[: max(0, max(64, dim // 2) - rows.shape[0])]])
    return {role: part[kept] for role, part in layer.items()}, np.arange(rows.shape[0])


def mixed(a: Model, b: Model, share: float) -> Model:
    """Mix the weights of two models: ``share`` of the first."""

    def mix(one: FloatArray, two: FloatArray) -> FloatArray:
        return (share * one + (1 - share) * two).astype(np.float32)

    layers = tuple({role: mix(x[role], y[role]) for role in x} for x, y in zip(a.layers, b.layers, strict=True))
    return Model(a.family, a.parameters, layers, a.odd, mix(a.embedding, b.embedding), mix(a.both, b.both))


def pairs_of(manifest: Path, relations: Sequence[str]) -> Iterator[tuple[str, Path, Path]]:
    """Yield relation, suspect and base of the pairs of a manifest whose models are there."""
    listed = json.loads(manifest.read_text())
    records = listed.get("records", {})
    for pair in listed["pairs"]:
        folders = [manifest.parent / pair[side].split("/")[-1] for side in ("suspect", "base")]
        if pair["relation"] not in relations or not all((f / "model.safetensors").is_file() for f in folders):
            continue
        known = [records.get(folder.name, {}) for folder in folders]
        # Models adopted from another lab are listed there, with their initial weights.
        if any(record.get("role") == "adopted" for record in known):
            continue
        # Two architectures from one seed share their initial weights wherever shapes agree.
        starts = [record.get("initial") for record in known]
        if pair["relation"] == "unrelated" and starts[0] is not None and starts[0] == starts[1]:
            continue
        yield pair["relation"], folders[0], folders[1]


def start_of(manifest: Path, name: str) -> str:
    """Name the random start that a model goes back to, as far as its manifest tells."""
    listed = json.loads(manifest.read_text())
    lineage = [(p["suspect"].split("/")[-1], p["base"].split("/")[-1], p["relation"]) for p in listed["pairs"]]
    derived = {suspect: base for suspect, base, relation in lineage if relation == "derived"}
    passed: set[str] = set()
    while name in derived and name not in passed:
        passed.add(name)
        name = derived[name]
    record = listed.get("records", {}).get(name, {})
    if record.get("initial") is not None:
        return f"{record['family']} {record['initial']}"
    return next((base for suspect, base, relation in lineage if (suspect, relation) == (name, "shared-init")), name)


@dataclass(frozen=True)
class Row:
    """Agreements of one pair of models in one basis."""

    names: tuple[str, str]
    basis: str
    layers: tuple[Agreements, ...]

    @property
    def total(self) -> Agreements:
        """All layers together."""
        return sum(self.layers, Agreements())

    def shares(self, least: int = 100) -> list[float]:
        """Shares of agreements, of the statistics with enough comparisons to have one."""
        t = self.total
        return [k / n for k, n in ((t.cross, t.cross_of), (t.sign, t.sign_of)) if n >= least]

    def value(self, rate: float) -> float:
        """The calibrated value at a rate of the null."""
        return calibrated(self.layers, replace(NULL, rate=rate)).log10_calibrated


def measure(manifests: Sequence[Path], limit: int) -> tuple[list[Row], set[Path]]:
    """Compare the unrelated pairs of one shape, in every basis."""
    rows, used = [], set()
    lines: set[tuple[str, str]] = set()
    for manifest in manifests:
        seen = 0
        for _, suspect, base in pairs_of(manifest, ("unrelated",)):
            # Copies and children of one model against one other model are one independent pair, not many.
            line = (f"{manifest}:{start_of(manifest, suspect.name)}", f"{manifest}:{start_of(manifest, base.name)}")
            if line in lines or line[::-1] in lines:
                continue
            a, b = load(suspect), load(base)
            if a is None or b is None or a.shape != b.shape or a.layers[0].keys() != b.layers[0].keys():
                continue
            seen += 1
            if limit and seen > limit:
                break
            lines.add(line)
            used |= {suspect, base}
            names = (suspect.name, base.name)
            rows += [Row(names, basis, tuple(compare(a, b, basis))) for basis in BASES]
    return rows, used


def _print_null(rows: Sequence[Row], models: Sequence[Model], rate: float) -> None:
    """Print shares by basis, and the structure that the tool quotes."""
    print("| basis | pairs | cross-role | worst pair | sign product | worst pair | spread | largest value |")
    print("|---|---|---|---|---|---|---|---|")
    for basis in BASES:
        chosen = [row for row in rows if row.basis == basis]
        total = sum((row.total for row in chosen), Agreements())
        worst = [
            max((row.shares()[place] for row in chosen if len(row.shares()) > place), default=0.0) for place in (0, 1)
        ]
        # The variance of the shares of pairs of models, in units of what fair coins would have.
        score = [
            (r.total.cross - r.total.cross_of / 2) ** 2 / (r.total.cross_of / 4) for r in chosen if r.total.cross_of
        ]
        value = max(row.value(rate) for row in chosen)
        print(
            f"| {basis} | {len(chosen)} | {total.cross:,} of {total.cross_of:,} ({total.cross / total.cross_of:.3f}) "
            f"| {worst[0]:.3f} | {total.sign:,} of {total.sign_of:,} ({total.sign / max(1, total.sign_of):.3f}) "
            f"| {worst[1]:.3f} | {np.mean(score):.2f} | {value:.1f} |"
        )
    widths = [model.embedding.shape[1] for model in models]
    sizes = [model.parameters for model in models]
    found = Null(
        rate=rate,
        worst_share=round(max(share for row in rows for share in row.shares()), 3),
        worst_value=round(max(row.value(rate) for row in rows), 1),
        models=len(models),
        pairs=len(rows) // len(BASES),
        families=tuple(sorted({model.family for model in models})),
        width=(min(widths), max(widths)),
        parameters=(min(sizes), max(sizes)),
    )
    print(f"\n{found}\n{'as' if found == NULL else 'NOT as'} in lineage_plugin.evidence.calibrated")
    for row in sorted(rows, key=lambda r: -max(r.shares(), default=0.0))[:8]:
        t = row.total
        print(f"  {row.names} {row.basis}: {t.cross}/{t.cross_of}, {t.sign}/{t.sign_of}")


def _print_power(manifests: Sequence[Path], rate: float) -> None:
    """Print how often dependent models are found, whole or mixed with an unrelated model."""
    print("\n| relation, share, basis | pairs at 10^9 | smallest share of agreements | median log10 value |")
    print("|---|---|---|---|")
    dependent = [p for m in manifests for p in pairs_of(m, ("derived", "shared-init"))]
    strangers = [(s, b) for m in manifests for _, s, b in pairs_of(m, ("unrelated",))]
    for relation, basis in (("derived", "stored"), ("derived", "embedding"), ("shared-init", "embedding")):
        for share in SHARES:
            values, least = [], []
            for kind, suspect, base in dependent:
                a, b = load(suspect), load(base)
                if kind != relation or a is None or b is None or a.shape != b.shape:
                    continue
                if share < 1:
                    other = next((m for s, o in strangers if o == base and (m := load(s)) and m.shape == b.shape), None)
                    if other is None:
                        continue
                    a = mixed(a, other, share)
                layers = compare(a, b, basis)
                row = Row(("", ""), basis, tuple(layers))
                values.append(row.value(rate))
                least += row.shares()
            if values:
                reached = sum(v >= 9 for v in values)
                low = stats.binomtest(reached, len(values)).proportion_ci(method="exact").low
                print(
                    f"| {relation}, {share}, {basis} | {reached} of {len(values)} (above {low:.2f}) | {min(least):.2f} "
                    f"| {np.median(values):.0f} |"
                )


def main() -> None:
    """Print the null, and the power if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", nargs="+", type=Path, metavar="LAB", help="manifest such as zoo.json")
    parser.add_argument("--rate", type=float, default=NULL.rate, help="rate of the null (default: %(default).3f)")
    parser.add_argument("--limit", type=int, default=0, help="at most so many unrelated pairs a manifest")
    parser.add_argument("--power", action="store_true", help="measure the power, too")
    arguments = parser.parse_args()
    rows, used = measure(arguments.labs, arguments.limit)
    models = [model for folder in used if (model := load(folder)) is not None]
    _print_null(rows, models, arguments.rate)
    if arguments.power:
        _print_power(arguments.labs, arguments.rate)


if __name__ == "__main__":
    main()
