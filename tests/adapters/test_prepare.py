"""Pairs with adapters: what is tossed, what is concluded, and what is not."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from lineage_plugin.adapters import (
    Prepared,
    parse_settings,
    prepare,
    revisions_differ,
    settle,
    without_coins,
)
from lineage_plugin.adapters.magnitudes import FOLLOWS
from lineage_plugin.card import read_card
from lineage_plugin.card.claims import copy_by_name
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.evidence.gather import gather
from lineage_plugin.judge.assemble import compared, summarise
from lineage_plugin.judge.lineage import lineage_findings
from lineage_plugin.judge.relation import is_decided
from lineage_plugin.judge.types import Comparison
from lineage_plugin.options import Options
from tests.adapters.builders import adapt, eight_bits, gpt2, llama, mixtral, opened, reconfigure, rewrite, saved

ADAPTER_FILE = "adapter_model.safetensors"
QV = ["q_proj", "v_proj", "up_proj", "down_proj"]
OPTIONS = Options()


def compare(suspect: Path, base: Path) -> tuple[Prepared, Comparison]:
    """The pipeline as the API runs it."""
    mine, other = opened(suspect), opened(base)
    prepared = prepare(mine, other)
    assert prepared is not None
    if prepared.models is None:
        return prepared, without_coins(prepared, summarise(other, None), (Cost(), Cost()))
    evidence = gather(prepared.models, OPTIONS, partial(is_decided, bar=OPTIONS.bar))
    return prepared, settle(prepared, compared(evidence, OPTIONS.bar, summarise(other, None), (Cost(), Cost())))


@cache
def text() -> torch.Tensor:
    """Sequences with something to learn: each token follows from the one before, with some noise."""
    generator = torch.Generator().manual_seed(5)
    follows = torch.randperm(64, generator=generator)
    rows = torch.randint(0, 64, (256, 1), generator=generator)
    for _ in range(15):
        noise = torch.rand(256, 1, generator=generator) < 0.1
        rows = torch.cat(
            [rows, torch.where(noise, torch.randint(0, 64, (256, 1), generator=generator), follows[rows[:, -1:]])], 1
        )
    return rows


def train(model: Any, data: slice, steps: int, lr: float = 1e-2) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
    for step in range(steps):
        tokens = text()[data][(8 * step) % 96 :][:8]
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()


FIRST, SECOND = slice(0, 128), slice(128, 256)


def trained(
    folder: Path, seed: int, data: slice, *, start: Path | None = None, steps: int = 40, **settings: Any
) -> Path:
    model: Any = llama()
    torch.manual_seed(seed)
    if start is not None:
        model = peft.PeftModel.from_pretrained(model, start, is_trainable=True)
    else:
        model = peft.get_peft_model(model, peft.LoraConfig(**({"r": 8, "target_modules": QV} | settings)))
    train(model, data, steps)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("family")
    found = {"first": trained(folder / "first", 1, FIRST)}
    found["child"] = trained(folder / "child", 9, SECOND, start=found["first"], steps=20)
    found["same seed"] = trained(folder / "twin", 1, SECOND)
    found["same run"] = trained(folder / "run", 1, FIRST)
    found["same seed and data, longer"] = trained(folder / "longer", 1, FIRST, steps=100)
    found["other seed"] = trained(folder / "other", 2, FIRST)
    return found


@pytest.mark.parametrize("one", ["child", "same seed", "same seed and data, longer", "other seed"])
@pytest.mark.parametrize("turned", [False, True])
def test_adapters_are_compared_component_by_component(family: dict[str, Path], one: str, turned: bool) -> None:
    pair = (family["first"], family[one]) if turned else (family[one], family["first"])
    prepared, found = compare(*pair)
    assert prepared.mode == "adapters"
    assert {group.name for group in found.evidence.groups} == {"lora swap", "lora sign"}
    assert found.evidence.exact
    if one == "other seed":
        assert found.relation in ("unrelated", "inconclusive")
        assert found.evidence.log10_e < 3
    else:
        assert found.evidence.log10_e > 9
        # Continued training and a second run from one seed are not told apart, so neither is called descent.
        assert found.relation in ("shared-init", "inconclusive")
        assert found.evidence.heads > 0.95 * found.evidence.coins
    assert any("mixed by a matrix" in limit for limit in found.limits)
    assert any("one seed" in limit for limit in found.limits)


def test_the_same_run_is_the_same_adapter(family: dict[str, Path]) -> None:
    _, found = compare(family["same run"], family["first"])
    assert (found.relation, found.kind) == ("derived", "adapter")


def test_a_copy_in_half_precision_is_derived(family: dict[str, Path], tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((family["first"] / name).read_bytes())
    rewrite(tmp_path, lambda tensors: {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()})
    _, found = compare(tmp_path, family["first"])
    assert (found.relation, found.kind) == ("derived", "adapter")


def test_a_remixed_copy_is_not_called_unrelated(family: dict[str, Path], tmp_path: Path) -> None:
    """An invertible matrix between the factors hides the components, and leaves the update as it is."""
    (tmp_path / "adapter_config.json").write_bytes((family["first"] / "adapter_config.json").read_bytes())
    (tmp_path / "adapter_model.safetensors").write_bytes((family["first"] / "adapter_model.safetensors").read_bytes())
    generator = torch.Generator().manual_seed(0)

    def mix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        changed = dict(tensors)
        for name in tensors:
            if "lora_A" in name:
                turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
                changed[name] = turn @ tensors[name]
                other = name.replace("lora_A", "lora_B")
                changed[other] = tensors[other] @ turn.T
        return changed

    rewrite(tmp_path, mix)
    prepared, found = compare(tmp_path, family["first"])
    assert prepared.products is not None
    assert prepared.products.product == pytest.approx(1, abs=1e-4)
    assert found.evidence.log10_e < 3
    assert found.relation == "inconclusive"
    assert "re-mixed" in found.summary


def test_decomposed_adapters_have_no_fair_coins(family: dict[str, Path], tmp_path: Path) -> None:
    """Resized adapters are decompositions: their order means something, and unrelated ones agree on it."""
    folders = []
    for name in ("first", "other seed"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / file).write_bytes((family[name] / file).read_bytes())

        def decompose(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            changed = dict(tensors)
            for key in tensors:
                if "lora_A" in key:
                    other = key.replace("lora_A", "lora_B")
                    u, s, v = torch.linalg.svd(tensors[other] @ tensors[key])
                    changed[key], changed[other] = s[:8].sqrt()[:, None] * v[:8], u[:, :8] * s[:8].sqrt()
            return changed

        rewrite(folder, decompose)
        folders.append(folder)
    prepared, found = compare(*folders)
    assert prepared.products is not None
    assert prepared.products.ordered
    assert found.relation == "inconclusive"
    assert "decomposition" in found.summary
    untouched, _ = compare(family["other seed"], family["first"])
    assert untouched.products is not None
    assert not untouched.products.ordered


def test_coins_of_independent_adapters_are_fair(tmp_path: Path) -> None:
    """Same base, same data, same order of data: only the seed of the start differs."""
    folders = [trained(tmp_path / str(seed), 100 + seed, FIRST, steps=15, r=6) for seed in range(7)]
    coins = heads = 0
    values = []
    for at, suspect in enumerate(folders):
        for base in folders[:at]:
            _, found = compare(suspect, base)
            coins += found.evidence.coins
            heads += found.evidence.heads
            values.append(found.evidence.log10_e)
            assert found.relation in ("unrelated", "inconclusive")
    assert coins > 1000
    assert abs(heads - coins / 2) < 4 * np.sqrt(coins / 4)
    assert max(values) < 3


def test_adapters_of_different_reach_share_the_modules_they_share(tmp_path: Path, family: dict[str, Path]) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((family["first"] / name).read_bytes())
    rewrite(tmp_path, lambda tensors: {name: tensor for name, tensor in tensors.items() if "q_proj" in name})
    prepared, found = compare(tmp_path, family["first"])
    assert prepared.products is not None
    assert prepared.products.modules == 2
    # Components that learned nearly the same share a coin.
    assert 20 <= found.evidence.heads == found.evidence.coins <= 2 * (8 + 4)
    # Two dozen coins cannot reach a bar of a billion.
    assert found.relation == "inconclusive"


def test_a_bare_adapter_that_fits_proves_nothing_and_that_is_said(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path / "base")
    adapt(llama(), tmp_path / "adapter", r=4, target_modules=QV)
    for place in (base, saved(llama(seed=7), tmp_path / "stranger")):
        prepared, found = compare(tmp_path / "adapter", place)
        assert (prepared.mode, found.relation, found.kind) == ("fit", "inconclusive", "adapter")
        assert "8 of 8 adapted modules fit it in name and shape, which proves nothing by itself" in found.summary
        assert any("holds no weights of its base" in limit for limit in found.limits)
        assert found.evidence.coins == 0


def test_a_misfit_is_an_error_with_the_shapes(tmp_path: Path) -> None:
    adapt(llama(), tmp_path / "adapter", r=4, target_modules=QV)
    prepared, found = compare(tmp_path / "adapter", saved(llama(hidden_size=48), tmp_path / "base"))
    assert prepared.models is None
    assert (found.relation, found.kind) == ("unrelated", None)
    declaration, _ = read_card("---\nbase_model: owner/base\n---\n")
    (finding,) = lineage_findings([found], declaration)
    assert (finding.code, finding.level) == ("LIN101", "error")
    assert (
        "does not fit it: model.layers.0.mlp.down_proj has 32 outputs and 40 inputs in the adapter and is 48x40"
        in finding.message
    )


SAVED = {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["mlp"]}


@pytest.mark.parametrize(("seed", "relation"), [(0, "derived"), (7, "unrelated")])
def test_modules_saved_whole_are_tossed_against_the_base(tmp_path: Path, seed: int, relation: str) -> None:
    torch.manual_seed(0)
    model: Any = llama(intermediate_size=160)
    train(model, FIRST, 60, 3e-3)
    base: Any = model
    if seed:
        base = llama(seed, intermediate_size=160)
        train(base, FIRST, 60, 3e-3)
    place = saved(base, tmp_path / "base")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**SAVED))
    train(wrapped, SECOND, 10, 1e-3)
    wrapped.save_pretrained(tmp_path / "adapter")
    prepared, found = compare(tmp_path / "adapter", place)
    assert prepared.mode == "saved"
    assert {group.name for group in found.evidence.groups} == {"mlp swap", "mlp sign"}
    assert found.evidence.exact
    if relation == "unrelated":
        assert found.relation in ("unrelated", "inconclusive")
        assert found.evidence.log10_e < 3
    else:
        assert found.evidence.log10_e > 9
        assert found.relation in ("derived", "inconclusive")
        assert found.evidence.heads > 0.95 * found.evidence.coins
    assert found.kind == "adapter"
    assert any("brings whole" in limit for limit in found.limits)


@pytest.mark.parametrize("rounded", [(), ("base",), ("adapter",), ("base", "adapter")])
def test_signs_of_saved_modules_are_not_tossed_where_both_are_quantised(
    tmp_path: Path, rounded: tuple[str, ...]
) -> None:
    model: Any = llama()
    saved(model, tmp_path / "base")
    adapt(model, tmp_path / "adapter", **SAVED)
    files = {"base": tmp_path / "base" / "model.safetensors", "adapter": tmp_path / "adapter" / ADAPTER_FILE}
    for name in rounded:
        eight_bits(files[name], ".mlp.")
    prepared, found = compare(tmp_path / "adapter", tmp_path / "base")
    assert prepared.mode == "saved"
    both = len(rounded) == 2
    assert {group.name for group in found.evidence.groups} == {"mlp swap", *(() if both else ("mlp sign",))}
    assert any(limit.startswith("Both models are quantised") for limit in found.limits) is both


@pytest.mark.parametrize("both", [False, True])
def test_signs_of_components_are_not_tossed_where_both_are_quantised(
    tmp_path: Path, family: dict[str, Path], both: bool
) -> None:
    folders = []
    for name in ("child", "first"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        for file in ("adapter_config.json", ADAPTER_FILE):
            (folders[-1] / file).write_bytes((family[name] / file).read_bytes())
        if both or name == "child":
            eight_bits(folders[-1] / ADAPTER_FILE, "lora_")
    _, found = compare(*folders)
    assert {group.name for group in found.evidence.groups} == {"lora swap", *(() if both else ("lora sign",))}
    assert any(limit.startswith("Both models are quantised") for limit in found.limits) is both


@pytest.mark.parametrize(("seed", "resized"), [(0, False), (0, True), (7, False)])
def test_saved_token_tables_share_the_channels_of_the_base(tmp_path: Path, seed: int, resized: bool) -> None:
    model: Any = llama()
    place = saved(llama(seed), tmp_path / "base")
    if resized:
        model.resize_token_embeddings(70, mean_resizing=False)
    tables = ["embed_tokens", "lm_head"]
    adapt(model, tmp_path / "adapter", r=4, target_modules=["q_proj"], modules_to_save=tables)
    prepared, found = compare(tmp_path / "adapter", place)
    assert prepared.mode == "saved"
    assert found.relation == "inconclusive"
    if seed:
        assert found.evidence.log10_e < 3
        assert "no trace" in found.summary
    else:
        assert found.evidence.log10_e > 9
        assert "share the base's channels" in found.summary
        assert ("a vocabulary of 70 rows against the base's 64" in found.changes) == resized


def uneven(seed: int) -> Any:
    """A model whose rows differ in norm as those of trained models do; random ones are all alike."""
    model = llama(seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "embed" not in name:
            parameter.data *= torch.exp(0.3 * torch.randn(parameter.shape[0], 1, generator=generator))
    return model


@pytest.mark.parametrize(("seed", "relation"), [(0, "derived"), (7, "inconclusive")])
def test_dora_magnitudes_carry_a_proof_of_the_base(tmp_path: Path, seed: int, relation: str) -> None:
    settings = {"r": 4, "use_dora": True, "target_modules": ["v_proj", "gate_proj", "up_proj"]}
    adapt(uneven(0), tmp_path / "adapter", **settings)
    prepared, found = compare(tmp_path / "adapter", saved(uneven(seed), tmp_path / "base"))
    coins = prepared.magnitudes
    assert (prepared.mode, found.relation, found.kind) == ("fit", relation, "adapter")
    # 40 neurons and two heads of 8 channels make 20 and 8 pairs a layer; gate and up are one unit.
    assert coins.coins == found.evidence.coins == 2 * (20 + 8)
    assert coins.correlation is not None
    assert coins.low is not None
    if relation == "derived":
        assert coins.heads > 50
        assert coins.low > FOLLOWS
    else:
        assert coins.log10_e < 2
        assert abs(coins.correlation) < 0.5
    assert any("Magnitudes of a DoRA adapter" in limit for limit in found.limits)


def test_magnitude_coins_are_fair_under_independence(tmp_path: Path) -> None:
    coins = heads = 0
    settings = {"r": 2, "use_dora": True, "target_modules": ["v_proj", "gate_proj", "up_proj"]}
    adapters = [tmp_path / f"adapter{seed}" for seed in range(4)]
    for seed, folder in enumerate(adapters):
        adapt(uneven(seed), folder, **settings)
    bases = [saved(uneven(seed), tmp_path / f"base{seed}") for seed in range(10, 16)]
    for adapter in adapters:
        for base in bases:
            prepared = prepare(opened(adapter), opened(base))
            assert prepared is not None
            coins, heads = coins + prepared.magnitudes.coins, heads + prepared.magnitudes.heads
    assert coins == 24 * 56
    assert abs(heads - coins / 2) < 4 * np.sqrt(coins / 4)


def test_exchanging_units_of_the_base_negates_their_magnitude_coins(tmp_path: Path) -> None:
    settings = {"r": 2, "use_dora": True, "target_modules": ["gate_proj", "up_proj"]}
    model = uneven(0)
    adapt(uneven(3), tmp_path / "adapter", **settings)
    before = prepare(opened(tmp_path / "adapter"), opened(saved(model, tmp_path / "base")))
    from lineage_plugin.anatomy import analyse
    from lineage_plugin.evidence.coins import draw_pairs

    base = opened(tmp_path / "base")
    group = next(g for g in analyse(base.tensors, base.config).groups if g.name == "mlp")
    pairs = draw_pairs(group.block, [0, 0xD0, group.units])
    order = torch.arange(40)
    order[torch.from_numpy(pairs[:, 0])], order[torch.from_numpy(pairs[:, 1])] = (
        torch.from_numpy(pairs[:, 1]),
        torch.from_numpy(pairs[:, 0]),
    )
    for layer in model.model.layers:
        layer.mlp.gate_proj.weight.data = layer.mlp.gate_proj.weight.data[order]
        layer.mlp.up_proj.weight.data = layer.mlp.up_proj.weight.data[order]
        layer.mlp.down_proj.weight.data = layer.mlp.down_proj.weight.data[:, order]
    after = prepare(opened(tmp_path / "adapter"), opened(saved(model, tmp_path / "turned")))
    assert before is not None
    assert after is not None
    assert after.magnitudes.coins == before.magnitudes.coins == 40
    assert after.magnitudes.heads == 40 - before.magnitudes.heads


def test_a_model_against_an_adapter_is_sent_to_base_and_adapter(tmp_path: Path) -> None:
    adapt(llama(), tmp_path / "adapter", r=4, target_modules=QV)
    prepared, found = compare(saved(llama(), tmp_path / "model"), tmp_path / "adapter")
    assert (prepared.mode, found.relation, found.kind) == ("base-is-adapter", "inconclusive", None)
    assert "the adapter's own base" in found.summary
    assert any("merged" in limit for limit in found.limits)


def test_two_models_are_no_adapters(tmp_path: Path) -> None:
    place = saved(llama(), tmp_path)
    assert prepare(opened(place), opened(place)) is None


@pytest.mark.parametrize("make", [gpt2, mixtral])
def test_other_architectures_go_through(tmp_path: Path, make: Any) -> None:
    targets = {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True, "modules_to_save": ["mlp"]}
    if make is mixtral:
        targets = {"r": 4, "target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}
    place = saved(make(), tmp_path / "base")
    adapt(make(), tmp_path / "adapter", **targets)
    prepared, found = compare(tmp_path / "adapter", place)
    assert prepared.fit is not None
    assert not prepared.fit.refuted
    assert found.relation != "unrelated"
    again, pair = compare(tmp_path / "adapter", tmp_path / "adapter")
    assert again.mode == "adapters"
    assert pair.evidence.heads == pair.evidence.coins > 0


def test_prompts_of_another_width_refute_the_base(tmp_path: Path) -> None:
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    peft.get_peft_model(llama(), config).save_pretrained(tmp_path / "adapter")
    assert compare(tmp_path / "adapter", saved(llama(), tmp_path / "base"))[1].relation == "inconclusive"
    _, found = compare(tmp_path / "adapter", saved(llama(hidden_size=48), tmp_path / "wide"))
    assert found.relation == "unrelated"
    assert "virtual tokens have a width of 32, and the base has 48" in found.summary


@pytest.mark.parametrize(
    ("named", "declared", "copy"),
    [
        ("unsloth/llama-3-8b-bnb-4bit", "meta-llama/Meta-Llama-3-8B", True),
        ("mirror/base", "owner/base", True),
        ("owner/base-GPTQ", "owner/base", True),
        ("owner/base-instruct", "owner/base", False),
        ("other/thing", "owner/base", False),
        ("owner/base-14b", "owner/base-4b", False),
    ],
)
def test_copies_are_told_by_their_names(named: str, declared: str, copy: bool) -> None:
    assert copy_by_name(named, declared) == copy


def test_revisions_that_differ_are_said() -> None:
    config = '{"base_model_name_or_path": "owner/base", "revision": "aaaa"}'
    settings = parse_settings(config.encode(), where="adapter_config.json")
    declaration, _ = read_card("---\nbase_model: owner/base\nbase_model_revision: bbbb\n---\n", adapter_config=config)
    (found,) = revisions_differ(declaration, settings)
    assert "pins owner/base to aaaa, and the card to bbbb" in found.message


def test_unusable_claims_are_limits(tmp_path: Path) -> None:
    adapt(llama(), tmp_path / "adapter", r=4, target_modules=QV)
    reconfigure(tmp_path / "adapter", lora_alpha="much")
    _, found = compare(tmp_path / "adapter", saved(llama(), tmp_path / "base"))
    assert any("lora_alpha" in limit for limit in found.limits)
