"""The zoo of changed models: every derivation does what its name says, and its truth is true."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from benchmarks.derivations import depth, experts, merging, values, vocabulary, width  # noqa: E402
from benchmarks.derivations.adapters import adapt  # noqa: E402
from benchmarks.derivations.layouts import LAYOUTS, Model  # noqa: E402
from benchmarks.derivations.roots import FAMILIES, configured, roots  # noqa: E402
from benchmarks.derive import DERIVATIONS, Sources  # noqa: E402
from benchmarks.training import Recipe  # noqa: E402

TOKENS = torch.arange(40).reshape(2, 20) * 5 % 256


def drawn(family, seed=1):
    """A small model with weights large enough that every part of it matters."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(configured(family, 48, depth=6), dtype=torch.float32)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if model.config.tie_word_embeddings and name == "lm_head.weight":
            continue
        # Memory and file disagree on one name.
        stored = "embed_out.weight" if (family, name) == ("gpt_neox", "lm_head.weight") else name
        tensors[stored] = (tensor + 0.1 * torch.randn_like(tensor)).numpy()
    return Model(tensors, json.loads(model.config.to_json_string(use_diff=False)))


@pytest.fixture(scope="module")
def models():
    return {family: drawn(family) for family in FAMILIES}


def loaded(model, folder):
    model.write(folder)
    found, notes = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not notes["missing_keys"] and not notes["unexpected_keys"] and not notes["mismatched_keys"]
    return found.eval()


