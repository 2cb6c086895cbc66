"""Real git repositories for the tests of hooks, a clone to push from and a bare repository to push to; small models."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def _with_one_layer(source: Path, folder: Path) -> None:
    """Copy an example without its later layers: a quarter of the time, and the same findings."""
    folder.mkdir()
    shutil.copy(source / "README.md", folder)
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    # By hand, so that no library of tensors is loaded for tests that need none.
    data = (source / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header, body = {}, b""
    for name, entry in json.loads(data[8:start]).items():
        if "data_offsets" in entry and (".layers." not in name or ".layers.0." in name):
            first, last = entry["data_offsets"]
            header[name] = entry | {"data_offsets": [len(body), len(body) + last - first]}
            body += data[start + first : start + last]
    head = json.dumps({"__metadata__": {"format": "pt"}} | header, separators=(",", ":")).encode()
    # As the library itself writes it: aligned to 8 bytes.
    head += b" " * (-len(head) % 8)
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + body)


EXAMPLES = Path(tempfile.mkdtemp(prefix="lineage-examples-"))
"""Small copies; some versions of the Hub's client leave notes in the folders that they upload."""
atexit.register(shutil.rmtree, EXAMPLES, ignore_errors=True)
for _name in ("base", "honest", "liar", "twin"):
    _with_one_layer(ROOT / "examples" / _name, EXAMPLES / _name)


@dataclass
class Work:
    """A clone and what it pushes to.

    Attributes:
        clone: The working tree.
        bare: The remote, named ``origin``.
        environment: Variables of every command.
    """

    clone: Path
    bare: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, ok: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.clone, env=self.environment | environment, capture_output=True, text=True, timeout=200
        )
        assert not ok or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def git(self, *arguments: str, **environment: str) -> str:
        return self.run("git", *arguments, **environment).stdout.strip()

    def lineage(self, *arguments: str, ok: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "lineage_plugin", *arguments, ok=ok, **environment)

    def push(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("git", "push", *(arguments or ("origin", "main")), ok=False, **environment)

    def commit(self, message: str = "a commit") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def received(self) -> tuple[str, str]:
        """What the remote has: its refs, and how many objects."""
        refs = subprocess.run(["git", "-C", self.bare, "for-each-ref"], capture_output=True, text=True, check=True)
        count = subprocess.run(
            ["git", "-C", self.bare, "count-objects", "-v"], capture_output=True, text=True, check=True
        )
        return refs.stdout, count.stdout

    def add(self, example: str, to: str = "") -> Path:
        """Copy an example model into the working tree."""
        # With times of their own: git takes a file of the same size and time for unchanged.
        source, target = EXAMPLES / example, self.clone / to
        return Path(shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile))

    def point(self, name: str, *, stored: bool = True) -> str:
        """Replace a file by its Git LFS pointer, its bytes in git-lfs's store or gone; return its digest."""
        path = self.clone / name
        data = path.read_bytes()
        oid = hashlib.sha256(data).hexdigest()
        if stored:
            place = self.clone / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"
        path.write_text(text, encoding="ascii")
        return oid

    def correct(self, to: str = "") -> None:
        """Let the card of the liar say nothing of a base."""
        card = self.clone / to / "README.md"
        lines = card.read_text(encoding="utf-8").splitlines(keepends=True)
        card.write_text("".join(line for line in lines if not line.startswith("base_model")), encoding="utf-8")


def work_in(folder: Path, **environment: str) -> Work:
    """Make an empty clone on branch main, its remote, and a home of their own."""
    home = folder / "home"
    home.mkdir(parents=True)
    (home / ".gitconfig").write_text(
        "[user]\n\tname = n\n\temail = e@example.org\n[init]\n\tdefaultBranch = main\n[commit]\n\tgpgsign = false\n"
        '[protocol "file"]\n\tallow = always\n',
        encoding="utf-8",
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "LINEAGE_", "PRE_COMMIT"))
    }
    kept |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "LINEAGE_CACHE": str(home / "lineage"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    made = Work(folder / "my-model", folder / "bare.git", kept | environment)
    made.clone.mkdir()
    made.git("init", "-q", "-b", "main")
    made.git("init", "-q", "--bare", "-b", "main", str(made.bare))
    made.git("remote", "add", "origin", str(made.bare))
    return made


def stopped(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0, done.stderr
    assert "the push is stopped, no commit was sent" in done.stderr and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)


def went(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
