"""Git clones without their large files: pointers, and the Hub behind them. Real git, real HTTP."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lineage_plugin import compare
from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.checkpoint.git import find_clone
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.pointers import model_id_of, parse_pointer
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.errors import InputError, LineageError, UnreadableCheckpoint
from lineage_plugin.options import Options
from tests.hub import OUTSIDER, TOKEN, LocalHub
from tests.hub.store import Commit

from .builders import expected, random_selections, random_tensors, write_sharded, write_single

ID = "owner/name"
OID = "deadbeef" * 8
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n".encode()


def git(folder: Path, *arguments: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    name = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
    command = ["git", *name, *arguments]
    found = subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def clone_of(hub: LocalHub, target: Path, *, pulled: tuple[str, ...] = (), url: str | None = None) -> Path:
    """Make the clone that git without git-lfs would make, and let the Hub know its commit."""
    repo = hub.repo(ID)
    assert repo is not None
    head = repo.head()
    target.mkdir()
    git(target, "init")
    for name, blob in head.files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob.pointer() if blob.lfs else blob.location.read_bytes())
    git(target, "add", ".")
    git(target, "commit", "-m", "first")
    git(target, "remote", "add", "origin", f"{hub.endpoint}/{ID}" if url is None else url)
    know(hub, git(target, "rev-parse", "HEAD"))
    for name in pulled:
        (target / name).write_bytes(head.files[name].location.read_bytes())
    return target


def know(hub: LocalHub, sha: str) -> None:
    """Let the Hub have its present files under a commit of git's."""
    repo = hub.repo(ID)
    assert repo is not None
    repo.commits[sha] = Commit(sha, repo.head().files)
    repo.set_main(sha)


def opened(hub: LocalHub, place: Path, **more: object) -> StoredCheckpoint:
    checkpoint = open_checkpoint(str(place), options=Options(endpoint=hub.endpoint, **more))  # type: ignore[arg-type]
    assert isinstance(checkpoint, StoredCheckpoint)
    return checkpoint


def check(checkpoint: StoredCheckpoint, tensors: dict[str, torch.Tensor]) -> None:
    selections = list(random_selections(tensors, 0))
    for selection, found in zip(selections, checkpoint.read(selections), strict=True):
        np.testing.assert_array_equal(found, expected(tensors[selection.tensor], selection))


@pytest.fixture
def tensors(hub: LocalHub) -> dict[str, torch.Tensor]:
    """A model of three shards on the Hub."""
    tensors = random_tensors(3)
    folder = write_sharded(hub.root / ID, tensors)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "README.md").write_text("# card\n")
    (folder / "tokenizer.model").write_bytes(b"pieces" * 100)
    return tensors


# Reading -------------------------------------------------------------------------------------------------------------


def test_what_pointers_stand_for_is_read_from_the_hub(
    hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    checkpoint = opened(hub, clone_of(hub, tmp_path / "clone"))
    check(checkpoint, tensors)
    assert (checkpoint.local, checkpoint.revision) == (False, None)
    assert checkpoint.config == {"model_type": "llama"}
    assert checkpoint.text("README.md") == "# card\n"
    small = [r for r in hub.log if r.file and not r.file.endswith(".safetensors")]
    assert small == []
    assert checkpoint.data("tokenizer.model") == b"pieces" * 100
    real = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (hub.root / ID).glob("*.safetensors")}
    assert checkpoint.digests() == real
    cost = checkpoint.cost()
    assert cost.requests == hub.log.requests()
    assert cost.bytes_total == sum(p.stat().st_size for p in (hub.root / ID).glob("*.safetensors"))
    assert cost.bytes_read == sum(r.sent for r in hub.log.records(port="cdn") if r.file.endswith(".safetensors"))


