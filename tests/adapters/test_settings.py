"""adapter_config.json: claims of strangers, parsed and never obeyed."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import peft
import pytest
from peft.utils.other import get_pattern_key

from lineage_plugin.adapters import contradictions, fits, is_adapter, parse_settings, parts_of, read_settings
from lineage_plugin.adapters.prepare import prepare
from lineage_plugin.adapters.settings import AdapterSettings, matches
from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.errors import InputError, UnreadableCheckpoint
from lineage_plugin.options import Options
from tests.adapters.builders import adapt, llama, opened, saved
from tests.checkpoint.formats.adapter_samples import SAMPLES


def parsed(**values: object) -> AdapterSettings:
    return parse_settings(json.dumps(values).encode(), where="adapter_config.json")


def test_what_peft_writes_is_read(tmp_path: Path) -> None:
    config = peft.LoraConfig(
        base_model_name_or_path="owner/base",
        revision="abc",
        task_type="CAUSAL_LM",
        r=6,
        lora_alpha=18,
        use_rslora=True,
        use_dora=True,
        fan_in_fan_out=True,
        target_modules=["q_proj"],
        rank_pattern={"layers.0.q_proj": 12},
        alpha_pattern={"layers.0.q_proj": 3},
        layers_to_transform=[2, 0],
        layer_replication=[(0, 2), (1, 2)],
        modules_to_save=["lm_head"],
        init_lora_weights="gaussian",
    )
    config.save_pretrained(tmp_path)
    found = parse_settings((tmp_path / "adapter_config.json").read_bytes(), where="here")
    assert (found.method, found.base, found.revision, found.task) == ("LORA", "owner/base", "abc", "CAUSAL_LM")
    assert (found.rank, found.alpha, found.rslora, found.dora, found.transposed) == (6, 18.0, True, True, True)
    assert (found.layers, found.replication, found.saved) == ((0, 2), ((0, 2), (1, 2)), ("lm_head",))
    assert (found.targets, found.start, found.random_start, found.problems) == (("q_proj",), "gaussian", True, ())
    assert found.rank_of("model.layers.0.q_proj") == 12
    assert found.rank_of("model.layers.1.q_proj") == 6
    assert found.scale_of("model.layers.0.q_proj", 12) == 3 / math.sqrt(12)
    assert found.version == peft.__version__


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("q_proj", "model.layers.0.q_proj"),
        ("q_proj", "model.layers.0.xq_proj"),
        ("layers.1.q_proj", "model.layers.11.q_proj"),
        ("layers.1.q_proj", "model.layers.1.q_proj"),
        ("^q_proj", "model.q_proj"),
        ("^q_proj", "q_proj"),
        (r"layers\.1\.q_proj$", "model.layers.1.q_proj"),
        ("model.q_proj", "model.q_proj"),
        ("q_proj", "q_proj.lora"),
    ],
)
def test_names_match_as_in_peft(pattern: str, path: str) -> None:
    assert matches(pattern, path) == (get_pattern_key([pattern], path) == pattern)


def test_expressions_are_not_run() -> None:
    slow = "(a+)+$"
    found = parsed(
        peft_type="LORA", r=4, rank_pattern={slow: 8}, alpha_pattern={".*q_proj": 3}, target_modules=".*" * 99
    )
    assert found.rank_of("a" * 200 + "!") is None
    assert found.alpha_of("q_proj") is None
    assert found.target_expression


REFUSED = [
    b"",
    b"[]",
    b"{",
    b'{"r": NaN}',
    b'{"r": 1, "r": 2}',
    b'{"r": 1' + b"0" * 5000 + b"}",
    b"\xff\xfe{}",
    b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}",
    b'{"target_modules": [' + b'"x",' * 200000 + b'"x"]}',
    b"{" + b" " * (1 << 20) + b"}",
]


@pytest.mark.parametrize("data", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_configuration_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(UnreadableCheckpoint) as caught:
        parse_settings(data, where="adapter_config.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


WRONG: dict[str, object] = {
    "peft_type": 7,
    "r": -1,
    "lora_alpha": "16",
    "rank_pattern": {"q": -3, "v": 4},
    "alpha_pattern": [1],
    "target_modules": [1, "q_proj"],
    "modules_to_save": {"a": 1},
    "layers_to_transform": [True],
    "layer_replication": [[0, 1 << 40]],
    "use_dora": "yes",
    "base_model_name_or_path": ["a"],
    "revision": {"x": 1},
    "num_virtual_tokens": 2.5,
}


@pytest.mark.parametrize("name", list(WRONG))
def test_values_of_the_wrong_kind_are_left_out_and_named(name: str) -> None:
    found = parsed(**{name: WRONG[name]})
    assert len(found.problems) == 1
    assert name in found.problems[0]
    assert found.values[name] is not None


def test_replicated_layers_are_bounded() -> None:
    assert parsed(layer_replication=[[0, 16000]] * 100).replication == ()


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_settings(b'\xef\xbb\xbf{"r": 3}', where="x").rank == 3


def _mutated(data: bytes, rng: random.Random) -> bytes:
    spots = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(spots))
        choice = rng.randrange(4)
        if choice == 0:
            spots[at] = rng.randrange(256)
        elif choice == 1:
            del spots[at : at + rng.randrange(1, 9)]
        elif choice == 2:
            spots[at:at] = spots[rng.randrange(len(spots)) :][: rng.randrange(1, 20)]
        else:
            spots[at:at] = rng.choice([b"null", b"-1", b"1e309", b'"', b"[[", b"{}", b"9" * 25, b"true", b"\\u0000"])
    return bytes(spots)


@pytest.mark.parametrize("name", ["lora", "dora", "saved modules", "experts", "lokr", "prompt"])
def test_damaged_adapters_are_refused_or_survived(tmp_path: Path, name: str) -> None:
    """A hundred mutations each of configuration and header; many thousands were tried when this was written."""
    SAMPLES[name](tmp_path / "good")
    base = open_checkpoint(str(saved(llama(), tmp_path / "base")), options=Options())
    config = (tmp_path / "good/adapter_config.json").read_bytes()
    weights = (tmp_path / "good/adapter_model.safetensors").read_bytes()
    header = 8 + int.from_bytes(weights[:8], "little")
    good = opened(tmp_path / "good")
    rng, bad = random.Random(name), tmp_path / "bad"
    bad.mkdir()
    outcomes = set()
    for turn in range(200):
        (bad / "adapter_config.json").write_bytes(_mutated(config, rng) if turn % 2 else config)
        body = weights if turn % 2 else weights[:8] + _mutated(weights[8:header], rng)[: header - 8] + weights[header:]
        (bad / "adapter_model.safetensors").write_bytes(body)
        try:
            checkpoint = open_checkpoint(str(bad), options=Options())
            parts, settings = parts_of(checkpoint.tensors), read_settings(checkpoint)
            contradictions(settings, parts)
            fits(parts, settings, base.tensors, base.config)
            prepare(checkpoint, base)
            prepare(checkpoint, good)
            for tensor in checkpoint.tensors:
                checkpoint.read([Selection(tensor)])
            outcomes.add("survived")
        except InputError as error:
            outcomes.add("refused" if "\n" not in str(error) else str(error))
    assert outcomes == {"survived", "refused"}


def test_samples_are_adapters(tmp_path: Path) -> None:
    for name, write in SAMPLES.items():
        write(tmp_path / name)
        if (tmp_path / name / "adapter_model.safetensors").exists():
            assert is_adapter(opened(tmp_path / name)), name


def test_an_adapter_without_any_claims_is_read(tmp_path: Path) -> None:
    adapt(llama(), tmp_path, r=4, target_modules=["q_proj"])
    (tmp_path / "adapter_config.json").write_text("{}")
    checkpoint = opened(tmp_path)
    settings = read_settings(checkpoint)
    assert settings == AdapterSettings()
    assert len(parts_of(checkpoint.tensors).modules) == 2
