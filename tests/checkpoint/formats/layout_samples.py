"""Tiny models in the layouts of safetensors weights that people upload.

Written by the real libraries, except where it says "by hand": Mistral's and Meta's own layouts have no writer here and
follow transformers' ``convert_mistral_weights_to_hf.py`` and ``convert_llama_weights_to_hf.py`` (v4.57), backwards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HEADS, KV_HEADS, HEAD = 4, 2, 8
HIDDEN, MLP, VOCABULARY = 24, 40, 64


def llama(seed: int = 0, **more: Any) -> Any:
    """A Llama whose heads are wider than its hidden size has them, as in Mistral Nemo."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | more)))


def _single(folder: Path) -> None:
    llama().save_pretrained(folder)


def _sharded(folder: Path) -> None:
    llama().save_pretrained(folder, max_shard_size="24KB")


def _tied(folder: Path) -> None:
    llama(tie_word_embeddings=True).save_pretrained(folder)


def _bf16(folder: Path) -> None:
    llama().to(torch.bfloat16).save_pretrained(folder)


def _variants(folder: Path) -> None:
    model = llama()
    model.save_pretrained(folder)
    model.half().save_pretrained(folder, variant="fp16")


def _sharded_variants(folder: Path) -> None:
    model = llama()
    model.save_pretrained(folder, max_shard_size="24KB")
    model.half().save_pretrained(folder, variant="fp16", max_shard_size="12KB")


def _below(folder: Path) -> None:
    """By hand: an index at the top whose shards lie in a folder."""
    llama().save_pretrained(folder, max_shard_size="24KB")
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"] = {name: f"weights/{file}" for name, file in document["weight_map"].items()}
    index.write_text(json.dumps(document))
    (folder / "weights").mkdir()
    for file in sorted(folder.glob("*.safetensors")):
        file.rename(folder / "weights" / file.name)