@torch.no_grad()
def logits(model, folder, tokens=TOKENS):
    return loaded(model, folder)(input_ids=tokens).logits.numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_family_has_axes(models, family):
    model, layout = models[family], LAYOUTS[family]
    named = {f"{layout.prefix}{n}.{suffix}" for n in range(6) for suffix in layout.block} | set(layout.outside)
    assert named == set(model.tensors)
    for n, block in enumerate(model.blocks()):
        for suffix, array in block.items():
            assert array.ndim == len(layout.block[suffix]), (n, suffix)


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_maps_are_true(models, family):
    base, other = models[family], drawn(family, seed=2)
    sources = Sources(base, other, base, other)
    blocks = {"base": base.blocks(), "other": other.blocks()}
    for name in ("upscaled", "dropped", "inserted", "wrapped", "reordered", "partial-reset", "partial-grafted"):
        derived = DERIVATIONS[name].make(sources, np.random.default_rng(0))
        made = derived.model.blocks()
        for role, layers in derived.layers.items():
            assert len(layers) == len(made)
            for block, source in zip(made, layers):
                same = [n for n, old in enumerate(blocks[role]) if all(np.array_equal(old[s], block[s]) for s in block)]
                assert same == ([] if source is None else [source])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_inserted_blocks_are_the_identity(models, family, tmp_path):
    base = models[family]
    changed, _ = depth.inserted(base, np.random.default_rng(0))
    assert changed.size("depth") == 8
    np.testing.assert_allclose(logits(changed, tmp_path / "a"), logits(base, tmp_path / "b"), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "name", "change"),
    [
        ("llama", "mlp", lambda m: width.units_pruned(m, 0.75, sort=True)),
        ("gpt2", "mlp", lambda m: width.units_pruned(m, 0.75)),
        ("gpt_neox", "mlp", lambda m: width.units_pruned(m, 0.75)),
        ("qwen2", "heads", lambda m: width.heads_pruned(m, 2)),
        ("llama", "stream", lambda m: width.stream_pruned(m, 36)),
        ("gpt2", "stream", lambda m: width.stream_pruned(m, 32)),
        ("gpt_neox", "stream", lambda m: width.stream_pruned(m, 32)),
        ("qwen2", "kv", lambda m: width.kv_pooled(m, 1)),
        ("qwen2", "experts", lambda m: experts.upcycled(m, 0.1, np.random.default_rng(0))),
        ("llama", "experts", lambda m: experts.split(m, np.random.default_rng(0))),
    ],
)
def test_changed_shapes_load_and_run(models, tmp_path, family, name, change):
    found = logits(change(models[family]), tmp_path)
    assert found.shape == (2, 20, 256) and np.isfinite(found).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_pruning_units_that_write_nothing_changes_nothing(models, tmp_path, family):
    base = models[family]
    dead = {}
    for name, array in base.tensors.items():
        if name.endswith(("down_proj.weight", "mlp.c_proj.weight", "dense_4h_to_h.weight")):
            axis = 0 if family == "gpt2" else 1
            array = array.copy()
            np.moveaxis(array, axis, 0)[::4] = 0
            dead[name] = array
    base = base.with_tensors(dead)
    pruned = width.units_pruned(base, 0.75)
    assert pruned.size("units") == 0.75 * base.size("units")
    np.testing.assert_allclose(logits(pruned, tmp_path / "a"), logits(base, tmp_path / "b"), atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_pruning_heads_that_write_nothing_changes_nothing(models, tmp_path, family):
    base = models[family]
    group = base.size("heads") // base.size("kv") * base.head_size
    dead = {n: a.copy() for n, a in base.tensors.items() if n.endswith("o_proj.weight")}
    for array in dead.values():
        array[:, :group] = 0
    base = base.with_tensors(dead)
    pruned = width.heads_pruned(base, base.size("kv") - 1) if base.size("kv") > 1 else base
    np.testing.assert_allclose(logits(pruned, tmp_path / "a"), logits(base, tmp_path / "b"), atol=1e-3)


def test_sorted_units_are_the_pruned_ones_in_order_of_importance(models):
    base = models["llama"]
    kept, ordered = (width.units_pruned(base, 0.75, sort=sort).blocks() for sort in (False, True))
    for one, two in zip(kept, ordered):
        norms = [np.linalg.norm(two[f"mlp.{m}_proj.weight"], axis=a) for m, a in (("gate", 1), ("up", 1), ("down", 0))]
        assert np.all(np.diff(np.prod(norms, axis=0)) <= 1e-4)
        rows = [{row.tobytes() for row in block["mlp.up_proj.weight"]} for block in (one, two)]
        assert rows[0] == rows[1]


def test_pooled_heads_are_means(models):
    base = models["qwen2"]
    pooled = width.kv_pooled(base, 1)
    old, new = (m.tensors["model.layers.3.self_attn.v_proj.bias"] for m in (base, pooled))
    size = base.head_size
    np.testing.assert_allclose(new, sum(old[h * size : (h + 1) * size] for h in range(3)) / 3, rtol=1e-5)


def test_equal_experts_compute_what_the_dense_model_does(models, tmp_path):
    base = models["llama"]
    mixture = experts.upcycled(base, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(logits(mixture, tmp_path / "a"), logits(base, tmp_path / "b"), atol=1e-3)


def test_fine_grained_experts_hold_every_unit_once(models):
    for family, shared in (("llama", None), ("qwen2", "shared_expert")):
        base = models[family]
        made = experts.split(base, np.random.default_rng(3)).tensors
        rows = [
            row.tobytes()
            for name, array in made.items()
            if name.startswith("model.layers.2.") and name.endswith(("w3.weight", "up_proj.weight"))
            for row in array
        ]
        assert sorted(rows) == sorted(r.tobytes() for r in base.tensors["model.layers.2.mlp.up_proj.weight"])
        assert shared is None or any(shared in name for name in made)


def test_reordered_tokens_mean_what_they_meant(models, tmp_path):
    base = models["llama"]
    changed, tokens = vocabulary.reordered(base, np.random.default_rng(0))
    (tmp_path / "a").mkdir()
    tokens.write(tmp_path / "a")
    text = b"def lineage():\n    return 'coins'\t# \xc3\xa9\n"
    ids = vocabulary.encoder(tmp_path / "a")(np.frombuffer(text, np.uint8))
    assert [tokens.strings[i] for i in ids] == [vocabulary.BYTES.strings[b] for b in text]
    found = logits(changed, tmp_path / "a", torch.from_numpy(ids[None]))
    expected = logits(base, tmp_path / "b", torch.tensor([list(text)]))
    row = {string: n for n, string in enumerate(tokens.strings)}
    np.testing.assert_allclose(found[..., [row[s] for s in vocabulary.BYTES.strings]], expected, atol=1e-4)


@pytest.mark.parametrize("change", [vocabulary.extended, vocabulary.renewed])
def test_new_tokens_keep_the_rows_of_old_strings(models, tmp_path, change):
    base = models["gpt2"]
    changed, tokens = change(base, np.random.default_rng(0))
    old, new = (m.tensors["transformer.wte.weight"] for m in (base, changed))
    assert len(new) == len(tokens.strings) == len(set(tokens.strings)) == changed.config["vocab_size"] > 256
    row = {string: n for n, string in enumerate(tokens.strings)}
    np.testing.assert_array_equal(new[[row[s] for s in vocabulary.BYTES.strings]], old)
    tokens.write(tmp_path)
    ids = vocabulary.encoder(tmp_path)(np.frombuffer(b"import sys\nself.assertEqual(1, 2)\n", np.uint8))
    assert len(ids) < 30 and ids.max() < len(new)


def test_rounded_weights_lie_on_few_values(models):
    base = models["llama"]
    name = "model.layers.1.self_attn.q_proj.weight"
    for changed, group, most in ((values.int4(base, 16), 16, 16), (values.nf4(base, 48), 48, 16)):
        for part in changed.tensors[name].reshape(-1, group):
            assert len(np.unique(part)) <= most
    error = values.int8(base).tensors[name] - base.tensors[name]
    assert 0 < np.abs(error).max() <= 0.51 * np.abs(base.tensors[name]).max() / 127
    np.testing.assert_array_equal(values.int4(base).tensors["lm_head.weight"], base.tensors["lm_head.weight"])


def test_merges_follow_their_recipes(models):
    base = models["llama"]
    rng = np.random.default_rng(5)
    one, two = (
        base.with_tensors(
            {n: a + 0.01 * rng.standard_normal(a.shape, dtype=np.float32) for n, a in base.tensors.items()}
        )
        for _ in range(2)
    )
    assert merging.fitted(base, one, two, merging.linear(one, two, (0.3, 0.7))) == pytest.approx((0.3, 0.7), abs=1e-3)
    assert merging.fitted(base, one, two, merging.dare(base, one, two, (0.4, 0.6), rng)) == pytest.approx(
        (0.4, 0.6), abs=0.02
    )
    # On the great circle: equal angles to both ends at the middle, and the norm of the ends when these agree.
    name = "model.layers.0.mlp.up_proj.weight"
    ends = [m.tensors[name] / np.linalg.norm(m.tensors[name]) for m in (one, two)]
    middle = merging.slerp(*(m.with_tensors({name: e}) for m, e in zip((one, two), ends)), (0.5, 0.5)).tensors[name]
    assert np.linalg.norm(middle) == pytest.approx(1, abs=1e-5)
    assert np.vdot(middle, ends[0]) == pytest.approx(np.vdot(middle, ends[1]), abs=1e-5)


def test_ties_element_by_element():
    config = {"model_type": "llama", "num_hidden_layers": 0}
    base, one, two = (
        Model({"w": np.array(row, np.float32)}, config)
        for row in ([0, 0, 0, 0], [4.0, -3.0, 0.1, 0.2], [2.0, 5.0, 0.3, -6.0])
    )
    # Half of each change survives: (4, -3, 0, 0) and (0, 5, 0, -6); at the second place 5 outvotes -3.
    np.testing.assert_allclose(merging.ties(base, one, two, (0.5, 0.5)).tensors["w"], [4, 5, 0, -6])


def test_merged_adapter_has_its_rank():
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configured("gpt2", 32, depth=2), dtype=torch.float32)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    adapt(model, Recipe("code", 1, 2, batch=1, length=16), rank=3)
    changed = {n: p.detach() - before[n] for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert set(changed) == {n for n in before if ".h." in n and before[n].ndim == 2}
    for difference in changed.values():
        assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 3


def test_unrelated_roots_share_no_seed_and_twins_do():
    for family in FAMILIES:
        made = [root for _, root in roots(family)]
        assert len({root.name for root in made}) == len(made)
        seeds = [root for root in made if root.role == "seed"]
        assert len({root.seed for root in seeds}) == len(seeds) >= 11
        assert len({replace(root.recipe, order=0, steps=0) for root in seeds}) == 1
        first = seeds[0]
        for twin in (r for r in made if r.role == "twin" and r.width == first.width):
            assert twin.seed == first.seed and twin.recipe.order != first.recipe.order
