"""What is about to be uploaded: a list of files, each with its name in the repository, and its bytes or where they are.

A list is made of a folder, as ``upload_folder`` takes one, or of the operations of a commit. :func:`laid_out` puts it
on disk as a :class:`~lineage_plugin.hooks.judge.Tree`: weights as links, whatever their size, and small files as
copies, for a check follows no link of a card or a configuration out of its folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.layout import NOT_WEIGHTS
from lineage_plugin.checkpoint.names import is_plain_path
from lineage_plugin.errors import UsageError
from lineage_plugin.fingerprint.file import FILE as FINGERPRINT
from lineage_plugin.hooks.digests import Digests
from lineage_plugin.hooks.judge import Tree
from lineage_plugin.targets import CARD, LARGEST, describes
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

__all__ = [
    "SAMPLE",
    "Staged",
    "StagedFile",
    "folder_in_repo",
    "from_folder",
    "from_operations",
    "laid_out",
    "looks_like_weights",
]

SAMPLE = 512
"""First bytes of a file that are looked at; as many as the client of the Hub sends ahead."""
_ZIP = b"PK\x03\x04"
_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How a file of torch.save begins in the format before the zip archive."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


def looks_like_weights(name: str, first: bytes) -> bool:
    """Return whether a file is weights, by its name or its first bytes.

    Args:
        name: Its name in the repository. State of a training that is known by its name, such as ``optimizer.pt``, is
            none.
        first: Its first bytes, :data:`SAMPLE` of them if it has as many.
    """
    bare = name.lower().rpartition("/")[2]
    if is_weight_file(name):
        return True
    # Nobody keeps an optimizer in safetensors: what bears such a name there is looked at.
    if bare == FINGERPRINT or (NOT_WEIGHTS.match(bare) and not bare.endswith(".safetensors")):
        return False
    header = int.from_bytes(first[:8], "little")
    safetensors = first[8:9] == b"{" and 2 <= header <= 100_000_000
    torch = first.startswith(_TORCH) or (first.startswith(_ZIP) and b"/data.pkl" in first)
    return safetensors or torch or first.startswith((b"GGUF", _HDF5))


@dataclass(frozen=True, eq=False, slots=True)
class StagedFile:
    """A file that is about to be uploaded.

    Attributes:
        name: Its name in the repository.
        content: Where it lies, its bytes, or an open file of them.
        first: Its first bytes.
        size: Its size in bytes.
    """

    name: str
    content: Path | bytes | BinaryIO
    first: bytes
    size: int

    @property
    def is_weights(self) -> bool:
        """Whether it looks like weights."""
        return looks_like_weights(self.name, self.first)

    def sha256(self) -> str:
        """Return the digest of its bytes as they are now.

        Raises:
            UnreadableCheckpoint: When a local file cannot be read.
        """
        if isinstance(self.content, Path):
            return Digests().of([self.content])[self.content]
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        digest = hashlib.sha256()
        with _rewound(self.content) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    @property
    def is_card(self) -> bool:
        """Whether it is a model card."""
        return PurePosixPath(self.name).name == CARD

    def named_weights(self) -> Iterator[str]:
        """Yield the files that a shard index names; nothing for other files, and for one that cannot be read."""
        if not self.name.endswith(".index.json") or self.size > LARGEST:
            return
        prefix = self.name[: self.name.rfind("/") + 1]
        try:
            data = self.content.read_bytes() if isinstance(self.content, Path) else self.content
            shards = json.loads(data)["weight_map"].values() if isinstance(data, bytes) else ()
            yield from (f"{prefix}{shard}" for shard in dict.fromkeys(shards))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return

    @property
    def matters(self) -> bool:
        """Whether a check may look at it."""
        return self.is_weights or (describes(self.name) and self.size <= LARGEST)


@dataclass(frozen=True, eq=False)
class Staged:
    """The files of one upload, by their names in the repository.

    Attributes:
        files: The files.
        folder: The local folder that has the layout of the repository; None when there is none.
        gone: sha256 of weights that were sent ahead, and whose bytes are not here any more, by name.
    """

    files: Mapping[str, StagedFile]
    folder: Path | None = None
    gone: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def weights(self) -> frozenset[str]:
        """Names of the files that look like weights, or that a shard index calls so."""
        named = {name for file in self.files.values() for name in file.named_weights()}
        return frozenset(name for name, file in self.files.items() if file.is_weights or name in named)

    @cached_property
    def cards(self) -> frozenset[str]:
        """Names of the model cards."""
        return frozenset(name for name, file in self.files.items() if file.is_card)

    @property
    def counted(self) -> dict[str, StagedFile]:
        """The weights and cards: what has to be cleared."""
        return {name: self.files[name] for name in sorted(self.weights | self.cards)}


def from_folder(
    folder: Path,
    path_in_repo: str | None = None,
    *,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
) -> Staged:
    """Return the files that ``HfApi.upload_folder`` would upload.

    Args:
        folder: The local folder.
        path_in_repo: Where it goes in the repository.
        allow_patterns: As for ``upload_folder``.
        ignore_patterns: Likewise.

    Raises:
        UsageError: When it is no folder, or a file cannot be read.
    """
    from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects  # type: ignore[attr-defined]

    folder = folder.expanduser()
    if not folder.is_dir():
        raise UsageError(f"{one_line(str(folder), 200)}: there is no such folder")
    ignored = [ignore_patterns] if isinstance(ignore_patterns, str) else list(ignore_patterns or ())
    allowed = allow_patterns if allow_patterns is None or isinstance(allow_patterns, str) else list(allow_patterns)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("**/*") if path.is_file())
    kept = filter_repo_objects(paths, allow_patterns=allowed, ignore_patterns=[*ignored, *DEFAULT_IGNORE_PATTERNS])
    prefix = folder_in_repo(path_in_repo)
    return _staged(_local_file(prefix + path, folder.absolute() / path) for path in kept)


def folder_in_repo(path_in_repo: str | None) -> str:
    """Return what the names of files in a folder of a repository begin with: nothing, or the folder with a slash."""
    below = (path_in_repo or "").strip("/").removeprefix("./").strip("/")
    return f"{below}/" if below not in ("", ".") else ""


def from_operations(operations: Iterable[CommitOperationAdd]) -> Staged:
    """Return the files that operations of a commit add.

    Raises:
        UsageError: When a file cannot be read.
    """
    listed = list(operations)
    # preupload_lfs_files frees the memory of what it has sent.
    freed = [one for one in listed if one._is_uploaded and one.path_or_fileobj == b""]
    weights = [one for one in freed if looks_like_weights(one.path_in_repo, one.upload_info.sample)]
    gone = {one.path_in_repo: one.upload_info.sha256.hex() for one in weights}
    return replace(_staged(staged_file(one) for one in listed if one not in freed), gone=gone)


def staged_file(operation: CommitOperationAdd) -> StagedFile:
    """Return the file that an operation of a commit adds."""
    name, content = operation.path_in_repo, operation.path_or_fileobj
    if isinstance(content, str | Path):
        return _local_file(name, Path(os.path.abspath(content)))  # noqa: PTH100  # a link keeps its own name
    if isinstance(content, bytes):
        return StagedFile(name, content, content[:SAMPLE], len(content))
    with _rewound(content) as file:
        first = file.read(SAMPLE)
        return StagedFile(name, content, first, file.seek(0, io.SEEK_END))


def _local_file(name: str, path: Path) -> StagedFile:
    try:
        with path.open("rb") as file:
            return StagedFile(name, path, file.read(SAMPLE), os.fstat(file.fileno()).st_size)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"{one_line(str(path), 200)}: the file cannot be read ({why})") from error


def _staged(found: Iterable[StagedFile]) -> Staged:
    files = {file.name: file for file in found}
    for name, file in files.items():
        if file.matters and not is_plain_path(name):
            raise UsageError(f"'{one_line(name, 200)}' is no name for a file of a model")
    return Staged(files, _common_folder(files.values()))


def _common_folder(files: Iterable[StagedFile]) -> Path | None:
    """Return the folder below which all files have the names that they have in the repository."""
    folders = set()
    for file in files:
        parts = PurePosixPath(file.name).parts
        if not isinstance(file.content, Path) or file.content.parts[-len(parts) :] != parts:
            return None
        folders.add(Path(*file.content.parts[: -len(parts)]))
    return folders.pop() if len(folders) == 1 else None


@contextmanager
def laid_out(staged: Staged, repo: str, beside: Mapping[str, Path | bytes]) -> Iterator[tuple[Tree, frozenset[str]]]:
    """Put files on disk as the repository will have them.

    Args:
        staged: What is new.
        repo: The repository: ``owner/name``.
        beside: Files that are not new and belong to the models: on this machine, or as bytes.

    Yields:
        The tree, gone at the end of the block, and the names of all files in it: those that no check looks at, such as
        pictures, are left out.

    Raises:
        UsageError: When two names exclude each other.
        OSError: When the disk does not take them.
    """
    weights = staged.weights
    new = {name: file for name, file in staged.files.items() if file.matters or name in weights}
    old = {name: data for name, data in beside.items() if name not in staged.files and is_plain_path(name)}
    for name in new.keys() | old.keys():
        below = next((str(above) for above in PurePosixPath(name).parents if str(above) in staged.files), None)
        if below is not None:
            raise UsageError(f"'{one_line(name, 200)}' cannot lie below '{one_line(below, 200)}', which is a file")
    with tempfile.TemporaryDirectory(prefix="lineage-") as folder:
        top = Path(folder).resolve()
        for name, file in new.items():
            _put(top / name, file.content, name in weights)
        for name, data in old.items():
            _put(top / name, data, isinstance(data, Path) and is_weight_file(name))
        came_from = frozenset(folder for file in new.values() for folder in _origin(file.content))
        yield (
            Tree(top, repo, frozenset(new), weights, staged.folder, came_from=came_from),
            frozenset(new.keys() | old.keys()),
        )


def _origin(content: Path | bytes | BinaryIO) -> Iterator[Path]:
    """Yield the folder that a file was taken from, if that is known."""
    if isinstance(content, Path):
        yield content.parent
        return
    # Some file objects of libraries refuse to be asked.
    with suppress(NotImplementedError, OSError, ValueError):
        if isinstance(name := getattr(content, "name", None), str):
            yield Path(name).absolute().parent


def _put(target: Path, content: Path | bytes | BinaryIO, linked: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    elif not isinstance(content, Path):
        with _rewound(content) as stream, target.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
    elif linked:
        _link(Path(os.path.realpath(content)), target)
    else:
        shutil.copyfile(content, target)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:
        # Not everybody may make symbolic links everywhere.
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


@contextmanager
def _rewound(file: BinaryIO) -> Iterator[BinaryIO]:
    """Read a file from its beginning, and leave it where it was."""
    before = file.tell()
    file.seek(0)
    try:
        yield file
    finally:
        file.seek(before)