def original_names(tensors: Mapping[str, torch.Tensor], head: int | None = None) -> dict[str, torch.Tensor]:
    """Bring a transformers state into Mistral's names and row order; ``head`` is the width of a head."""
    head = head or HEAD
    top = {"model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output"}
    inside = {
        "self_attn.q_proj": "attention.wq",
        "self_attn.k_proj": "attention.wk",
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    found = {}
    for name, tensor in tensors.items():
        stem = name.removesuffix(".weight")
        if stem in top:
            found[f"{top[stem]}.weight"] = tensor
            continue
        _, _, layer, rest = stem.split(".", 3)
        new = inside.get(rest, rest.replace("block_sparse_moe", "feed_forward"))
        if rest in ("self_attn.q_proj", "self_attn.k_proj"):
            # view(heads, 2, half).transpose is what permute() and permute_for_rope() undo.
            heads = tensor.shape[0] // head
            tensor = tensor.view(heads, 2, head // 2, -1).transpose(1, 2).reshape(tensor.shape).contiguous()
        found[f"layers.{layer}.{new}.weight"] = tensor
    return found


MISTRAL_PARAMS = {
    "dim": HIDDEN,
    "n_layers": 2,
    "head_dim": HEAD,
    "hidden_dim": MLP,
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "norm_eps": 1e-05,
    "vocab_size": VOCABULARY,
    "rope_theta": 1000000.0,
}


def _consolidated(folder: Path) -> None:
    """By hand."""
    save_file(original_names(llama().state_dict()), folder / "consolidated.safetensors")
    (folder / "params.json").write_text(json.dumps(MISTRAL_PARAMS))


def _consolidated_moe(folder: Path) -> None:
    """By hand, from a Mixtral stored expert by expert as transformers 4 did."""
    state = {name: t for name, t in llama().state_dict().items() if ".mlp." not in name}
    generator = torch.Generator().manual_seed(3)
    for layer in range(2):
        start = f"model.layers.{layer}.block_sparse_moe"
        state[f"{start}.gate.weight"] = torch.randn(3, HIDDEN, generator=generator)
        for expert in range(3):
            for name, shape in (("w1", (MLP, HIDDEN)), ("w2", (HIDDEN, MLP)), ("w3", (MLP, HIDDEN))):
                state[f"{start}.experts.{expert}.{name}.weight"] = torch.randn(shape, generator=generator)
    save_file(original_names(state), folder / "consolidated.safetensors")
    params = {**MISTRAL_PARAMS, "moe": {"num_experts_per_tok": 2, "num_experts": 3}}
    (folder / "params.json").write_text(json.dumps(params))


def _mixed(folder: Path) -> None:
    """Every float that is read, in one file, as mixed-precision exports have it."""
    generator = torch.Generator().manual_seed(1)
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    tensors = {f"w{i}": torch.randn(6, 5, generator=generator).to(kind) for i, kind in enumerate(kinds)}
    save_file(tensors, folder / "model.safetensors")


def stable_diffusion(seed: int) -> Any:
    """A pipeline of a U-Net, a VAE and a text encoder."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=2,
        attention_head_dim=4,
    )
    vae = AutoencoderKL(block_out_channels=(4,), latent_channels=4, norm_num_groups=2)
    text = CLIPTextConfig(
        hidden_size=8,
        intermediate_size=12,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=40,
        max_position_embeddings=12,
        projection_dim=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=None,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _pipeline(folder: Path) -> None:
    pipeline = stable_diffusion(0)
    pipeline.save_pretrained(folder)
    pipeline.to(torch.float16).save_pretrained(folder, variant="fp16")


def _pipeline_sharded(folder: Path) -> None:
    stable_diffusion(0).save_pretrained(folder, max_shard_size="16KB")


def _sentence(folder: Path, *, below: bool = False) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    encoder = folder / "encoder"
    BertModel(
        BertConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=12,
            vocab_size=8,
            max_position_embeddings=8,
        )
    ).save_pretrained(encoder)
    (encoder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]))
    BertTokenizerFast(str(encoder / "vocab.txt")).save_pretrained(encoder)
    chain = [modules.Transformer(str(encoder)), modules.Pooling(8), modules.Dense(8, 6)]
    SentenceTransformer(modules=chain, device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(encoder)
    if below:
        # By hand: where the library had put the encoder until its version 0.4.
        names = [p.name for p in folder.iterdir() if p.is_file() and p.name != "modules.json"]
        (folder / "0_Transformer").mkdir()
        for name in names:
            (folder / name).rename(folder / "0_Transformer" / name)
        document = json.loads((folder / "modules.json").read_text())
        document[0]["path"] = "0_Transformer"
        (folder / "modules.json").write_text(json.dumps(document))


def _sentence_below(folder: Path) -> None:
    _sentence(folder, below=True)


def _single_files(folder: Path) -> None:
    """By hand: one checkpoint in three precisions, as for ComfyUI."""
    state = llama().state_dict()
    save_file(state, folder / "dream-v2.safetensors")
    save_file({n: t.half() for n, t in state.items()}, folder / "dream-v2_fp16.safetensors")
    save_file({n: t.to(torch.float8_e4m3fn) for n, t in state.items()}, folder / "dream-v2-fp8_e4m3fn.safetensors")


SAMPLES: dict[str, Callable[[Path], None]] = {
    "single": _single,
    "sharded": _sharded,
    "tied": _tied,
    "bf16": _bf16,
    "variants": _variants,
    "sharded_variants": _sharded_variants,
    "shards_in_a_folder": _below,
    "consolidated": _consolidated,
    "consolidated_moe": _consolidated_moe,
    "mixed": _mixed,
    "pipeline": _pipeline,
    "pipeline_sharded": _pipeline_sharded,
    "sentence": _sentence,
    "sentence_below": _sentence_below,
    "single_files": _single_files,
}


def stored(folder: Path, *files: str) -> dict[str, torch.Tensor]:
    """What the files of a folder hold, by safetensors itself."""
    found: dict[str, torch.Tensor] = {}
    for file in files or sorted(p.name for p in folder.glob("*.safetensors")):
        found |= load_file(folder / file)
    return found
