"""A scrub rewrites weights and leaves what a real model computes as it was."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.scrubs import SCRUBS, load, save, scrub
from tests.anatomy.models import VOCABULARY, build, saved

MODELS = [
    "llama", "llama tied", "mistral", "qwen2", "qwen3", "gemma", "phi3", "phi3 partial", "mixtral", "qwen3_moe", "gpt2",
    "gpt_neox", "starcoder2", "cohere",
]  # fmt: skip
SINGLY = ["llama tied", "qwen2", "qwen3", "phi3 partial", "gpt2", "gpt_neox"]
TOKENS = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(3))


def logits(model: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits.numpy()


def run(folder: Path, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """Logits of the saved model; every weight must come from the file."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", experts_implementation="eager", dtype=dtype, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return logits(model.eval())


@cache
def before(name: str) -> np.ndarray:
    return logits(build(name))


def scrubbed(name: str, which: list[str], folder: Path, seed: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    checkpoint = saved(name)
    changed = scrub(checkpoint.tensors, checkpoint.config, which, seed)
    save(folder, changed, checkpoint.config)
    return changed, run(folder)


def differing(name: str, changed: dict[str, np.ndarray]) -> set[str]:
    old = saved(name).tensors
    return {key for key in changed if key not in old or not np.allclose(old[key], changed[key], atol=1e-9)}


@pytest.mark.parametrize(
    ("name", "which"),
    [(name, [kind]) for name in SINGLY for kind in SCRUBS] + [(name, list(SCRUBS)) for name in MODELS],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_outputs_stay_and_weights_change(name: str, which: list[str], tmp_path: Path) -> None:
    changed, after = scrubbed(name, which, tmp_path)
    assert before(name).std() > 1e-3
    # Models compute their norms in float32 even where everything else is float64.
    tolerance = 2e-6 if {"residual", "rotate"} & set(which) else 1e-9
    assert np.abs(after - before(name)).max() < tolerance * np.abs(before(name)).max()
    moved = differing(name, changed)
    matrices = {key for key, tensor in saved(name).tensors.items() if tensor.ndim > 1}
    if len(which) > 1 or which[0] in ("residual", "rotate"):
        assert matrices <= moved
    else:
        assert len(moved & matrices) >= (2 if which[0] == "value-mix" or name in ("gpt2", "gpt_neox") else 3)
    shapes = {key: tensor.shape for key, tensor in saved(name).tensors.items()}
    assert {key: changed[key].shape for key in shapes} == shapes


@pytest.mark.parametrize("name", ["gemma2", "olmo2"])
def test_what_cannot_be_done_exactly_is_refused(name: str) -> None:
    checkpoint = saved(name)
    with pytest.raises(ValueError, match=r"cannot be rotated|not accounted for"):
        scrub(checkpoint.tensors, checkpoint.config, ["rotate"], 0)


def test_post_norms_allow_everything_but_rotations(tmp_path: Path) -> None:
    _, after = scrubbed("gemma2", [kind for kind in SCRUBS if kind != "rotate"], tmp_path)
    assert np.abs(after - before("gemma2")).max() < 2e-6 * np.abs(before("gemma2")).max()


@pytest.mark.parametrize("name", ["bert", "whisper", "gpt_oss"])
def test_other_layouts_are_refused(name: str) -> None:
    checkpoint = saved(name)
    with pytest.raises(ValueError, match=r"not known well enough|not accounted for"):
        scrub(checkpoint.tensors, checkpoint.config, ["signs"], 0)


def test_tensors_that_are_not_accounted_for_are_refused() -> None:
    checkpoint = saved("llama")
    extra = checkpoint.tensors | {"model.adapter.weight": np.ones((32, 32))}
    with pytest.raises(ValueError, match=r"not accounted for: model\.adapter\.weight"):
        scrub(extra, checkpoint.config, ["residual"], 0)


def test_unknown_scrubs_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown scrubs"):
        scrub({}, {}, ["shuffle"], 0)


def test_the_draw_depends_on_the_seed_alone() -> None:
    checkpoint = saved("llama")
    one, again, other = (scrub(checkpoint.tensors, checkpoint.config, SCRUBS, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[key], again[key]) for key in one)
    assert not np.array_equal(one["lm_head.weight"], other["lm_head.weight"])


def test_the_input_is_left_alone() -> None:
    checkpoint = saved("qwen2")
    copies = {key: tensor.copy() for key, tensor in checkpoint.tensors.items()}
    scrub(checkpoint.tensors, checkpoint.config, SCRUBS, 4)
    assert all(np.array_equal(checkpoint.tensors[key], copies[key]) for key in copies)


def test_heads_stay_with_their_queries_and_rotary_pairs_in_place() -> None:
    """Seen from the outside: each new key head is one of the old ones, with both of its query heads."""
    checkpoint = saved("mistral")
    changed = scrub(checkpoint.tensors, checkpoint.config, ["permute"], 5)
    at = "model.layers.0.self_attn."
    old, new = ((t[at + "q_proj.weight"].reshape(2, 2, 12, 32), t[at + "k_proj.weight"].reshape(2, 12, 32))
                for t in (checkpoint.tensors, changed))  # fmt: skip
    moved = [next(h for h in range(2) if np.array_equal(old[1][h], new[1][g])) for g in range(2)]
    assert sorted(moved) == [0, 1]
    assert all(np.array_equal(new[0][g], old[0][h]) for g, h in enumerate(moved))


@pytest.mark.parametrize("name", ["llama tied", "gpt2"])
def test_the_command_line_and_float32(name: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    checkpoint = saved(name)
    save(source, {key: tensor.astype(np.float32) for key, tensor in checkpoint.tensors.items()}, checkpoint.config)
    (source / "README.md").write_text("a card")
    command = [sys.executable, "-m", "benchmarks.scrubs", str(source), str(target), "--seed", "2"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    assert (target / "README.md").read_text() == "a card"
    tensors, config = load(target)
    assert config["tie_word_embeddings"] is False
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    was, now = run(source, torch.float32), run(target, torch.float32)
    assert np.abs(was - now).max() < 1e-3 * np.abs(was).max()