@pytest.mark.parametrize("number", [1, 2])
def test_clones_pulled_in_part(hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path, number: int) -> None:
    pulled = tuple(f"model-{n + 1:05d}-of-00003.safetensors" for n in range(number))
    checkpoint = opened(hub, clone_of(hub, tmp_path / "clone", pulled=pulled))
    check(checkpoint, tensors)
    fetched = {r.file for r in hub.log.records(port="cdn")}
    assert len(fetched) == 3 - number
    assert not fetched & set(pulled)
    assert len(checkpoint.digests()) == 3 - number
    assert len(checkpoint.digests(compute=True)) == 3


def test_a_clone_pulled_for_one_format_is_local(
    hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    (hub.root / ID / "pytorch_model.bin").write_bytes(bytes(5000))
    pulled = tuple(f"model-{n + 1:05d}-of-00003.safetensors" for n in range(3))
    clone = clone_of(hub, tmp_path / "clone", pulled=pulled)
    checkpoint = opened(hub, clone, offline=True)
    check(checkpoint, tensors)
    assert checkpoint.local
    assert checkpoint.files["pytorch_model.bin"].size == 5000
    assert hub.log.requests() == 0


def test_a_clone_is_identical_to_its_repository(
    hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    clone = clone_of(hub, tmp_path / "clone")
    report = compare(str(clone), ID, options=Options(endpoint=hub.endpoint))
    assert report.comparisons[0].relation == "identical"


def test_single_files_shards_and_folders_of_a_clone(
    hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    write_single(hub.root / ID / "unet", {"w": torch.arange(6.0).reshape(2, 3)})
    clone = clone_of(hub, tmp_path / "clone")
    for place in (clone / "unet", clone / "unet" / "model.safetensors", clone / "." / "unet" / ".." / "unet"):
        (found,) = opened(hub, place).read([Selection("w", rows=np.array([1]))])
        np.testing.assert_array_equal(found, [[3, 4, 5]])
    shard = opened(hub, clone / "model-00002-of-00003.safetensors")
    assert shard.weight_files == ("model-00002-of-00003.safetensors",)


def test_gguf_behind_pointers(hub: LocalHub, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    folder = hub.root / ID
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(str(folder / "model-f32.gguf"), "llama")
    writer.add_block_count(1)
    writer.add_tensor("output_norm.weight", values[0])
    writer.add_tensor("token_embd.weight", values)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    checkpoint = opened(hub, clone_of(hub, tmp_path / "clone"))
    assert checkpoint.format == "gguf"
    name = next(n for n, info in checkpoint.tensors.items() if len(info.shape) == 2)
    np.testing.assert_array_equal(checkpoint.read([Selection(name, rows=np.array([2]))])[0], values[2:])
    assert {r.file for r in hub.log.records(port="cdn")} == {"model-f32.gguf"}


# Git -----------------------------------------------------------------------------------------------------------------


def test_every_way_git_says_where_it_stands(hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    clone = clone_of(hub, tmp_path / "clone")
    head = git(clone, "rev-parse", "HEAD")

    def works(place: Path) -> None:
        found = find_clone(place)
        assert found is not None
        assert found.commits[0] == git(place, "rev-parse", "HEAD")
        assert found.url == git(place, "config", "--get", "remote.origin.url")
        check(opened(hub, place), tensors)

    works(clone)
    git(clone, "pack-refs", "--all")
    assert not (clone / ".git" / "refs" / "heads" / "main").exists()
    works(clone)
    git(clone, "checkout", "--detach")
    works(clone)
    git(clone, "checkout", "-b", "feature/x")
    works(clone)
    git(clone, "worktree", "add", str(tmp_path / "tree"), "main")
    assert (tmp_path / "tree" / ".git").is_file()
    works(tmp_path / "tree")
    git(clone, "remote", "rename", "origin", "hub")
    found = find_clone(clone)
    assert found is not None
    assert (found.url, found.commits[0]) == (f"{hub.endpoint}/{ID}", head)


def test_a_commit_that_is_not_pushed_falls_back_to_the_one_that_is(
    hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    clone = clone_of(hub, tmp_path / "clone")
    pushed = git(clone, "rev-parse", "HEAD")
    git(clone, "update-ref", "refs/remotes/origin/main", pushed)
    (clone / "README.md").write_text("# new\n")
    git(clone, "commit", "-am", "second")
    checkpoint = opened(hub, clone)
    check(checkpoint, tensors)
    assert checkpoint.text("README.md") == "# new\n"
    # Nor need the clone know what the remote has: the default branch of now does, for digests decide.
    git(clone, "update-ref", "-d", "refs/remotes/origin/main")
    check(opened(hub, clone), tensors)


@pytest.mark.parametrize(
    "config",
    [
        '[remote "origin"]\n\turl = "{url}" ; a comment\n',
        '[REMOTE "origin"] URL={url}\n',
        '# x\n[remote "origin"]\n  fetch = +refs/heads/*\n  url = {url} # y\n[branch "main"]\n remote = origin\n',
        '[remote "other"]\nurl = https://example.com/a/b\n[remote "up"]\nurl = {url}\n[branch "main"]\nremote = up\n',
        '[remote "origin"]\nurl = http://127.0.0.1\\\n:{port}/owner/name.git\n',
    ],
)
def test_configurations_are_read_as_git_reads_them(hub: LocalHub, tmp_path: Path, config: str) -> None:
    git(tmp_path, "init")
    url = f"{hub.endpoint}/{ID}"
    text = config.replace("{url}", url).replace("{port}", url.split(":")[2].split("/")[0])
    (tmp_path / ".git" / "config").write_text(text)
    found = find_clone(tmp_path)
    assert found is not None
    name = "up" if '"up"' in config else "origin"
    assert found.url == git(tmp_path, "config", "--get", f"remote.{name}.url")
    assert model_id_of(found.url, hub.endpoint) == ID


@pytest.mark.parametrize(
    ("url", "endpoint", "id"),
    [
        ("https://huggingface.co/owner/name", "https://huggingface.co", "owner/name"),
        ("https://huggingface.co/owner/name.git", "https://huggingface.co", "owner/name"),
        ("https://huggingface.co/owner/name/", "https://huggingface.co", "owner/name"),
        ("https://user:hf_secret@huggingface.co/owner/name", "https://huggingface.co", "owner/name"),
        ("https://hf.co/owner/name", "https://huggingface.co", "owner/name"),
        ("git@hf.co:owner/name", "https://huggingface.co", "owner/name"),
        ("git@hf.co:owner/name.git", "https://huggingface.co", "owner/name"),
        ("ssh://git@hf.co/owner/name", "https://huggingface.co", "owner/name"),
        ("http://127.0.0.1:99/owner/name", "http://127.0.0.1:99", "owner/name"),
        ("git@hub.example:owner/name", "https://hub.example", "owner/name"),
        ("https://huggingface.co/datasets/owner/name", "https://huggingface.co", None),
        ("https://huggingface.co/spaces/owner/name", "https://huggingface.co", None),
        ("https://huggingface.co/gpt2", "https://huggingface.co", None),
        ("https://github.com/owner/name", "https://huggingface.co", None),
        ("https://huggingface.co.evil.example/owner/name", "https://huggingface.co", None),
        ("https://huggingface.co@evil.example/owner/name", "https://huggingface.co", None),
        ("https://evil.example/huggingface.co/owner", "https://huggingface.co", None),
        ("https://huggingface.co/owner/name", "https://hub.example", None),
        ("http://127.0.0.1:98/owner/name", "http://127.0.0.1:99", None),
        ("https://127.0.0.1:99/owner/name", "http://127.0.0.1:99", None),
        ("file:///etc/passwd", "https://huggingface.co", None),
        ("ext::sh -c id% >&2", "https://huggingface.co", None),
        ("/srv/git/owner/name", "https://huggingface.co", None),
        ("../owner/name", "https://huggingface.co", None),
        ("https://huggingface.co/owner/../name", "https://huggingface.co", None),
        ("https://huggingface.co/owner/na%6de", "https://huggingface.co", None),
        ("http://[::1", "https://huggingface.co", None),
        ("https://huggingface.co:99999/owner/name", "https://huggingface.co", "owner/name"),
        ("", "https://huggingface.co", None),
    ],
)
def test_which_remotes_are_models_of_the_hub(url: str, endpoint: str, id: str | None) -> None:
    assert model_id_of(url, endpoint) == id


# What is refused -----------------------------------------------------------------------------------------------------


def test_another_server_is_never_asked(tmp_path: Path, hub: LocalHub, tensors: dict[str, torch.Tensor]) -> None:
    with LocalHub(hub.root) as other:
        clone = clone_of(hub, tmp_path / "clone", url=f"{other.endpoint}/{ID}")
        with pytest.raises(UnreadableCheckpoint, match="no model on the Hub"):
            opened(hub, clone, token=TOKEN)
        assert (hub.log.requests(), other.log.requests()) == (0, 0)


def test_everything_in_the_way_is_one_line(hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    clone = clone_of(hub, tmp_path / "clone", url=f"http://user:hf_secret@{hub.endpoint[7:]}/{ID}")

    def fails(phrase: str, **more: object) -> None:
        with pytest.raises(LineageError, match=phrase) as caught:
            opened(hub, clone, **more)
        message = str(caught.value)
        assert message.isprintable()
        assert "hf_secret" not in message
        if isinstance(caught.value, InputError):
            assert "git lfs pull" in message

    fails("offline", offline=True)
    assert hub.log.requests() == 0
    check(opened(hub, clone), tensors)
    with pytest.raises(UnreadableCheckpoint, match="offline"):
        open_local(clone)
    hub.faults.gated.add(ID)
    fails("gated", token=OUTSIDER)
    hub.faults.gated.clear()
    shard = clone / "model-00002-of-00003.safetensors"
    kept = shard.read_bytes()
    shard.write_bytes(POINTER)
    fails("another file of this name")
    shard.write_bytes(kept.replace(b"size ", b"size 1"))
    fails("another file of this name")
    shard.write_bytes(kept.replace(b"spec/v1", b"spec/v2"))
    fails("Git LFS pointer")
    shard.write_bytes(kept)
    (hub.root / ID / shard.name).rename(tmp_path / "gone")
    know_without = hub.repo(ID)
    assert know_without is not None
    know_without.set_main(None)
    sha = git(clone, "rev-parse", "HEAD")
    know_without.commits[sha] = Commit(sha, know_without.head().files)
    fails("does not have it")
    git(clone, "remote", "remove", "origin")
    fails("no git clone that says where it comes from")
    (clone / ".git").rename(tmp_path / "aside")
    fails("no git clone")


def test_small_files_that_are_not_what_the_pointer_says(
    hub: LocalHub, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    clone = clone_of(hub, tmp_path / "clone")
    repo = hub.repo(ID)
    assert repo is not None
    blob = repo.head().files["tokenizer.model"]
    checkpoint = opened(hub, clone)
    # The Hub states the right digest and sends other bytes.
    stamp = blob.location.stat()
    blob.location.write_bytes(b"PIECES" * 100)
    os.utime(blob.location, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(UnreadableCheckpoint, match="something else"):
        checkpoint.data("tokenizer.model")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        POINTER[:-1],
        POINTER + b"\n",
        POINTER.replace(b"\n", b"\r\n"),
        POINTER.replace(b"v1", b"v2"),
        POINTER.replace(b"https", b"http"),
        POINTER.replace(b"sha256", b"sha512"),
        POINTER.replace(b"dead", b"dxad", 1),
        POINTER.replace(b"dead", b"DEAD", 1),
        POINTER.replace(b"dead", b"ead", 1),
        POINTER.replace(b"size 12345", b"size 012345"),
        POINTER.replace(b"size 12345", b"size -1"),
        POINTER.replace(b"size 12345", b"size 1e9"),
        POINTER.replace(b"12345", b"9" * 19),
        POINTER.replace(b"12345", b"9" * 30),
        POINTER.replace(b"oid", b"oId"),
        b"\xef\xbb\xbf" + POINTER,
        POINTER.replace(b"oid", b"ext-0-foo sha256:" + b"0" * 64 + b"\noid"),
    ],
)
def test_what_is_no_pointer(data: bytes) -> None:
    assert parse_pointer(data) is None


def test_what_is_a_pointer() -> None:
    assert parse_pointer(POINTER) == (OID, 12345)
    assert parse_pointer(POINTER.replace(b"12345", b"0")) == (OID, 0)


@pytest.mark.parametrize(
    "damage",
    ["pipe", "loop", "huge", "binary", "outside", "gitdir", "gitdir-loop", "ref-chain", "reftable", "no-config"],
)
def test_hostile_git_folders_are_no_clones(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    git(folder, "init")
    home = folder / ".git"
    with (home / "config").open("a") as file:
        file.write('[remote "origin"]\nurl = https://huggingface.co/owner/name\n')
    head = home / "HEAD"
    (tmp_path / "secret").write_text("a" * 40)
    match damage:
        case "pipe":
            head.unlink()
            os.mkfifo(head)
        case "loop":
            head.unlink()
            head.symlink_to("HEAD")
        case "huge":
            head.write_bytes(b"ref: refs/heads/main\n" * 10_000)
        case "binary":
            head.write_bytes(bytes(range(256)))
        case "outside":
            head.write_text("ref: refs/../../../secret\n")
        case "gitdir":
            home.rename(tmp_path / "aside")
            home.write_text("gitdir: " + "../" * 500 + "etc\n")
        case "gitdir-loop":
            home.rename(tmp_path / "aside")
            home.write_text("gitdir: .git\n")
        case "ref-chain":
            (home / "refs" / "heads" / "main").write_text("ref: refs/heads/main\n")
            head.write_text("ref: refs/heads/main\n")
        case "reftable":
            head.write_text("ref: refs/heads/.invalid\n")
        case _:
            (home / "config").unlink()
    start = time.monotonic()
    found = find_clone(folder)
    assert found is None or found.commits == ()
    assert time.monotonic() - start < 5
    (folder / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(UnreadableCheckpoint, match="no git clone") as caught:
        open_checkpoint(str(folder), options=Options(endpoint="http://127.0.0.1:9"))
    assert str(caught.value).isprintable()


def test_damaged_git_files_never_crash(tmp_path: Path) -> None:
    git(tmp_path, "init")
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    git(tmp_path, "remote", "add", "origin", "https://huggingface.co/owner/name")
    git(tmp_path, "pack-refs", "--all")
    home, rng = tmp_path / ".git", random.Random(0)
    kept = {name: (home / name).read_bytes() for name in ("HEAD", "config", "packed-refs")}
    seen = set()
    for _ in range(400):
        name = rng.choice(sorted(kept))
        data = bytearray(kept[name])
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(data) + 1)
            data[place : place + rng.randrange(3)] = rng.choice(
                [b"\0", b"\n", b'"', b"\\", b"[", b"]", b"=", b"#", b"\xff", b"../", data[:20], b""]
            )
        (home / name).write_bytes(data)
        found = find_clone(tmp_path)
        seen.add(None if found is None else (bool(found.url), len(found.commits)))
        if found is not None and found.url is not None:
            model_id_of(found.url, "https://huggingface.co")
        (home / name).write_bytes(kept[name])
    assert (True, 1) in seen
    assert len(seen) > 2
