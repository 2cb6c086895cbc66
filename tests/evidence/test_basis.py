"""Recovering the basis of the residual stream of trained children that were disguised, and what must stay fair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from benchmarks.basis_null import Parts, parts_of
from lineage_plugin.evidence.basis import recover_basis
from lineage_plugin.evidence.coins import cosines

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def models() -> dict[str, Parts]:
    return {name: parts_of(EXAMPLES / name) for name in ("base", "honest", "liar")}


def up(model: Parts) -> np.ndarray:
    return model.units[1]


def disguise(kind: str, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a matrix that a stream is multiplied by."""
    if kind == "rotation":
        return ortho_group.rvs(width, random_state=rng).astype(np.float32)
    matrix = np.eye(width, dtype=np.float32)
    if kind == "permutation":
        matrix = matrix[:, rng.permutation(width)] * rng.choice(np.float32([-1, 1]), width)
    return matrix


@pytest.mark.parametrize("kind", ["identity", "permutation", "rotation"])
@pytest.mark.parametrize("replaced", [0.0, 0.5])
def test_the_disguise_of_a_child_is_undone(models: dict[str, Parts], kind: str, replaced: float) -> None:
    """With half of the vocabulary replaced as well: wrong rows are left out."""
    rng = np.random.default_rng(5)
    base, child = models["base"], models["honest"]
    width = base.embedding.shape[1]
    matrix = disguise(kind, width, rng)
    rows = child.embedding.copy()
    wrong = rng.permutation(256)[: int(256 * replaced)]
    rows[wrong] = rows[rng.permutation(256)[: wrong.shape[0]]]
    basis = recover_basis(rows @ matrix, base.embedding, flip=True, rotate=True)
    assert basis is not None and basis.kind == kind
    assert basis.fit.cosine > 0.5 and basis.fit.shuffled < 0.2
    mapped = basis.apply(up(child) @ matrix)
    ideal = np.median(cosines(up(child), up(base)))
    assert np.median(cosines(mapped, up(base))) > (0.75 if replaced else 0.9) * ideal
    assert (cosines(mapped, up(base)) > 0).all()
    if kind == "permutation":
        order = np.abs(matrix).argmax(axis=1)
        assert (order[basis.channels[:, 1]] == basis.channels[:, 0]).all()
        assert basis.describe() == "the residual stream was permuted and flipped in sign"
    if kind == "rotation" and replaced:
        assert basis.rows < 0.75 * 256
        assert basis.describe() == "the residual stream was rotated"


def test_a_stream_that_was_only_flipped(models: dict[str, Parts]) -> None:
    base = models["base"].embedding
    sign = np.random.default_rng(0).choice(np.float32([-1, 1]), base.shape[1])
    basis = recover_basis(models["honest"].embedding * sign, base, flip=True, rotate=True)
    assert basis is not None and basis.describe() == "the residual stream was flipped in sign"
    assert (basis.signs == sign).all()
    vectors = np.random.default_rng(1).standard_normal((3, 2 * base.shape[1])).astype(np.float32)
    assert (basis.apply(vectors) == vectors * np.tile(sign, 2)).all()


def test_without_flips_no_sign_is_changed(models: dict[str, Parts]) -> None:
    base = models["base"].embedding
    order = np.random.default_rng(0).permutation(base.shape[1])
    basis = recover_basis(models["honest"].embedding[:, order], base, flip=False, rotate=False)
    assert basis is not None and basis.describe() == "the residual stream was permuted"
    assert (basis.signs == 1).all() and (order[basis.channels[:, 0]] == basis.channels[:, 1]).all()


def test_channels_that_were_pruned(models: dict[str, Parts]) -> None:
    rng = np.random.default_rng(1)
    base = models["base"].embedding
    kept = rng.permutation(base.shape[1])[:70]
    basis = recover_basis(models["honest"].embedding[:, kept], base, flip=True, rotate=True)
    assert basis is not None and basis.kind == "permutation"
    assert basis.describe().endswith(f"70 of {base.shape[1]} channels kept")
    assert (kept[basis.channels[:, 0]] == basis.channels[:, 1]).all() and basis.channels.shape == (70, 2)
    mapped = basis.apply(up(models["honest"])[:, kept])
    assert mapped.shape == up(models["base"]).shape
    whole = basis.restrict(up(models["base"]))
    assert not whole[:, np.setdiff1d(np.arange(base.shape[1]), kept)].any()
    assert np.median(cosines(mapped, whole)) > 0.95 * np.median(cosines(up(models["honest"]), up(models["base"])))


def test_channels_that_were_added(models: dict[str, Parts]) -> None:
    rng = np.random.default_rng(2)
    base, child = models["base"].embedding, models["honest"].embedding
    width = base.shape[1]
    added = np.concatenate([child, child.std() * rng.standard_normal((256, 32))], axis=1).astype(np.float32)
    order = rng.permutation(width + 32)
    basis = recover_basis(added[:, order], base, flip=True, rotate=True)
    assert basis is not None and basis.kind == "permutation" and basis.channels.shape[0] == width
    assert (order[basis.channels[:, 0]] == basis.channels[:, 1]).all()
    assert basis.describe().endswith(f"widened from {width} to {width + 32} channels")


