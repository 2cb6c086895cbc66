"""What is fuzzed: every checkpoint format with samples, the small files beside the weights, and fingerprints.

A module ``tests/checkpoint/formats/<name>_samples.py`` that defines ``SAMPLES`` is a target by being there.
"""

from __future__ import annotations

import importlib
import json
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.names import is_printable_name
from lineage_plugin.checkpoint.types import Checkpoint, Selection, TensorInfo
from lineage_plugin.errors import LineageError
from lineage_plugin.fingerprint.file import FILE, read_fingerprint, to_bytes
from lineage_plugin.fingerprint.grids import quantise_axes, quantise_energy, quantise_strength
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, Source, StreamSketch, Strip, TokenizerSketch
from lineage_plugin.linting.diff import unified_diff
from lineage_plugin.linting.lint import prepare, report_on
from lineage_plugin.linting.repair import fixed
from lineage_plugin.options import Options
from lineage_plugin.report import render
from lineage_plugin.tokens import read_vocabulary
from tests.fuzzing.accidents import ACCIDENTS

__all__ = ["Target", "exercise", "find_target", "target_names"]

_FORMATS = Path(__file__).parents[1] / "checkpoint" / "formats"
_SUFFIX = "_samples"
_MOST_TENSORS = 8
_SMALL = 1 << 14

