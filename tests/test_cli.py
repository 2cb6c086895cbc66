"""The command line as its users meet it: a process with arguments, two streams and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

from lineage_plugin import errors
from lineage_plugin._version import __version__
from lineage_plugin.cli import guarded, main, parse_size, parser
from lineage_plugin.errors import UsageError
from lineage_plugin.policy.values import Wrong
from lineage_plugin.report.json_report import schema
from tests.hub import OUTSIDER, TOKEN, LocalHub
from tests.report import samples

ROOT = Path(__file__).parents[1]
HEAVY = ("numpy", "rich", "huggingface_hub", "yaml", "torch", "safetensors", "ml_dtypes", "httpx", "httpx2")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

LAYERS, HIDDEN, INNER, VOCABULARY = 4, 64, 256, 96

Weights = dict[str, np.ndarray]


def lineage(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINEAGE_DEBUG")
    }
    return subprocess.run(
        [sys.executable, "-m", "lineage_plugin", *map(str, arguments)],
        cwd=ROOT,
        env={**inherited, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def assert_one_line_error(run: subprocess.CompletedProcess[str], code: int) -> None:
    assert run.returncode == code, run.stderr
    assert run.stdout == ""
    assert run.stderr.startswith("lineage: error: ")
    assert run.stderr.count("\n") == 1
    assert "Traceback" not in run.stderr


# Models: small, with rows of unequal energy, as training leaves them.


def weights(seed: int, layers: int = LAYERS, hidden: int = HIDDEN) -> Weights:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        energy = np.exp(0.5 * random.standard_normal((rows, 1)))
        return (energy * random.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(VOCABULARY, hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
        "lm_head.weight": matrix(VOCABULARY, hidden),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name, shape in {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (hidden // 2, hidden),
            "self_attn.v_proj": (hidden // 2, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (INNER, hidden),
            "mlp.up_proj": (INNER, hidden),
            "mlp.down_proj": (hidden, INNER),
        }.items():
            tensors[f"{prefix}{name}.weight"] = matrix(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{name}.weight"] = np.ones(hidden, np.float32)
    return tensors


def tuned(base: Weights, seed: int) -> Weights:
    random = np.random.default_rng(seed)
    return {
        name: (tensor + 0.1 * tensor.std() * random.standard_normal(tensor.shape)).astype(np.float32)
        for name, tensor in base.items()
    }


def model(folder: Path, tensors: Weights, card: str | None) -> Path:
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": tensors["model.norm.weight"].shape[0],
        "intermediate_size": INNER,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": sum(name.endswith("gate_proj.weight") for name in tensors),
        "vocab_size": VOCABULARY,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    if card is not None:
        (folder / "README.md").write_text(f"---\n{card}\n---\n# A model\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an honest fine-tune, a liar, and models of another depth and width; the cards name the base by an id."""
    root = tmp_path_factory.mktemp("zoo")
    base = weights(1)
    model(root / "base", base, "license: apache-2.0")
    card = "license: apache-2.0\nbase_model: zoo/base\nbase_model_relation: finetune"
    model(root / "tuned", tuned(base, 2), card)
    model(root / "liar", weights(3), card)
    model(root / "deeper", weights(4, LAYERS + 2), card)
    model(root / "narrower", weights(5, hidden=HIDDEN // 2), card)
    return root


# Start-up and help.


def test_help_needs_no_library_but_the_standard_one() -> None:
    script = (
        "import sys\nfrom lineage_plugin.cli import main\ncode = main(['check', '--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "[] 0"
    assert "--exhaustive" in run.stdout


@POSIX
def test_help_takes_less_than_300_ms_of_cpu() -> None:
    import resource

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert lineage("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_help_shows_the_commands_there_are_and_no_way_to_pass_a_token() -> None:
    run = lineage("--help")
    assert (run.returncode, run.stderr) == (0, "")
    words = (
        "check",
        "compare",
        "scan",
        "tree",
        "lint",
        "fingerprint",
        "registry",
        "upload",
        "hook",
        "HF_TOKEN",
        "exit codes",
    )
    for word in words:
        assert word in run.stdout
    for command in ("check", "compare", "scan", "lint", "upload"):
        shown = lineage(command, "--help").stdout
        assert "--token" not in shown
        assert "{cyclonedx,github,html,json,markdown,predicate,sarif,text}" in shown
        assert all(len(line) <= 100 for line in shown.splitlines())


def test_version() -> None:
    run = lineage("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"lineage-plugin {__version__}\n", "")


# Usage errors.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("check",), "MODEL"),
        (("compare", "one"), "BASE"),
        (("check", "m", "--budget", "lots"), "64MB"),
        (("check", "m", "--budget", "0"), "64MB"),
        (("check", "m", "--seed", "-1"), "0 or larger"),
        (("check", "m", "--bar", "nan"), "evidence bar"),
        (("check", "m", "--bar", "-2"), "evidence bar"),
        (("check", "m", "--bar", "high"), "invalid float"),
        (("check", "m", "--format", "xml"), "invalid choice: 'xml'"),
        (("check", "m", "--fail-on", "sometimes"), "invalid choice"),
        (("check", "m", "--off"), "unrecognized"),
        (("check", "m", "--token", "hf_x"), "unrecognized"),
        (("check", "m", "--output", "no/such/folder/r.json"), "does not exist"),
        (("lint", "m", "--exhaustive"), "unrecognized"),
        (("fly\x1b[31m\x1b]0;t\x07\n::error::x",), "invalid choice"),
        (("check", "m", "--\x1b[31m\u202e\n::error::x"), "unrecognized"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(arguments: tuple[str, ...], says: str) -> None:
    run = lineage(*arguments)
    assert_one_line_error(run, 2)
    assert says in run.stderr
    assert "\x1b" not in run.stderr
    assert "\u202e" not in run.stderr
    assert "::" not in run.stderr


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("64MB", 64_000_000),
        ("64 mb", 64_000_000),
        ("64MiB", 64 * 2**20),
        ("1.5GB", 1_500_000_000),
        (".5k", 500),
        ("512KiB", 512 * 1024),
        ("2T", 2 * 10**12),
        ("1TiB", 2**40),
        ("4000000", 4_000_000),
        ("7B", 7),
        (" 7 ", 7),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    "text",
    ["", "MB", "-1MB", "1e9", "inf", "nan", "64 parsecs", "0", "0.1", "1.2.3MB", "٣MB", "9" * 99, "64MBB", "1 i"],
)
def test_what_is_no_size_teaches_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="64MB"):
        parser().parse_args(["check", "m", f"--budget={text}"])


# What errors become.


def leaves(kind: type[errors.LineageError]) -> list[type[errors.LineageError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


@pytest.mark.parametrize("kind", leaves(errors.LineageError), ids=lambda kind: kind.__name__)
def test_every_error_has_its_exit_code_and_is_one_inert_line(
    kind: type[errors.LineageError], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        if issubclass(kind, errors.UploadBlocked):
            raise kind(samples.HOSTILE, ["is broken\n"], exit_code=kind.exit_code)
        if issubclass(kind, Wrong):
            raise kind(samples.HOSTILE, 1, 1, "is broken\n")
        structured = issubclass(kind, (errors.InputError, errors.HubError))
        raise kind(samples.HOSTILE, "is broken\n") if structured else kind(samples.HOSTILE + "\nis broken")  # type: ignore[call-arg]

    assert guarded(fail) == kind.exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lineage: error: ")
    assert "is broken" in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.replace("\n", "").isprintable()
    assert "::" not in printed.err


def test_the_codes_are_those_of_the_contract() -> None:
    assert {kind.exit_code for kind in leaves(errors.InputError)} == {2}
    assert (errors.HubDenied.exit_code, errors.HubUnreachable.exit_code, errors.HubNotFound.exit_code) == (4, 4, 2)


def explode(error: BaseException) -> int:
    raise error


def test_an_unexpected_error_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LINEAGE_DEBUG", raising=False)
    assert guarded(lambda: explode(ZeroDivisionError("a\nb\x1b[31m"))) == 2
    said = capsys.readouterr().err
    assert said == (
        "lineage: error: unexpected ZeroDivisionError: a b (please report this; LINEAGE_DEBUG=1 shows where)\n"
    )


def test_debugging_shows_the_traceback_but_never_the_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEAGE_DEBUG", "1")
    monkeypatch.setenv("HF_TOKEN", "secret-token-of-mine")
    assert guarded(lambda: explode(ValueError("header secret-token-of-mine refused"))) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "in explode" in said
    assert "secret-token-of-mine" not in said
    assert "header *** refused" in said


def test_an_error_of_the_system_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: explode(PermissionError(13, "Permission denied", "weights\x1b[31m.bin"))) == 2
    assert capsys.readouterr().err == "lineage: error: weights.bin: Permission denied\n"


@POSIX
def test_an_interrupt_is_quiet_and_130() -> None:
    script = (
        "import sys, time\nfrom lineage_plugin.cli import guarded\n"
        "sys.exit(guarded(lambda: print('ready', flush=True) or time.sleep(60)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


@POSIX
def test_a_reader_that_leaves_is_no_error_and_no_pass() -> None:
    script = (
        "import sys\nfrom lineage_plugin.cli import guarded\n"
        "sys.exit(guarded(lambda: [print('x' * 100, flush=True) for _ in range(100000)] and 0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (141, "")


def test_what_is_attested_was_read() -> None:
    for format in ("predicate", "cyclonedx"):
        assert_one_line_error(lineage("lint", "examples/liar", "--format", format), 2)


# The main job.


def test_an_honest_card_passes(zoo: Path) -> None:
    run = lineage("check", zoo / "tuned", "--base", zoo / "base")
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert "PASS" in run.stdout.splitlines()[0]
    assert "came up heads" in " ".join(run.stdout.split())


def test_a_false_card_fails(zoo: Path) -> None:
    run = lineage("check", zoo / "liar", "--base", zoo / "base")
    assert (run.returncode, run.stderr) == (1, ""), run.stdout
    assert "FAIL" in run.stdout.splitlines()[0]
    assert "LIN101 [error]" in " ".join(run.stdout.split())
    assert lineage("check", zoo / "liar", "--base", zoo / "base", "--fail-on", "never").returncode == 0


def test_compare_prints_a_valid_report_and_nothing_else(zoo: Path) -> None:
    for suspect, relation in (("tuned", "derived"), ("liar", "unrelated")):
        run = lineage("compare", zoo / suspect, zoo / "base", "--format", "json")
        document = json.loads(run.stdout)
        jsonschema.Draft202012Validator(schema()).validate(document)
        assert run.stderr == ""
        assert [c["relation"] for c in document["comparisons"]] == [relation]
        assert document["declared"]["bases"] == []


def test_another_depth_does_not_hide_that_nothing_is_shared(zoo: Path) -> None:
    run = lineage("compare", zoo / "deeper", zoo / "base")
    assert run.returncode == 0, run.stdout
    assert "UNRELATED" in run.stdout.splitlines()[0]


def test_another_width_without_a_trace_is_undecided_and_3(zoo: Path) -> None:
    run = lineage("compare", zoo / "narrower", zoo / "base")
    assert run.returncode == 3, run.stdout
    assert "UNDECIDED" in run.stdout.splitlines()[0]


def test_bases_given_replace_the_declared_ones(zoo: Path) -> None:
    run = lineage("check", zoo / "liar", "--base", zoo / "base", "--base", zoo / "liar", "--format", "json")
    document = json.loads(run.stdout)
    assert [c["relation"] for c in document["comparisons"]] == ["unrelated", "identical"]
    assert run.returncode == 1


def test_another_card_may_be_given(zoo: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("---\nbase_model: other/base\n---\n")
    run = lineage("check", zoo / "tuned", "--base", zoo / "base", "--card", card, "--format", "json")
    assert json.loads(run.stdout)["declared"]["bases"] == ["other/base"]


def test_lint_reads_no_weights(zoo: Path) -> None:
    run = lineage("lint", zoo / "base", "--format", "json", "--fail-on", "warning")
    document = json.loads(run.stdout)
    assert run.returncode == 1
    assert [f["code"] for f in document["findings"] if f["level"] == "warning"] == ["LIN201"]
    assert document["comparisons"] == []
    assert document["cost"]["bytes_read"] == 0


def test_the_same_seed_gives_the_same_evidence(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def evidence(*options: str) -> object:
        assert main(["compare", str(zoo / "liar"), str(zoo / "base"), "--format", "json", *options]) == 0
        return json.loads(capsys.readouterr().out)["comparisons"][0]["evidence"]

    assert evidence() == evidence("--seed", "0")
    assert evidence() != evidence("--seed", "1")


def test_output_goes_to_the_file_alone(zoo: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    command = ["check", zoo / "tuned", "--base", zoo / "base", "--format", "json", "--output", target]
    run = lineage(*command)
    assert (run.returncode, run.stdout) == (0, "")
    # Who reads the log only is told as well.
    assert run.stderr.startswith("PASS: ") and run.stderr.endswith(f"The report is in {target}.\n")
    assert lineage(*command, "--quiet").stderr == ""
    jsonschema.Draft202012Validator(schema()).validate(json.loads(target.read_text()))
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_output_file_alone(zoo: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    assert_one_line_error(lineage("compare", zoo / "tuned", tmp_path / "none", "--output", target), 2)
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "no/such/folder/at/all", "."),
        ("compare", "owner/name", "owner/other", "--offline"),
        ("compare", "../../etc/passwd", "/etc/passwd"),
        ("lint", "no-such-card.md"),
        ("check", "\x1b[31mred\u202e\n::error::x"),
    ],
)
def test_unreadable_input_is_one_line_and_code_2(arguments: Sequence[str]) -> None:
    run = lineage(*arguments)
    assert_one_line_error(run, 2)
    assert run.stderr.rstrip("\n").isprintable()


def test_a_damaged_checkpoint_is_one_line_and_code_2(zoo: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes((zoo / "base" / "model.safetensors").read_bytes()[:5000])
    run = lineage("compare", damaged, zoo / "base")
    assert_one_line_error(run, 2)
    assert "model.safetensors" in run.stderr


@pytest.mark.parametrize("command", ["check", "lint"])
def test_a_hostile_card_reaches_no_terminal_raw(command: str, zoo: Path, tmp_path: Path) -> None:
    value = json.dumps(samples.HOSTILE)
    folder = model(tmp_path / "m", weights(9), f"license: {value}\nbase_model: {value}\nbase_model_relation: {value}")
    bases = ("--base", zoo / "base") if command == "check" else ()
    for options in ({}, {"FORCE_COLOR": "1"}):
        run = lineage(command, folder, *bases, **options)
        assert (run.returncode, run.stderr) == (1, "")
        shown = run.stdout
        assert "[bold]rich[/bold]" in shown
        assert "\x1b]" not in shown
        assert "\x1b[31mred" not in shown
        assert "\u202e" not in shown
        assert "\x9b" not in shown
        assert not [line for line in shown.split("\n") if line.lstrip().startswith("::")]


# Over a Hub.


def test_a_model_on_a_hub(zoo: Path, hub: LocalHub) -> None:
    model(hub.root / "owner" / "tuned", tuned(weights(1), 2), "base_model: owner/base")
    model(hub.root / "owner" / "base", weights(1), None)
    run = lineage("check", "owner/tuned", "--endpoint", hub.endpoint, "--format", "json")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["comparisons"][0]["relation"] == "derived"
    assert document["comparisons"][0]["cost"]["suspect"]["requests"] > 0
    assert document["suspect"]["revision"]


def test_a_gated_model_is_4_without_access_and_the_token_is_never_shown(zoo: Path, hub: LocalHub) -> None:
    model(hub.root / "owner" / "base", weights(1), None)
    hub.faults.gated.add("owner/base")
    arguments = ("compare", str(zoo / "tuned"), "owner/base", "--endpoint", hub.endpoint)
    for token in ({}, {"HF_TOKEN": OUTSIDER}):
        run = lineage(*arguments, **token)
        assert_one_line_error(run, 4)
        assert OUTSIDER not in run.stderr
    allowed = lineage(*arguments, "--format", "json", HF_TOKEN=TOKEN)
    assert allowed.returncode == 0, allowed.stderr
    assert TOKEN not in allowed.stdout + allowed.stderr


def test_a_model_that_is_not_there_is_2(zoo: Path, hub: LocalHub) -> None:
    assert_one_line_error(lineage("compare", zoo / "tuned", "owner/none", "--endpoint", hub.endpoint), 2)


def test_main_answers_in_process_too(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(zoo / "tuned"), str(zoo / "base"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