def test_a_rotation_onto_fewer_channels(models: dict[str, Parts]) -> None:
    """What tools do that slice a model along its principal directions."""
    base, child = models["base"], models["honest"]
    width = base.embedding.shape[1]
    slim = disguise("rotation", width, np.random.default_rng(3))[:, : width * 3 // 4]
    basis = recover_basis(child.embedding @ slim, base.embedding, flip=True, rotate=True)
    assert basis is not None and basis.kind == "rotation"
    assert basis.describe() == f"the residual stream was rotated and its width changed from {width} to {width * 3 // 4}"
    mapped = basis.apply(up(child) @ slim)
    assert (cosines(mapped, up(base)) > 0).all()
    ideal = np.median(cosines(up(child) @ slim @ slim.T, up(base)))
    assert np.median(cosines(mapped, up(base))) > 0.9 * ideal


def test_rotation_is_that_of_procrustes(models: dict[str, Parts]) -> None:
    """The same matrix as an independent solver's, on the prepared rows of the final fit."""
    rng = np.random.default_rng(4)
    base = rng.standard_normal((400, 24)).astype(np.float32)
    turned = (base @ disguise("rotation", 24, rng) + 0.1 * rng.standard_normal((400, 24))).astype(np.float32)
    basis = recover_basis(turned, base, flip=True, rotate=True)
    assert basis is not None and basis.kind == "rotation" and basis.rows == 400
    a, b = (part - part.mean(axis=0) for part in (turned.astype(np.float64), base.astype(np.float64)))
    a, b = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (a, b))
    expected, _ = orthogonal_procrustes(a, b)
    assert np.allclose(basis.apply(np.eye(24, dtype=np.float32)), expected, atol=1e-4)


def test_few_tokens_keep_the_directions_that_they_span(models: dict[str, Parts]) -> None:
    """A vector's cosine falls as the root of rows over width, and not at all on the directions that are known."""
    base, child = models["base"], models["honest"]
    width = base.embedding.shape[1]
    matrix = disguise("rotation", width, np.random.default_rng(6))
    rows = np.random.default_rng(7).permutation(256)[: width // 4]
    basis = recover_basis(child.embedding[rows] @ matrix, base.embedding[rows], flip=True, rotate=True)
    assert basis is not None and basis.kind == "rotation"
    mapped, ideal = basis.apply(up(child) @ matrix), np.median(cosines(up(child), up(base)))
    assert np.median(cosines(mapped, up(base))) == pytest.approx(0.5 * ideal, rel=0.3)
    assert np.median(cosines(mapped, basis.restrict(up(base)))) > 0.7 * ideal
    assert (cosines(mapped, up(base)) > 0).mean() > 0.99


def test_one_dominant_direction_does_not_hide_the_rest() -> None:
    """Tied embeddings lie along one direction; there every basis fits every model."""
    rng = np.random.default_rng(9)
    frequency = np.exp(rng.standard_normal((300, 1)))
    direction = rng.standard_normal((1, 48))
    rest = 0.3 * rng.standard_normal((300, 48))
    base = (frequency * direction + rest).astype(np.float32)
    order = rng.permutation(48)
    drifted = 1.5 * frequency * (direction + 0.2 * rng.standard_normal((1, 48))) + rest
    basis = recover_basis(drifted[:, order].astype(np.float32), base, flip=True, rotate=True)
    assert basis is not None and basis.kind == "permutation" and basis.fit.cosine > 0.8
    assert (order[basis.channels[:, 0]] == basis.channels[:, 1]).all()
    stranger = (frequency * rng.standard_normal((1, 48)) + 0.3 * rng.standard_normal((300, 48))).astype(np.float32)
    assert recover_basis(stranger, base, flip=True, rotate=True) is None


def test_rows_that_say_nothing() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((64, 16)).astype(np.float32)
    order = rng.permutation(16)
    a, b = base[:, order], base.copy()
    a[0], b[1], a[2], b[3] = np.nan, np.inf, 0.0, 0.0
    # Reserved tokens: one row many times over.
    a, b = np.concatenate([a, np.tile(a[5], (100, 1))]), np.concatenate([b, np.tile(b[5], (100, 1))])
    with np.errstate(all="raise"):
        basis = recover_basis(a, b, flip=True, rotate=True)
    assert basis is not None and basis.kind == "permutation" and basis.rows == 60
    assert (order[basis.channels[:, 0]] == basis.channels[:, 1]).all()
    for rows in (base[:8], np.zeros_like(base), np.full_like(base, np.nan), np.ones_like(base), base[:, :0]):
        assert recover_basis(rows, rows, flip=True, rotate=True) is None
    huge = recover_basis(base[:, order] * np.float32(1e37), base * np.float32(1e-37), flip=True, rotate=True)
    assert huge is not None and huge.kind == "permutation"


def test_shapes_are_checked(models: dict[str, Parts]) -> None:
    base = models["base"].embedding
    with pytest.raises(ValueError, match="same tokens"):
        recover_basis(base, base[:5], flip=True, rotate=True)
    basis = recover_basis(models["honest"].embedding, base, flip=True, rotate=True)
    assert basis is not None and basis.describe() == "the residual stream is in the base's order"
    for wrong in (base[:, :-1], base[0]):
        with pytest.raises(ValueError, match="channels"):
            basis.apply(wrong)
        with pytest.raises(ValueError, match="channels"):
            basis.restrict(wrong)
    assert basis.apply(np.empty((0, base.shape[1]), np.float32)).shape == (0, base.shape[1])