Sample = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that parses files.

    Attributes:
        name: What it is called.
        samples: What writes a tiny valid folder, by name.
        exercise: Uses a folder; returns whether it could be used. Raises nothing but LineageError.
        only: Files that are damaged; None for all.
    """

    name: str
    samples: Mapping[str, Sample]
    exercise: Callable[[Path, random.Random], bool]
    only: frozenset[str] | None = None


def target_names() -> tuple[str, ...]:
    """Return the names of all targets; nothing heavy is imported for it."""
    formats = sorted(path.stem.removesuffix(_SUFFIX) for path in _FORMATS.glob(f"*{_SUFFIX}.py"))
    return (*formats, *_SMALL_FILES)


def find_target(name: str) -> Target:
    """Return a target.

    Raises:
        KeyError: When there is none of the name.
        ImportError: When what writes its samples is not installed.
    """
    if name in _SMALL_FILES:
        return _SMALL_FILES[name]
    if name in ACCIDENTS:
        return Target(name, *ACCIDENTS[name])
    if not (_FORMATS / f"{name}{_SUFFIX}.py").is_file():
        raise KeyError(name)
    module = importlib.import_module(f"tests.checkpoint.formats.{name}{_SUFFIX}")
    return Target(name, module.SAMPLES, exercise)


def exercise(folder: Path, rng: random.Random) -> bool:
    """Open a folder, read a few rows and columns of some tensors, and look at everything else it says.

    Returns:
        Whether a tensor could be read.
    """
    checkpoint = open_local(folder)
    described = (
        checkpoint.format,
        checkpoint.notes,
        checkpoint.cost(),
        dict(checkpoint.metadata),
        checkpoint.weight_files,
    )
    assert all(isinstance(note, str) and "\n" not in note for note in described[1])
    _config(checkpoint)
    names = list(checkpoint.tensors)
    read = 0
    for name in names if len(names) <= _MOST_TENSORS else rng.sample(names, _MOST_TENSORS):
        info = checkpoint.tensors[name]
        assert info.name == name and is_printable_name(name)
        for selection in _selections(info, rng):
            read += _read(checkpoint, info, selection)
    return read > 0


def _config(checkpoint: Checkpoint) -> Mapping[str, object]:
    try:
        return checkpoint.config
    except LineageError as error:
        one_line(error)
        return {}


def one_line(error: LineageError) -> None:
    """Check that a message is what a user may be shown."""
    text = str(error)
    assert text and text.isprintable() and len(text) < 2000, f"not a message: {text[:200]!r}"


def _selections(info: TensorInfo, rng: random.Random) -> list[Selection]:
    height = info.size if len(info.shape) <= 1 else info.shape[0]
    width = 1 if len(info.shape) <= 1 else info.size // max(1, info.shape[0])
    chosen = [Selection(info.name, _few(height, rng), _few(width, rng))]
    if info.size <= _SMALL:
        chosen.append(Selection(info.name))
    if len(info.shape) > 2 and info.shape[-1]:
        last = info.shape[-1]
        chosen.append(Selection(info.name, _few(info.size // last, rng), _few(last, rng), width=last))
    return chosen


def _few(extent: int, rng: random.Random) -> np.ndarray:
    """Return some indices: the ends, and any two."""
    if extent <= 0:
        return np.empty(0, np.int64)
    return np.unique(np.array([0, extent - 1, rng.randrange(extent), rng.randrange(extent)], np.int64))


def _read(checkpoint: Checkpoint, info: TensorInfo, selection: Selection) -> bool:
    try:
        (found,) = checkpoint.read([selection])
    except LineageError as error:
        one_line(error)
        return False
    assert found.dtype == np.float32 and found.ndim == 2
    if selection.rows is not None and selection.columns is not None:
        assert found.shape == (selection.rows.size, selection.columns.size), f"{info} gave {found.shape}"
    else:
        assert found.size == info.size, f"{info} gave {found.shape}"
    return True


# Small files --------------------------------------------------------------------------------------------------------


def _use_config(folder: Path, rng: random.Random) -> bool:
    checkpoint = open_local(folder)
    analyse(checkpoint.tensors, checkpoint.config)
    return True


def _use_tokenizer(folder: Path, rng: random.Random) -> bool:
    return read_vocabulary(open_local(folder)) is not None


def _use_card(folder: Path, rng: random.Random) -> bool:
    """Lint the card in its place, repair it, and write the report."""
    options = Options(offline=True)
    prepared = prepare(str(folder), name="owner/mine", options=options)
    card = prepared.place.card
    found = prepared.findings(card)
    assert all((one.message + one.help).isprintable() for one in found)
    assert all((one.line is None or one.line > 0) and (one.column is None or one.column > 0) for one in found)
    render(report_on(prepared, card, policy=None, options=options), "json")
    if card is not None:
        repaired = fixed(prepared.findings, card)
        assert not [why for _, why in repaired.refused if "report it" in why], repaired
        unified_diff(card, repaired.card, "README.md")
    return True


def _use_fingerprint(folder: Path, rng: random.Random) -> bool:
    data = (folder / FILE).read_bytes()
    _read_fingerprint(data)
    _read_fingerprint(_described(data, folder / _DESCRIPTION))
    return True


def _read_fingerprint(data: bytes) -> None:
    found = read_fingerprint(data, FILE)
    # What may be read may be written, and means the same.
    written = to_bytes(found)
    assert to_bytes(read_fingerprint(written, FILE)) == written


def _described(data: bytes, description: Path) -> bytes:
    """Put another description into a fingerprint: so it is damaged value by value."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"]["fingerprint"] = description.read_text(encoding="utf-8", errors="replace")
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[start:]


def _safetensors(folder: Path, tensors: Mapping[str, tuple[int, ...]], file: str = "model.safetensors") -> None:
    """Write zeros; by hand, for nothing here needs more."""
    header, data, rng = {}, b"", np.random.default_rng(0)
    for name, shape in tensors.items():
        values = rng.normal(size=shape).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data)


