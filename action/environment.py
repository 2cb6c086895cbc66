"""Makes the Python environment that the action runs in; needs nothing but the standard library.

``describe`` says where the environment belongs and under which key it may be cached, ``install`` makes it unless it is
there. This file also runs on Pythons that are too old for the package, so that it can say so.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["describe", "install", "main"]

LEAST = (3, 10)
SOURCE = Path(__file__).resolve().parent.parent
_STAMP = ".lineage-installed"


def main(arguments: list[str]) -> int:
    """Run ``describe`` or ``install`` with what the workflow says; return the exit code."""
    if sys.version_info < LEAST:
        version = ".".join(map(str, sys.version_info[:2]))
        return _fail(
            f"Python {version} is too old: put a step with actions/setup-python (3.10 or newer) before this one"
        )
    # A line break in an input must not become a second output.
    version = os.environ.get("INPUT_VERSION", "").strip()
    if version and not all(c.isascii() and (c.isalnum() or c in ".!+") for c in version):
        return _fail("input version is no version of the package; write it as 1.2.3, or leave it out")
    try:
        temporary = Path(os.environ["RUNNER_TEMP"])
        if arguments == ["describe"]:
            return describe(temporary, version, Path(os.environ["GITHUB_OUTPUT"]))
        return install(temporary, version)
    except KeyError as error:
        return _fail(f"the variable {error.args[0]} is not set; this runs as a step of a workflow")
    except OSError as error:
        return _fail(f"the Python environment could not be made: {error}")


def describe(temporary: Path, version: str, output: Path) -> int:
    """Write as outputs: the folder, the interpreter, the key for a cache, and the folder of fingerprints."""
    folder = _folder(temporary)
    values = {
        "environment": folder,
        "python": _interpreter(folder),
        "key": _key(version),
        "fingerprints": temporary / "lineage" / "cache",
    }
    with output.open("a", encoding="utf-8") as file:
        for name, value in values.items():
            file.write(f"{name}={value}\n")
    return 0


def install(temporary: Path, version: str) -> int:
    """Make the environment, unless a cache has brought it."""
    folder = _folder(temporary)
    stamp, key = folder / _STAMP, _key(version)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == key and _runs(_interpreter(folder)):
        return 0
    wanted = f"lineage-plugin[action]=={version}" if version else f"{SOURCE}[action]"
    # Isolated (-I): nothing is imported from the current folder, which holds what a pull request brought.
    python = str(_interpreter(folder))
    commands = (
        [sys.executable, "-I", "-m", "venv", "--clear", str(folder)],
        [python, "-I", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", wanted],
    )
    for command in commands:
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
            wrong = (
                f"input version: lineage-plugin {version} cannot be installed" if version else "the installation failed"
            )
            return _fail(f"{wrong}; what pip printed above says why")
    stamp.write_text(key, encoding="utf-8")
    return 0


def _folder(temporary: Path) -> Path:
    return temporary / "lineage" / "environment"


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _runs(interpreter: Path) -> bool:
    try:
        return subprocess.run([str(interpreter), "-I", "-c", "import lineage_plugin"], check=False).returncode == 0
    except OSError:
        return False


def _key(version: str) -> str:
    """Return a digest of all that the environment depends on: the interpreter, and what is installed."""
    digest = hashlib.sha256()
    parts = [sys.version, sys.platform, os.path.realpath(sys.executable), version]
    if not version:
        files = [SOURCE / "pyproject.toml", *(SOURCE / "lineage_plugin").rglob("*")]
        for path in sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts):
            parts += [path.relative_to(SOURCE).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
    digest.update("\0".join(parts).encode("utf-8", "surrogateescape"))
    return "lineage-environment-" + digest.hexdigest()[:40]


def _fail(message: str) -> int:
    sys.stdout.write(f"::error title=lineage::{message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
