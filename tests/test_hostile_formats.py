"""Models made to deceive, to leak or to exhaust: what is refused, what is said, and what still gets through.

Every deception is checked against the file that a loader would take; the evasions that are not yet closed are marked
``xfail(strict=True)``, so that whoever closes one has to say so here. "Honest" is a child of the base, "liar" an
unrelated model of the same shapes: a folder that loaders read as the liar must not pass as a child without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lineage_plugin import Options, check, compare, lint
from lineage_plugin.checkpoint import Selection, layout, open_checkpoint
from lineage_plugin.checkpoint.local import LocalSource
from lineage_plugin.checkpoint.pickles import states
from lineage_plugin.cli import main
from lineage_plugin.errors import LineageError
from lineage_plugin.judge.types import Report
from tests.checkpoint.formats import (
    awq_samples,
    flax_samples,
    gguf_samples,
    gptq_samples,
    keras_samples,
    mlx_samples,
    mxfp4_samples,
    plain_samples,
    torch_samples,
)
from tests.hub import TOKEN, LocalHub
from tests.hub.store import Commit

EXAMPLES = Path(__file__).parents[1] / "examples"
BASE = EXAMPLES / "base"
OFFLINE = Options(offline=True)
SECRET = "hunter2-TOPSECRET"
MATRIX = "model.layers.0.mlp.up_proj"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def honest() -> Tensors:
    return load_file(EXAMPLES / "honest" / "model.safetensors")


@pytest.fixture(scope="module")
def liar() -> Tensors:
    return load_file(EXAMPLES / "liar" / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with config and card of the honest child, and no weights."""
    target = tmp_path / "suspect"
    target.mkdir()
    for name in ("config.json", "README.md"):
        shutil.copy(EXAMPLES / "honest" / name, target)
    return target