_LLAMA = {
    "model.embed_tokens.weight": (16, 8),
    **{f"model.layers.{n}.self_attn.{p}_proj.weight": (8, 8) for n in range(2) for p in "qo"},
    **{f"model.layers.{n}.self_attn.{p}_proj.weight": (4, 8) for n in range(2) for p in "kv"},
    **{f"model.layers.{n}.mlp.{p}_proj.weight": (12, 8) for n in range(2) for p in ("gate", "up")},
    **{f"model.layers.{n}.mlp.down_proj.weight": (8, 12) for n in range(2)},
    **{f"model.layers.{n}.{p}_layernorm.weight": (8,) for n in range(2) for p in ("input", "post_attention")},
    "model.norm.weight": (8,),
    "lm_head.weight": (16, 8),
}
_CONFIG = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2, "head_dim": 4, "vocab_size": 16},
    **{"rope_theta": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "tie_word_embeddings": False},
}
_ADAPTER = {
    **{"base_model_name_or_path": "owner/name", "revision": None, "peft_type": "LORA", "r": 2, "lora_alpha": 4},
    **{
        "target_modules": ["q_proj", "v_proj"],
        "use_rslora": False,
        "rank_pattern": {"layers.0": 4},
        "alpha_pattern": {},
    },
}
_CARD = """---
base_model:
- owner/name
- other/name
base_model_relation: finetune
license: apache-2.0
tags: [a, b]
datasets: {x: 1, y: [2, 3]}
---
# Text
"""
_BESIDE = {
    "README.md": b"""---
base_model: [https://huggingface.co/owner/name, Owner/Name]  # lineage: ignore[LIN205] pinned elsewhere
base_model_relation: Merged
license: Apache 2.0
license_name: "{{ license }}"
tags: [merge, mergekit]
---
# Mine

This is a merge of [owner/name](https://huggingface.co/owner/name). License: [More Information Needed]

```yaml
merge_method: slerp
base_model: owner/name
slices: [{sources: [{model: owner/name, layer_range: [0, 2]}, {model: other/name+x/lora, layer_range: [0, 2]}]}]
```
""",
    "config.json": b"""{"_name_or_path": "owner/first", "model_type": "llama", "vocab_size": 5,
 "quantization_config": {"quant_method": "gptq", "bits": 4}}""",
    "tokenizer_config.json": b"""{"name_or_path": "other/name",
 "added_tokens_decoder": {"7": {"content": "<pad>"}}}""",
    "mergekit_config.yml": b"merge_method: linear\nmodels: [{model: owner/name}, {model: third/name}]\n",
}
_TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 15, "content": "<s>", "special": True}],
    "pre_tokenizer": {"type": "ByteLevel"},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]},
    "model": {"type": "BPE", "vocab": {f"t{n}": n for n in range(15)}, "merges": ["t 1"], "byte_fallback": True},
}


def _llama(files: Mapping[str, bytes]) -> Sample:
    def write(folder: Path) -> None:
        _safetensors(folder, _LLAMA)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    return write


