"""Every layout of safetensors weights: what is taken, under which names, and what is said about the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.errors import InputError, UnreadableCheckpoint
from tests.checkpoint.builders import expected, random_selections
from tests.hub import LocalHub

from .layout_samples import HEAD, HEADS, MISTRAL_PARAMS, SAMPLES, llama, original_names, stored

ZOO = Path(os.environ.get("LINEAGE_ZOO", Path(__file__).parents[4] / "shared" / "zoo"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All samples, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("samples")
    for name, write in SAMPLES.items():
        (folder / name).mkdir()
        write(folder / name)
    return {name: folder / name for name in SAMPLES}


def check(checkpoint: StoredCheckpoint, tensors: Mapping[str, torch.Tensor], seed: int = 0) -> None:
    """All names and shapes, and any rows and columns, are those of the reference."""
    assert {n: t.shape for n, t in checkpoint.tensors.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    selections = list(random_selections(tensors, seed))
    for selection, found in zip(selections, checkpoint.read(selections), strict=True):
        np.testing.assert_array_equal(found, expected(tensors[selection.tensor], selection))


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


# One model -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["single", "sharded", "bf16", "tied", "mixed"])
def test_plain_layouts(samples: dict[str, Path], name: str) -> None:
    checkpoint = open_local(samples[name])
    check(checkpoint, stored(samples[name]))
    assert checkpoint.notes == ()


def test_tied_weights_are_there_once(samples: dict[str, Path]) -> None:
    tied = open_local(samples["tied"])
    assert "lm_head.weight" not in tied.tensors
    assert analyse(tied.tensors, tied.config).stream is not None


def test_shards_may_lie_in_a_folder(samples: dict[str, Path]) -> None:
    folder = samples["shards_in_a_folder"]
    checkpoint = open_local(folder)
    assert {name.split("/")[0] for name in checkpoint.weight_files} == {"weights"}
    check(checkpoint, stored(folder / "weights"))


@pytest.mark.parametrize("name", ["variants", "sharded_variants", "single_files"])
def test_the_variant_that_loaders_take_is_taken(samples: dict[str, Path], name: str) -> None:
    checkpoint = open_local(samples[name])
    check(checkpoint, {k: t.detach() for k, t in llama().state_dict().items()})
    assert len(checkpoint.notes) == (2 if name == "single_files" else 1)
    assert all("left aside" in note and "variant" in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["model.fp16.safetensors"], "model.fp16.safetensors"),
        (["model.bf16.safetensors", "model.fp16.safetensors"], "model.fp16.safetensors"),
        (["model.fp16.safetensors", "model.fp32.safetensors"], "model.fp32.safetensors"),
        (["model.non_ema.safetensors", "model.fp16.safetensors"], "model.fp16.safetensors"),
        (["model.safetensors", "model.non_ema.safetensors"], "model.safetensors"),
        (["model.safetensors", "model.fp32.safetensors"], "model.safetensors"),
        (["diffusion_pytorch_model.safetensors", "model.safetensors"], "model.safetensors"),
        (["diffusion_pytorch_model.fp16.safetensors", "other.safetensors"], "diffusion_pytorch_model.fp16.safetensors"),
        (["wan_bf16.safetensors", "wan_fp8_e4m3fn_scaled.safetensors"], "wan_bf16.safetensors"),
        (["flux1-dev-fp8.safetensors", "flux1-dev.safetensors"], "flux1-dev.safetensors"),
        (["adapter_model.safetensors", "x.safetensors"], "x.safetensors"),
        (["model.fp16.safetensors", "model-00001-of-00002.safetensors"], "model.fp16.safetensors"),
        (["model.fp16.safetensors", "model.safetensors.index.json"], "model.fp16.safetensors"),
        (["model.safetensors", "model.safetensors.index.json"], "model.safetensors"),
        (["model.fp16-00001-of-00001.safetensors"], "model.fp16-00001-of-00001.safetensors"),
        (["model-00001-of-00001.fp16.safetensors"], "model-00001-of-00001.fp16.safetensors"),
        (["optimizer.safetensors", "x.safetensors"], "x.safetensors"),
    ],
)
def test_which_of_several_copies_is_taken(tmp_path: Path, files: list[str], taken: str) -> None:
    for number, file in enumerate(files):
        if file.endswith(".json"):
            (tmp_path / file).write_text('{"weight_map": {"w": "model-00001-of-00001.safetensors"}}')
        else:
            save_file({"w": torch.full((2,), float(number))}, tmp_path / file)
    checkpoint = open_local(tmp_path)
    assert checkpoint.weight_files == (taken,)
    assert checkpoint.read([Selection("w")])[0][0, 0] == files.index(taken)


@pytest.mark.parametrize("index", ["model.safetensors.index.fp16.json", "model.safetensors.fp16.index.json"])
def test_both_spellings_of_a_variants_index(tmp_path: Path, index: str) -> None:
    shards = {"a": "model.fp16-00001-of-00002.safetensors", "b": "model.fp16-00002-of-00002.safetensors"}
    for name, file in shards.items():
        save_file({name: torch.ones(2)}, tmp_path / file)
    (tmp_path / index).write_text(json.dumps({"weight_map": {"a": shards["a"], "b": shards["a"]}}))
    with pytest.raises(UnreadableCheckpoint, match="promises the tensor 'b'"):
        open_local(tmp_path)
    (tmp_path / index).write_text(json.dumps({"weight_map": shards}))
    assert set(open_local(tmp_path).tensors) == {"a", "b"}


def test_what_an_earlier_upload_left_beside_an_index_does_not_matter(samples: dict[str, Path], tmp_path: Path) -> None:
    for path in samples["sharded"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file({"old": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    assert "old" not in open_local(tmp_path).tensors
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(UnreadableCheckpoint, match="model-00002-of-00002"):
        open_local(tmp_path)


def test_files_that_collide_are_named_as_they_can_be_given(tmp_path: Path) -> None:
    for name in ("style-a", "style-b"):
        save_file({"lora.down": torch.ones(2, 2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(UnreadableCheckpoint, match="both hold") as caught:
        open_local(tmp_path)
    assert f"{tmp_path}/style-b.safetensors" in str(caught.value)


def test_a_header_of_640_bytes_is_no_pickle(tmp_path: Path) -> None:
    """Its length field begins as a pickle of protocol 2 does."""
    for size in (0x280, 0x380, 0x480, 0x580):
        body = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(size)
        path = tmp_path / f"{size}.safetensors"
        path.write_bytes(size.to_bytes(8, "little") + body + np.float32(7).tobytes())
        assert open_local(path).read([Selection("w")])[0][0, 0] == 7


# Meta's and Mistral's names ------------------------------------------------------------------------------------------


def rotary_scores(query: np.ndarray, key: np.ndarray, *, interleaved: bool) -> np.ndarray:
    """Attention scores of one head at distance 3, by either convention (arXiv:2104.09864)."""
    half = query.shape[0] // 2
    angles = 3.0 * 10000.0 ** (-np.arange(half) / half)
    first, second = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(0, half), slice(half, None))
    turned = np.empty_like(query)
    turned[first] = query[first] * np.cos(angles)[:, None] - query[second] * np.sin(angles)[:, None]
    turned[second] = query[first] * np.sin(angles)[:, None] + query[second] * np.cos(angles)[:, None]
    return np.asarray(turned.T @ key)


def test_consolidated_weights_read_as_transformers_has_them(samples: dict[str, Path]) -> None:
    folder = samples["consolidated"]
    checkpoint = open_local(folder)
    check(checkpoint, {name: tensor.detach() for name, tensor in llama().state_dict().items()})
    assert checkpoint.config["model_type"] == "mistral"
    assert any("as transformers has them" in note for note in checkpoint.notes)
    # The order is not a matter of names: as stored, with the interleaved convention, the scores are the same.
    raw = load_file(folder / "consolidated.safetensors")
    q, k = (raw[f"layers.1.attention.w{x}.weight"].numpy()[:HEAD].astype(np.float64) for x in "qk")
    q2, k2 = checkpoint.read(
        [Selection(f"model.layers.1.self_attn.{x}_proj.weight", rows=np.arange(HEAD)) for x in "qk"]
    )
    same = rotary_scores(q, k, interleaved=True)
    np.testing.assert_allclose(rotary_scores(q2.astype(np.float64), k2, interleaved=False), same, atol=1e-9)


def test_consolidated_anatomy_is_that_of_the_transformers_copy(samples: dict[str, Path]) -> None:
    ours, theirs = open_local(samples["consolidated"]), open_local(samples["single"])
    one, other = analyse(ours.tensors, ours.config), analyse(theirs.tensors, theirs.config)
    assert one.family == other.family == "llama"
    assert [(g.name, g.layer) for g in one.groups] == [(g.name, g.layer) for g in other.groups]
    assert len(one.groups) > 4
    moe = open_local(samples["consolidated_moe"])
    assert moe.config["model_type"] == "mixtral"
    assert analyse(moe.tensors, moe.config).family == "mixtral"


@pytest.mark.parametrize(
    "params", [None, {}, {"n_heads": 3}, {"n_heads": 1 << 40}, {"n_heads": "4"}, {"n_heads": True}]
)
def test_without_the_heads_queries_and_keys_stay_as_they_are(tmp_path: Path, params: object) -> None:
    state = original_names({n: t.detach() for n, t in llama().state_dict().items()})
    save_file(state, tmp_path / "consolidated.safetensors")
    if params is not None:
        (tmp_path / "params.json").write_text(json.dumps(params))
    checkpoint = open_local(tmp_path)
    assert "model.layers.0.mlp.up_proj.weight" in checkpoint.tensors
    assert "model.layers.0.self_attn.q_proj.weight" not in checkpoint.tensors
    (found,) = checkpoint.read([Selection("layers.0.attention.wq.weight")])
    np.testing.assert_array_equal(found, state["layers.0.attention.wq.weight"].numpy())
    assert any("Queries and keys stayed" in note for note in checkpoint.notes)
    # The number of heads may also come from transformers' settings.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "num_attention_heads": HEADS}))
    if params is None or "n_heads" not in params or params["n_heads"] != 3:  # type: ignore[operator,index]
        check(open_local(tmp_path), {n: t.detach() for n, t in llama().state_dict().items()})


@pytest.mark.parametrize("params", ["[1]", "{", "[" * 100_000])
def test_damaged_params_are_one_line(tmp_path: Path, params: str) -> None:
    save_file(original_names(dict(llama().state_dict())), tmp_path / "consolidated.safetensors")
    (tmp_path / "params.json").write_text(params)
    with pytest.raises(UnreadableCheckpoint, match=r"params\.json") as caught:
        open_local(tmp_path)
    assert str(caught.value).isprintable()


def test_meta_settings_below_model_and_names_that_only_look_alike(tmp_path: Path) -> None:
    state = original_names(dict(llama().state_dict()))
    save_file(state, tmp_path / "consolidated.safetensors")
    meta = {k: v for k, v in MISTRAL_PARAMS.items() if k != "hidden_dim"}
    (tmp_path / "params.json").write_text(json.dumps({"model": meta | {"multiple_of": 256}}))
    assert open_local(tmp_path).config["model_type"] == "llama"
    del state["tok_embeddings.weight"]
    save_file(state, tmp_path / "consolidated.safetensors")
    assert set(open_local(tmp_path).tensors) == set(state)


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs the trained models")
def test_a_consolidated_child_is_derived_from_its_transformers_base(tmp_path: Path) -> None:
    from lineage_plugin import compare

    config = json.loads((ZOO / "atlas-docs" / "config.json").read_text())
    head = config["hidden_size"] // config["num_attention_heads"]
    for name, relation in (("atlas-docs", "derived"), ("boreas", "unrelated")):
        folder = tmp_path / name
        folder.mkdir()
        state = load_file(ZOO / name / "model.safetensors")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.checkpoint.formats.layout_samples.HEAD", head)
            save_file(original_names(state), folder / "consolidated.safetensors")
        params = {
            "dim": config["hidden_size"],
            "n_layers": config["num_hidden_layers"],
            "n_heads": config["num_attention_heads"],
            "n_kv_heads": config["num_key_value_heads"],
            "hidden_dim": config["intermediate_size"],
            "vocab_size": config["vocab_size"],
        }
        (folder / "params.json").write_text(json.dumps(params))
        (found,) = compare(str(folder), str(ZOO / "atlas")).comparisons
        assert found.relation == relation
        if relation == "derived":
            # Queries and keys agree with the base's only when their rows are in order.
            kinds = {group.name: group for group in found.evidence.groups}
            assert any(name.startswith("query-key") for name in kinds)
            assert all(kind.heads > 0.9 * kind.coins for name, kind in kinds.items() if name.startswith("query-key"))


# Several models in one repository ------------------------------------------------------------------------------------


def test_a_pipeline_is_read_component_by_component(samples: dict[str, Path]) -> None:
    for name in ("pipeline", "pipeline_sharded"):
        folder = samples[name]
        checkpoint = open_local(folder)
        tensors: dict[str, torch.Tensor] = {}
        for part in ("text_encoder", "unet", "vae"):
            files = [p.name for p in (folder / part).glob("*.safetensors") if "fp16" not in p.name]
            tensors |= prefixed(part, stored(folder / part, *files))
        check(checkpoint, tensors)
        assert checkpoint.config["_class_name"] == "StableDiffusionPipeline"
        anatomy = analyse(checkpoint.tensors, checkpoint.config, part="text_encoder")
        assert anatomy.family == "clip"
        # The number of heads is in the component's own settings.
        assert {g.name for g in anatomy.groups} >= {"mlp", "query-key", "value"}
        notes = " ".join(checkpoint.notes)
        assert ("unet: 'diffusion_pytorch_model.fp16.safetensors' was left aside" in notes) == (name == "pipeline")


def test_only_the_components_that_are_named_count(samples: dict[str, Path], tmp_path: Path) -> None:
    copy(samples["pipeline_sharded"], tmp_path)
    (tmp_path / "checkpoint-500").mkdir()
    save_file({"w": torch.ones(2)}, tmp_path / "checkpoint-500" / "model.safetensors")
    save_file({"w": torch.ones(2)}, tmp_path / "whole.safetensors")
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["vae"] = [None, None]
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (tmp_path / "safety_checker").mkdir()
    (tmp_path / "safety_checker" / "pytorch_model.bin").write_bytes(b"PK\3\4")
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    checkpoint = open_local(tmp_path)
    assert {name.split(".")[0] for name in checkpoint.tensors} == {"unet", "text_encoder"}
    assert [note for note in checkpoint.notes if "checkpoint-500" in note and "'vae' were left aside" in note]
    assert [note for note in checkpoint.notes if "'safety_checker' was left aside" in note]


def test_sentence_transformers_with_its_dense_layer(samples: dict[str, Path]) -> None:
    for name, encoder in (("sentence", ""), ("sentence_below", "0_Transformer")):
        folder = samples[name]
        checkpoint = open_local(folder)
        dense = prefixed("2_Dense", load_file(folder / "2_Dense" / "model.safetensors"))
        assert len(dense) == 2
        check(checkpoint, load_file(folder / encoder / "model.safetensors") | dense)
        assert checkpoint.config["model_type"] == "bert"
        assert analyse(checkpoint.tensors, checkpoint.config).family == "bert"


def copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("guide", "content", "phrase"),
    [
        ("model_index.json", "{", "not valid JSON"),
        ("model_index.json", "[]", "no list of components"),
        ("model_index.json", '{"_class_name": "X"}', "none of the folders"),
        ("model_index.json", '{"unet": [null, null]}', "none of the folders"),
        ("model_index.json", "[" * 100_000, "not valid JSON"),
        ("model_index.json", " " * (2 << 20), "larger"),
        ("modules.json", "{}", "no list of components"),
        ("modules.json", '[{"path": 3}, 4, null]', "none of the folders"),
    ],
)
def test_damaged_lists_of_components_are_one_line(tmp_path: Path, guide: str, content: str, phrase: str) -> None:
    (tmp_path / guide).write_text(content)
    for name in ("unet", "0_Transformer", "1_Dense"):
        (tmp_path / name).mkdir()
        save_file({"w": torch.ones(2)}, tmp_path / name / "model.safetensors")
    with pytest.raises(UnreadableCheckpoint, match=phrase) as caught:
        open_local(tmp_path)
    assert guide in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("files", "phrase"),
    [
        (["model_index.json", "unet/diffusion_pytorch_model-00001-of-00002.safetensors"], "00002-of-00002"),
        (["split_files/vae/ae.safetensors", "split_files/unet/x.safetensors"], "split_files/unet/x.safetensors"),
        (["checkpoint-1/model.safetensors", "checkpoint-2/model.safetensors"], "checkpoint-1/model.safetensors"),
        (["README.md"], "there are no weights"),
        (["README.md", "data/train-00000-of-00001.parquet"], "there are no weights"),
        ([], "the folder is empty"),
    ],
)
def test_folders_without_a_model_are_one_line(tmp_path: Path, files: list[str], phrase: str) -> None:
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".safetensors"):
            save_file({"w": torch.ones(2)}, path)
        else:
            path.write_text("{}")
    with pytest.raises(InputError, match=phrase) as caught:
        open_local(tmp_path)
    assert str(caught.value).isprintable()


# Over the Hub --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["consolidated", "pipeline", "pipeline_sharded", "sentence", "sharded_variants"])
def test_the_hub_gives_the_same(samples: dict[str, Path], name: str) -> None:
    with LocalHub(samples[name].parent, mounts={"o/n": samples[name]}) as hub:
        here, there = open_local(samples[name]), open_hub("o/n", endpoint=hub.endpoint)
        assert dict(here.config) == dict(there.config)
        assert here.notes == there.notes
        assert list(here.tensors.values()) == list(there.tensors.values())
        picks = [Selection(tensor, rows=np.array([0])) for tensor, info in here.tensors.items() if info.size]
        for one, other in zip(here.read(picks), there.read(picks), strict=True):
            np.testing.assert_array_equal(one, other)
        cost = there.cost()
        assert cost.requests == hub.log.requests()
        assert not hub.errors


def test_metas_own_pickle_is_read_as_transformers_has_it(tmp_path: Path) -> None:
    """``consolidated.00.pth``: another format, the same names."""
    torch.save(
        original_names({n: t.detach() for n, t in llama().state_dict().items()}), tmp_path / "consolidated.00.pth"
    )
    (tmp_path / "params.json").write_text(json.dumps(MISTRAL_PARAMS))
    checkpoint = open_local(tmp_path)
    assert checkpoint.format != "safetensors"
    check(checkpoint, {n: t.detach() for n, t in llama().state_dict().items()})