def configure(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def declare(folder: Path, relation: str) -> None:
    path = folder / "README.md"
    path.write_text(path.read_text().replace("base_model_relation: finetune", f"base_model_relation: {relation}"))


def judged(folder: Path) -> Report:
    return check(str(folder), bases=[str(BASE)], options=OFFLINE)


def passes_silently(report: Report) -> bool:
    """Whether a gate would let it through without a warning; that a pickle is one is said of every pickle."""
    told = [f for f in report.findings if f.level != "note" and f.code != "LIN301"]
    return report.verdict == "pass" and not told


def limits(report: Report) -> str:
    return " ".join(limit for comparison in report.comparisons for limit in comparison.limits)


# Which weights are looked at -----------------------------------------------------------------------------------------


def test_the_two_models_that_the_lies_are_made_of(folder: Path, honest: Tensors, liar: Tensors) -> None:
    save_file(honest, folder / "model.safetensors")
    assert passes_silently(judged(folder))
    save_file(liar, folder / "model.safetensors")
    assert judged(folder).verdict == "fail"


def packed_beside(honest: Tensors, name: str) -> Tensors:
    """Return ``qweight``, ``qzeros`` and ``scales`` of 8 bits (GPTQ v1) for a matrix."""
    matrix = honest[name].float()
    rows, columns = matrix.shape
    groups = matrix.reshape(rows, columns // 32, 32)
    scales = (groups.abs().amax(-1) / 127).clamp_min(1e-8)
    levels = (torch.round(groups / scales[..., None]) + 128).clamp(0, 255).reshape(rows, columns).numpy()
    words = np.ascontiguousarray(levels.astype(np.uint8)).view("<i4").T
    zeros = np.full((columns // 32, rows), 127, np.uint8).view("<i4")
    module = name.removesuffix("weight")
    return {
        f"{module}qweight": torch.from_numpy(words.copy()),
        f"{module}qzeros": torch.from_numpy(zeros.copy()),
        f"{module}scales": scales.T.half().contiguous(),
    }


@pytest.mark.parametrize(
    "settings", [{}, {"quant_method": "gptq", "bits": 8, "group_size": 32, "dynamic": {"-:.*": {}}}]
)
def test_a_packed_matrix_does_not_hide_the_plain_one(
    folder: Path, honest: Tensors, liar: Tensors, settings: dict[str, object]
) -> None:
    # transformers reads `X.weight` (cosine 1.000 to the liar) and drops `X.qweight` as unexpected.
    tensors = dict(liar)
    for name in honest:
        if name.endswith("proj.weight"):
            tensors |= packed_beside(honest, name)
    save_file(tensors, folder / "model.safetensors")
    declare(folder, "quantized")
    if settings:
        configure(folder, quantization_config=settings)
    assert not passes_silently(judged(folder))


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_scales_that_no_setting_speaks_of(folder: Path, honest: Tensors, liar: Tensors, kind: str) -> None:
    # One scale an element makes any weights of any others. Without quantization_config loaders ignore the scales.
    tensors: Tensors = {}
    for name, weight in liar.items():
        tensors[name] = weight
        if name.endswith("proj.weight"):
            if kind == "fp8":
                rounded = (weight.float() * 64).to(torch.float8_e4m3fn).float()
                levels = torch.where(rounded == 0, 2.0**-9, rounded).to(torch.float8_e4m3fn)
            else:
                levels = (weight.float() * 500).round().clamp(-127, 127)
                levels[levels == 0] = 1
                levels = levels.to(torch.int8)
            tensors[name] = levels
            tensors[f"{name}_scale"] = (honest[name].float() / levels.float()).contiguous()
    save_file(tensors, folder / "model.safetensors")
    declare(folder, "quantized")
    assert not passes_silently(judged(folder))


def test_the_file_that_the_configuration_names(folder: Path, honest: Tensors, liar: Tensors) -> None:
    # `transformers_weights` of config.json goes before every standard name (transformers 5, _get_resolved_...).
    save_file(honest, folder / "model.safetensors")
    save_file(liar, folder / "other.safetensors")
    configure(folder, transformers_weights="other.safetensors")
    assert not passes_silently(judged(folder))


@pytest.mark.parametrize("guide", ["modules.json", "model_index.json"])
def test_a_list_of_components_does_not_hide_the_model_at_the_top(
    folder: Path, honest: Tensors, liar: Tensors, guide: str
) -> None:
    inner = "0_Transformer" if guide == "modules.json" else "lm"
    (folder / inner).mkdir()
    shutil.copy(folder / "config.json", folder / inner)
    save_file(honest, folder / inner / "model.safetensors")
    save_file(liar, folder / "model.safetensors")
    module = {"idx": 0, "name": "0", "path": inner, "type": "sentence_transformers.models.Transformer"}
    named = [module] if guide == "modules.json" else {"_class_name": "P", inner: ["transformers", "LlamaForCausalLM"]}
    (folder / guide).write_text(json.dumps(named))
    assert not passes_silently(judged(folder))


def test_a_nested_state_dict_does_not_hide_the_flat_one(folder: Path, honest: Tensors, liar: Tensors) -> None:
    torch.save({**liar, "state_dict": {**honest, "pad": torch.zeros(1000)}}, folder / "pytorch_model.bin")
    assert not passes_silently(judged(folder))


def test_a_second_stack_of_the_same_layout(folder: Path, honest: Tensors, liar: Tensors) -> None:
    # Loaders take `model.layers`; of two stacks of one size the first by name is compared.
    save_file({**liar, **{f"a.{name}": value for name, value in honest.items()}}, folder / "model.safetensors")
    assert not passes_silently(judged(folder))


def test_layers_beyond_those_of_the_configuration(folder: Path, honest: Tensors, liar: Tensors) -> None:
    # num_hidden_layers is 4: loaders drop layers 4 to 7.
    tensors = dict(liar)
    for name, value in honest.items():
        if ".layers." in name:
            start, _, inside = name.partition("layers.")
            number, _, rest = inside.partition(".")
            tensors[f"{start}layers.{int(number) + 4}.{rest}"] = value
    save_file(tensors, folder / "model.safetensors")
    assert not passes_silently(judged(folder))


BESIDE = {
    "pytorch_model.bin": lambda path, liar: torch.save(liar, path),
    "consolidated.safetensors": lambda path, liar: save_file(liar, path),
    "model-00001-of-00001.safetensors": lambda path, liar: save_file(liar, path),
    "adapter_model.safetensors": lambda path, liar: save_file(liar, path),
    "model-q8_0.gguf": lambda path, liar: path.write_bytes(b"GGUF" + bytes(60)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_other_weight_files_are_at_least_named(folder: Path, honest: Tensors, liar: Tensors, name: str) -> None:
    save_file(honest, folder / "model.safetensors")
    BESIDE[name](folder / name, liar)
    assert name in limits(judged(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-q8_0.gguf"])
def test_other_weight_files_are_a_finding(folder: Path, honest: Tensors, liar: Tensors, name: str) -> None:
    save_file(honest, folder / "model.safetensors")
    BESIDE[name](folder / name, liar)
    (told,) = [found for found in judged(folder).findings if found.code == "LIN305"]
    assert name in told.message


def test_identical_weights_with_others_beside(folder: Path, liar: Tensors) -> None:
    shutil.copy(BASE / "model.safetensors", folder)
    torch.save(liar, folder / "pytorch_model.bin")
    report = judged(folder)
    assert report.comparisons[0].relation == "identical"
    assert "pytorch_model.bin" in limits(report)


def test_identical_weights_under_another_configuration(folder: Path) -> None:
    shutil.copy(BASE / "model.safetensors", folder)
    configure(folder, num_hidden_layers=1, rope_parameters={"rope_theta": 5.0, "rope_type": "default"})
    report = judged(folder)
    assert "config.json" in limits(report) + " ".join(report.comparisons[0].changes)


def test_an_adapter_with_a_whole_model_beside(folder: Path, liar: Tensors) -> None:
    factors = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file({f"{factors}A.weight": torch.zeros(4, 96), f"{factors}B.weight": torch.zeros(96, 4)},
              folder / "adapter_model.safetensors")  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    torch.save(liar, folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in limits(judged(folder))


def test_factors_do_not_make_an_adapter_of_a_whole_model(folder: Path, liar: Tensors) -> None:
    factors = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    tensors = {**liar, f"{factors}A.weight": torch.zeros(4, 96), f"{factors}B.weight": torch.zeros(96, 4)}
    save_file(tensors, folder / "model.safetensors")
    assert judged(folder).verdict == "fail"


def test_an_adapter_configuration_that_names_another_base(folder: Path, honest: Tensors) -> None:
    save_file(honest, folder / "model.safetensors")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "evil/model", "r": 4, "lora_alpha": 8}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert "LIN204" in [f.code for f in judged(folder).findings if f.level == "warning"]


# Files outside the model ---------------------------------------------------------------------------------------------

SECRETS = {
    "secret.json": json.dumps(
        {"base_model_name_or_path": f"{SECRET}/m", "peft_type": SECRET, "model_type": SECRET, SECRET: 1}
        | {"weight_map": {"a": SECRET}, "_class_name": SECRET, "quant_method": SECRET}
    ),
    "twice.json": f'{{"{SECRET}": 1, "{SECRET}": 2}}',
    "secret.yaml": f"---\nlicense: {SECRET}\nbase_model: {SECRET}/m\n---\n",
}
LINKED = [
    *(("README.md", "secret.yaml"), ("config.json", "secret.json"), ("adapter_config.json", "secret.json")),
    *(("adapter_config.json", "twice.json"), ("model.safetensors.index.json", "twice.json")),
    *(("model_index.json", "secret.json"), ("modules.json", "secret.json"), ("params.json", "secret.json")),
    *(("quantize_config.json", "secret.json"), ("tokenizer.json", "secret.json")),
]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments, "--offline"])
    found = capsys.readouterr()
    return found.out + found.err


@pytest.mark.parametrize(("name", "secret"), LINKED)
def test_links_out_of_the_model_leak_nothing(
    folder: Path, honest: Tensors, capsys: pytest.CaptureFixture[str], name: str, secret: str
) -> None:
    target = folder.parent / secret
    target.write_text(SECRETS[secret])
    if not name.endswith("index.json"):
        save_file(honest, folder / "model.safetensors")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    assert SECRET not in printed(capsys, "check", str(folder), "--base", str(BASE), "--format", "json")


@pytest.mark.parametrize(("name", "secret"), [("README.md", "secret.yaml"), ("adapter_config.json", "secret.json")])
def test_lint_follows_no_links_out_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, secret: str
) -> None:
    (folder.parent / secret).write_text(SECRETS[secret])
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder.parent / secret)
    assert SECRET not in printed(capsys, "lint", str(folder))


def test_a_card_beside_weights_that_cannot_be_read_is_no_link(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "secret.yaml").write_text(SECRETS["secret.yaml"])
    (folder / "model.safetensors").write_bytes(b"x" * 50)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(folder.parent / "secret.yaml")
    assert SECRET not in printed(capsys, "check", str(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf", "model.onnx", "flax_model.msgpack", "tf_model.h5"])
def test_weights_that_are_links_to_texts(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (folder.parent / "secret").write_text(f"{SECRET}\n" * 20)
    (folder / name).symlink_to(folder.parent / "secret")
    found = printed(capsys, "compare", str(folder), str(BASE))
    assert found.startswith("lineage: error: ")
    assert "hunter2" not in found
    assert found.count("\n") == 1


def test_the_first_bytes_of_a_linked_file_are_not_printed_as_a_number(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "secret").write_text(SECRET * 4)
    (folder / "model.safetensors").symlink_to(folder.parent / "secret")
    number = int.from_bytes(SECRET.encode()[:8], "little")
    assert str(number) not in printed(capsys, "compare", str(folder), str(BASE))


# Text of strangers ---------------------------------------------------------------------------------------------------

EVIL = (
    "\x1b[31mR\x1b]0;t\x07\n::error file=x::pwn\r\n##[error]x\u202e\u2028 [a](http://evil) <img src=x> hf_" + "A" * 20
)


def with_metadata(folder: Path, honest: Tensors) -> None:
    keys = ("base_model", "format", "ss_base_model_version", "modelspec.title")
    save_file(honest, folder / "model.safetensors", metadata=dict.fromkeys(keys, EVIL))
    configure(folder, model_type=EVIL, architectures=[EVIL], _name_or_path=EVIL, quantization_config={"a": EVIL})
    (folder / "a\x1b[31m\n::error::x.safetensors").write_bytes(b"")
    (folder / "b\n::error::x.gguf").write_bytes(b"")


def with_card(folder: Path, honest: Tensors) -> None:
    save_file(honest, folder / "model.safetensors")
    fields = "".join(f"{key}: {json.dumps(EVIL)}\n" for key in ("base_model", "base_model_relation", "license"))
    (folder / "README.md").write_text(f"---\n{fields}---\n")


def with_adapter(folder: Path, honest: Tensors) -> None:
    factors = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file({f"{factors}A.weight": torch.zeros(4, 96), f"{factors}B.weight": torch.zeros(96, 4)},
              folder / "adapter_model.safetensors")  # fmt: skip
    texts = ("peft_type", "base_model_name_or_path", "revision", "task_type", "r", "lora_alpha", "init_lora_weights")
    settings = dict.fromkeys(texts, EVIL) | {"target_modules": [EVIL], "rank_pattern": {EVIL: 3, "(a+)+$": 5}}
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"modules_to_save": [EVIL]}))


def with_gguf(folder: Path, honest: Tensors) -> None:
    writer = pytest.importorskip("gguf").GGUFWriter(str(folder / "m.gguf"), "llama")
    for key in ("name", "base_model.0.name", "base_model.0.repo_url", "base_model.0.organization", "license"):
        writer.add_string(f"general.{key}", EVIL)
    writer.add_uint32("general.base_model.count", 1)
    writer.add_tensor("output_norm.weight", np.zeros(4, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


def with_names(folder: Path, honest: Tensors) -> None:
    torch.save({EVIL: torch.zeros(3), "w": torch.zeros(3)}, folder / "pytorch_model.bin")


def with_components(folder: Path, honest: Tensors) -> None:
    name = EVIL.replace("/", "_")
    (folder / name).mkdir()
    save_file({"w": torch.zeros(3)}, folder / name / "model.safetensors")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": EVIL, name: ["a", "b"]}))


@pytest.mark.parametrize(
    "make", [with_metadata, with_card, with_adapter, with_gguf, with_names, with_components], ids=lambda f: f.__name__
)
def test_nothing_that_a_terminal_or_a_runner_obeys_is_printed(
    folder: Path, honest: Tensors, capsys: pytest.CaptureFixture[str], make: Callable[[Path, Tensors], None]
) -> None:
    make(folder, honest)
    command = ("check", str(folder), "--base", str(BASE))
    text = printed(capsys, *command)
    assert not {"\x1b", "\x07", "\u202e", "\u2028", "\r"} & set(text)
    assert "::" not in text
    assert "##[" not in text
    assert "hf_AAAA" not in text
    report = printed(capsys, *command, "--format", "json")
    assert report.isascii()
    assert not any(character < " " and character != "\n" for character in report)


# The network ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every address that is looked up or connected to; none of them answers."""
    asked: list[object] = []

    def refuse(*arguments: object, **more: object) -> None:
        asked.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Models of many layouts."""
    made = []
    formats = (awq_samples, flax_samples, gguf_samples, gptq_samples, keras_samples, mlx_samples, mxfp4_samples)
    for name, write in (item for module in (*formats, plain_samples, torch_samples) for item in module.SAMPLES.items()):
        place = tmp_path_factory.mktemp(f"sample{len(made)}") / name.replace("/", "_")
        place.mkdir()
        write(place)
        (place / "README.md").write_text("---\nbase_model: owner/base\n---\n")
        made.append(place)
    return made


def test_offline_asks_nobody_and_budgets_hold(samples: list[Path], trap: list[object]) -> None:
    for place in samples:
        for budget in (1, 2000):
            try:
                report = check(str(place), bases=[str(BASE)], options=Options(offline=True, budget=budget))
            except LineageError:
                continue
            spent = [cost.bytes_read for c in report.comparisons for cost in (c.suspect_cost, c.base_cost)]
            assert max(spent, default=0) <= budget
        check_quietly(place)
    assert trap == []


def check_quietly(place: Path) -> None:
    with contextlib.suppress(LineageError):
        check(str(place), options=OFFLINE)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server of somebody else: its port, and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client:
                    client.settimeout(1)
                    heard.append(client.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], heard
        done.set()
        thread.join()


TRICKS = {
    "remote": '[remote "origin"]\n\turl = http://127.0.0.1:{port}/owner/name\n',
    "instead": '[url "http://127.0.0.1:{port}/"]\n\tinsteadOf = {hub}/\n[remote "origin"]\n\turl = {hub}/owner/name\n',
    "lfs": '[lfs]\n\turl = http://127.0.0.1:{port}/\n[remote "origin"]\n\turl = {hub}/owner/name\n'
    "\tlfsurl = http://127.0.0.1:{port}/\n\tproxy = http://127.0.0.1:{port}\n[http]\n\tproxy = 127.0.0.1:{port}\n",
    "programs": "[core]\n\tfsmonitor = touch {mark}\n\tsshCommand = touch {mark}\n[credential]\n"
    '\thelper = !touch {mark}\n[filter "lfs"]\n\tsmudge = touch {mark}\n\tprocess = touch {mark}\n'
    '[remote "origin"]\n\turl = {hub}/owner/name\n',
    "include": '[include]\n\tpath = {outside}\n[remote "origin"]\n\turl = {hub}/owner/name\n',
    "userinfo": '[remote "origin"]\n\turl = {hub}@127.0.0.1:{port}/owner/name\n',
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_clone_sends_nothing_elsewhere_and_runs_nothing(
    hub: LocalHub, tmp_path: Path, listener: tuple[int, list[bytes]], trick: str, honest: Tensors
) -> None:
    port, heard = listener
    (hub.root / "owner" / "name").mkdir(parents=True)
    save_file(honest, hub.root / "owner" / "name" / "model.safetensors")
    repo = hub.repo("owner/name")
    assert repo is not None
    files = repo.head().files
    sha = "a" * 40
    repo.commits[sha] = Commit(sha, files)
    repo.set_main(sha)
    clone = tmp_path / "clone"
    (clone / ".git").mkdir(parents=True)
    (clone / ".lfsconfig").write_text(f"[lfs]\n\turl = http://127.0.0.1:{port}/\n")
    (clone / "model.safetensors").write_bytes(files["model.safetensors"].pointer())
    (clone / ".git" / "HEAD").write_text(f"{sha}\n")
    outside = tmp_path / "outside"
    outside.write_text(f'[remote "origin"]\n\turl = http://127.0.0.1:{port}/owner/name\n')
    mark = tmp_path / "ran"
    text = TRICKS[trick].format(port=port, hub=hub.endpoint, mark=mark, outside=outside)
    (clone / ".git" / "config").write_text(text)
    try:
        compare(str(clone), str(BASE), options=Options(endpoint=hub.endpoint, token=TOKEN))
    except LineageError as error:
        assert TOKEN not in str(error)  # noqa: PT017
    assert heard == []
    assert not mark.exists()
    assert bool(hub.log.records(port="cdn")) == (trick not in ("remote", "userinfo"))
    assert not [r for r in hub.log.records(port="cdn") if r.has_authorization]


# Work and memory -----------------------------------------------------------------------------------------------------


def write_header(path: Path, header: bytes, data: bytes = b"") -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with contextlib.suppress(LineageError):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def opened(place: Path) -> object:
    return open_checkpoint(str(place), options=OFFLINE).config


TENSOR = b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


def test_one_wide_character_does_not_widen_a_whole_header(folder: Path) -> None:
    # Python keeps a text with one character beyond 16 bits at four bytes each: 100 MB took 1.0 GB.
    text = "\U0001f600".encode() + b"a" * 8_000_000
    write_header(folder / "model.safetensors", b'{"__metadata__":{"x":"' + text + b'"},' + TENSOR, bytes(4))
    assert peak_of(lambda: opened(folder)) < 5 * len(text)


def test_one_wide_character_does_not_widen_a_whole_index(folder: Path) -> None:
    text = "\U0001f600".encode() + b"a" * 8_000_000
    shard = "m-00001-of-00001.safetensors"
    (folder / "model.safetensors.index.json").write_bytes(
        b'{"weight_map":{"w":"' + shard.encode() + b'"},"x":"' + text + b'"}'
    )
    write_header(folder / shard, b"{" + TENSOR, bytes(4))
    assert peak_of(lambda: opened(folder)) < 5 * len(text)


def test_many_components_do_not_multiply_a_large_configuration(folder: Path) -> None:
    # Twelve configurations of 8 MB took 2.4 GB, and 64 components are read.
    config = b'{"a":[' + b"{}," * 100_000 + b"{}]}"
    for number in range(8):
        place = folder / f"c{number}"
        place.mkdir()
        (place / "config.json").write_bytes(config)
        write_header(place / "model.safetensors", b"{" + TENSOR, bytes(4))
    (folder / "model_index.json").write_text(json.dumps({f"c{n}": ["a", "b"] for n in range(8)}))
    assert peak_of(lambda: opened(folder)) < 20 << 20


def files_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the weight files that are looked into from here on."""
    read: set[str] = set()
    real = LocalSource.bytes

    def noted(source: LocalSource, name: str, start: int, stop: int) -> bytes:
        read.add(name)
        return real(source, name, start, stop)

    monkeypatch.setattr(LocalSource, "bytes", noted)
    return read


def test_too_many_tensors_are_noticed_before_all_parts_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Twenty parts of 65,536 tensors took 21 s, 1,024 are read; the limit came after the last.
    monkeypatch.setattr(layout, "_MAX_TENSORS", 100)
    read = files_read(monkeypatch)
    for part in range(8):
        pairs = [(b"general.architecture", 8, text(b"llama")), (b"split.count", 2, struct.pack("<H", 8))]
        pairs.append((b"split.no", 2, struct.pack("<H", part)))
        data = b"GGUF" + struct.pack("<IQQ", 3, 60, len(pairs))
        data += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
        data += b"".join(text(b"t%d.%d" % (part, n)) + struct.pack("<IQIQ", 1, 0, 0, 0) for n in range(60))
        (folder / f"m-{part + 1:05d}-of-00008.gguf").write_bytes(data + bytes(-len(data) % 32))
    with pytest.raises(LineageError, match="more than 100 tensors"):
        opened(folder)
    assert len(read) <= 3


def test_too_many_tensors_are_noticed_before_all_shards_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Twenty shards of 131,072 empty tensors took 59 s and 1.1 GB before they were refused.
    monkeypatch.setattr(layout, "_MAX_TENSORS", 100)
    read = files_read(monkeypatch)
    for part in range(8):
        empty = {f"t{part}.{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(60)}
        write_header(folder / f"m{part}.safetensors", json.dumps(empty).encode())
    with pytest.raises(LineageError, match="more than 100 tensors"):
        opened(folder)
    assert len(read) <= 3


def text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def archive(path: Path, program: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        made.writestr("a/data.pkl", program)


PICKLES = {
    # A pair of itself sixty times over, as the key of a dict: hashing it would take 2**60 steps.
    "key": b"\x80\x02}(K\x01K\x02\x86" + b"q\x01h\x01h\x01\x86" * 60 + b"K\x01u.",
    # A dict that holds the one before it twice, sixty deep.
    "lattice": b"\x80\x02}q\x02" + b"}X\x01\x00\x00\x00ah\x02sX\x01\x00\x00\x00bh\x02sq\x02" * 60 + b".",
    "itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "deep": b"\x80\x02}X\x01\x00\x00\x00a)" + b"\x85" * 100_000 + b"s.",
    "pops": b"\x80\x02" + b"}0" * 1000 + b".",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_would_never_end(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(states, "_MAX_VISITS", 50_000)
    archive(folder / "pytorch_model.bin", PICKLES[name])

    def refused() -> None:
        with pytest.raises(LineageError):
            opened(folder)

    assert peak_of(refused) < 100 << 20


def test_a_compressed_pickle_is_not_unpacked(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/data.pkl", bytes(50_000_000))
    with pytest.raises(LineageError, match="compressed"):
        opened(folder)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    pieces = bytearray()
    while value > 127:
        pieces.append(value & 127 | 128)
        value >>= 7
    return bytes([*pieces, value])


def test_graphs_inside_graphs(folder: Path) -> None:
    node = field(4, b"If")
    for _ in range(300):
        node = field(1, field(4, b"If") + field(5, field(6, node)))
    (folder / "model.onnx").write_bytes(field(7, node))
    with pytest.raises(LineageError, match="nested too deeply"):
        opened(folder)


def test_a_chunked_array_that_claims_more_than_it_has(folder: Path) -> None:
    leaf = msgpack.ExtType(1, msgpack.packb(([1], "float32", bytes(4))))
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 1 << 40, "1": 1 << 40}, "chunks": {"0": leaf}}
    (folder / "flax_model.msgpack").write_bytes(msgpack.packb({"k": chunked}))
    with pytest.raises(LineageError, match="do not make up its shape"):
        opened(folder)


STATES = [
    *({"shape": shape} for shape in ([1 << 39, 1 << 39], [0, 5], [-1, 4096], [True, 4096], [1e3, 4], "x", [1 << 64])),
    *({"blocksize": size} for size in (0, 1 << 63, -1, True)),
    *({"nested_blocksize": size, "nested_offset": 1e308} for size in (0, -1, 1 << 40)),
]


@pytest.mark.parametrize("lie", STATES, ids=str)
def test_states_of_four_bits_that_lie(folder: Path, lie: dict[str, object]) -> None:
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 64]} | lie)
    nested = "nested_blocksize" in lie
    weight = f"{MATRIX}.weight"
    tensors = {
        weight: torch.zeros(2048, 1, dtype=torch.uint8),
        f"{weight}.absmax": torch.zeros(64, dtype=torch.uint8) if nested else torch.full((64,), float("inf")),
        f"{weight}.quant_state.bitsandbytes__nf4": torch.tensor(list(state.encode()), dtype=torch.uint8),
    }
    if nested:
        tensors |= {f"{weight}.nested_absmax": torch.ones(1), f"{weight}.nested_quant_map": torch.zeros(256)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LineageError):
        opened(folder)


SETTINGS = [
    *({"group_size": size} for size in (0, -1, 1, 10**18, True, "x", 2.5, None)),
    *({"bits": bits} for bits in (0, 255, -4, "4", 1 << 62, None)),
    *({"quant_method": method} for method in ("awq", {}, ["gptq"], None)),
    *({"dynamic": []}, {"checkpoint_format": {}}, {"desc_act": "no"}),
]


@pytest.mark.parametrize("lie", SETTINGS, ids=str)
def test_settings_of_gptq_that_lie(folder: Path, lie: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    words = rng.integers(-(2**31), 2**31, (8, 64)).astype(np.int32)
    tensors = {
        f"{MATRIX}.qweight": torch.from_numpy(words),
        f"{MATRIX}.qzeros": torch.from_numpy(words[:2, :8].copy()),
        f"{MATRIX}.scales": torch.full((2, 64), float("nan")).half(),
        f"{MATRIX}.g_idx": torch.from_numpy(words.reshape(-1)[:64].copy()),
    }
    save_file(tensors, folder / "model.safetensors")
    configure(folder, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32} | lie)
    try:
        checkpoint = open_checkpoint(str(folder), options=OFFLINE)
        for name, info in checkpoint.tensors.items():
            assert info.size <= 1 << 16
            checkpoint.read([Selection(name), Selection(name, rows=np.array([0]), width=1)])
    except LineageError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("columns", [1 << 39, 1 << 62, -1, 0, 1])
def test_packed_weights_that_claim_other_columns(folder: Path, columns: int) -> None:
    tensors = {
        f"{MATRIX}.weight_packed": torch.zeros(64, 64, dtype=torch.int32),
        f"{MATRIX}.weight_scale": torch.ones(64, 3),
        f"{MATRIX}.weight_shape": torch.tensor([64, columns]),
    }
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(LineageError):
        opened(folder)


def test_numbers_of_a_configuration_that_are_none(folder: Path, honest: Tensors) -> None:
    save_file(honest, folder / "model.safetensors")
    (folder / "config.json").write_text(
        '{"num_hidden_layers":' + "9" * 4000 + ',"vocab_size":1e400,"hidden_size":-1,"num_attention_heads":0,'
        '"head_dim":NaN,"layer_types":{},"rope_parameters":[],"quantization_config":[]}'
    )
    assert judged(folder).verdict in ("pass", "undecided")


def test_lint_reads_no_weights_and_no_pipes(folder: Path) -> None:
    os.mkfifo(folder / "model.safetensors")
    assert lint(str(folder)).comparisons == ()
    with pytest.raises(LineageError, match="not a regular file"):
        opened(folder)