def _sharded(folder: Path) -> None:
    names = list(_LLAMA)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        _safetensors(folder, {name: _LLAMA[name] for name in part}, file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _pointer(folder: Path) -> None:
    # As git-lfs writes them: github.com/git-lfs/git-lfs, docs/spec.md.
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n"
    (folder / "model.safetensors").write_text(text)


def _piece(text: str, kind: int) -> bytes:
    raw = text.encode()
    inner = b"\x0a" + bytes([len(raw)]) + raw + b"\x15\x00\x00\x80\xbf\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inner)]) + inner


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()


_DESCRIPTION = "description.json"


def _fingerprint(make: Callable[[Path], Fingerprint]) -> Sample:
    def write(folder: Path) -> None:
        made = to_bytes(make(folder))
        for file in list(folder.iterdir()):
            file.unlink()
        (folder / FILE).write_bytes(made)
        header = json.loads(made[8 : 8 + int.from_bytes(made[:8], "little")])
        (folder / _DESCRIPTION).write_text(header["__metadata__"]["fingerprint"], encoding="utf-8")

    return write


def _of_llama(folder: Path) -> Fingerprint:
    _safetensors(folder, _LLAMA)
    (folder / "config.json").write_bytes(_dumped(_CONFIG))
    (folder / "tokenizer.json").write_bytes(_dumped(_TOKENIZER))
    return fingerprint_of(open_local(folder), name="owner/name")


def _of_everything(folder: Path) -> Fingerprint:
    """A fingerprint in which nothing is left out."""
    rng = np.random.default_rng(0)
    energy, step = quantise_energy(rng.normal(size=6), np.arange(6) > 1)
    strip = Strip(
        role="up",
        dim=40,
        odd=True,
        bits=rng.integers(0, 256, (3, 16, 2), dtype=np.uint8),
        energy=np.tile(energy, (3, 1)),
        step=np.full(3, step, np.float32),
        axes=quantise_axes(rng.uniform(-1, 1, (3, 16, 2))),
        strength=quantise_strength(rng.uniform(0, 9, (3, 2))),
        shared=32,
        packing="Q4_K",
    )
    shelf = Shelf(
        **{"kind": "channels", "part": 1, "units": 40, "block": 2, "swap": False, "layers": (0, 1, 7)},
        strips=(strip, replace(strip, role="down", shared=None, packing="")),
        usable=np.arange(48).reshape(3, 16) % 5 > 0,
        clone=np.arange(48).reshape(3, 16) % 7 == 0,
        repeats=np.array([0, 0, 2]),
        ordered=True,
        names=("a", "b", "c.weight"),
    )
    digest = "4d" * 32
    return Fingerprint(
        source=Source("owner/name", "4d" * 20, "GGUF", {"a.gguf": (9, digest), "b.gguf": (8, None)}, 5, "X", "tool 1"),
        **{"family": "unknown", "exact": False, "layers": 8, "width": 16, "limits": ("Something.",), "part": "model"},
        shelves=(shelf, replace(shelf, part=2, layers=(1, 2, 3))),
        stream=StreamSketch(20, 70, 6, True, False, np.arange(20, dtype=np.uint8)[:, None], np.arange(20) > 2, True),
        tokenizer=TokenizerSketch("tokenizer.json", 7, digest),
    )


_SMALL_FILES: dict[str, Target] = {
    "config": Target(
        "config", {"llama": _llama({"config.json": _dumped(_CONFIG)})}, _use_config, frozenset({"config.json"})
    ),
    "index": Target("index", {"sharded": _sharded}, exercise, frozenset({"model.safetensors.index.json"})),
    "pointer": Target("pointer", {"lfs": _pointer}, exercise),
    "card": Target(
        "card",
        {
            "card": _llama({"README.md": _CARD.encode()}),
            "adapter": _llama({"README.md": _CARD.encode(), "adapter_config.json": _dumped(_ADAPTER)}),
            "beside": _llama(_BESIDE),
        },
        _use_card,
        frozenset({"README.md", "adapter_config.json", *_BESIDE}),
    ),
    "tokenizer": Target(
        "tokenizer",
        {
            "tokenizers": _llama({"tokenizer.json": _dumped(_TOKENIZER)}),
            "sentencepiece": _llama(
                {
                    "tokenizer.model": b"".join(_piece(f"▁t{n}", 1 + n % 6) for n in range(15)),
                    "added_tokens.json": _dumped({"<pad>": 15}),
                }
            ),
            "vocab": _llama({"vocab.json": _dumped({f"Ġt{n}": n for n in range(15)})}),
            "lines": _llama({"vocab.txt": b"".join(b"##t%d\n" % n for n in range(15))}),
            "tekken": _llama(
                {
                    "tekken.json": _dumped(
                        {
                            "config": {"default_vocab_size": 14, "default_num_special_tokens": 2, "pattern": "x"},
                            "vocab": [{"rank": n, "token_bytes": "dGU=", "token_str": "te"} for n in range(12)],
                            "special_tokens": [{"rank": 0, "token_str": "<s>", "is_control": True}],
                        }
                    )
                }
            ),
            "tiktoken": _llama({"tokenizer.model": b"".join(b"dGU%c %d\n" % (65 + n, n) for n in range(15))}),
        },
        _use_tokenizer,
        frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "added_tokens.json"}),
    ),
    "fingerprint": Target(
        "fingerprint", {"llama": _fingerprint(_of_llama), "everything": _fingerprint(_of_everything)}, _use_fingerprint
    ),
}
