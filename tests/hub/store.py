"""The repositories behind the local Hub: folders on disk seen as commits.

``main`` is the folder as it is now: its commit id follows from names, sizes and digests (for large files: sizes and
times), so it is stable while nothing changes and moves when something does. Uploads and extra revisions add commits;
bytes that an upload replaces are kept aside, so that older commits stay readable while the server runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

__all__ = ["DIGESTS", "LFS_SUFFIXES", "WEIGHT_SUFFIXES", "Blob", "Commit", "Repo", "is_weight", "safe_path"]

#: Optional sidecar in a repository's folder, never served: a JSON object of path -> sha256, trusted as it is.
DIGESTS = ".digests.json"

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".npz", ".npy")
LFS_SUFFIXES = (*WEIGHT_SUFFIXES, ".model", ".parquet", ".zip", ".gz", ".tar", ".pkl", ".pickle", ".arrow")
_HIDDEN = {".git", ".cache", DIGESTS}
_HASH_AT_ONCE = 16 * 2**20
_SAMPLE = 65536


def is_weight(path: str) -> bool:
    """Whether a file of this name holds weights."""
    return path.lower().endswith(WEIGHT_SUFFIXES)


def safe_path(path: str) -> str | None:
    """Return ``path`` if it is a plain relative path that stays inside, else ``None``."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or len(path) > 1000:
        return None
    if any(part in ("", ".", "..") or part in _HIDDEN for part in parts):
        return None
    return path


@dataclass
class Blob:
    """The bytes of one file in one or more commits.

    Attributes:
        location: Where the bytes lie now; moves aside when an upload replaces them.
        size: Length in bytes.
        mtime_ns: Time stamp at the time of the scan.
        lfs: Whether the Hub would keep it in large file storage (and serve it from the CDN).
        fast: Derive the sha256 from size, time stamp and ten samples instead of reading everything.
        known: sha256 from the sidecar or an upload; empty when it has to be computed.
    """

    location: Path
    size: int
    mtime_ns: int
    lfs: bool
    fast: bool = False
    known: str = ""
    _git: str = ""
    _identity: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def sha256(self) -> str:
        """Return the digest of the content (see ``fast``), computed once."""
        with self._lock:
            if not self.known:
                self.known = self._fast_digest() if self.fast and self.lfs else _file_sha256(self.location)
            return self.known

    def _fast_digest(self) -> str:
        digest = hashlib.sha256(f"fast:{self.size}:{self.mtime_ns}".encode())
        with self.location.open("rb") as file:
            for step in range(10):
                file.seek(max(0, (self.size - _SAMPLE) * step // 9))
                digest.update(file.read(_SAMPLE))
        return digest.hexdigest()

    def pointer(self) -> bytes:
        """Return the LFS pointer file that git would hold."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256()}\nsize {self.size}\n".encode()

    def git_oid(self) -> str:
        """Return the git blob id: of the content, or of the pointer for LFS files."""
        if not self._git:
            content = self.pointer() if self.lfs else self.location.read_bytes()
            self._git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return self._git

    def etag(self) -> str:
        """Return the quoted ETag that the Hub would send."""
        return f'"{self.sha256() if self.lfs else self.git_oid()}"'

    def identity(self) -> str:
        """Return what enters the commit id: a digest where that is cheap."""
        if not self._identity:  # kept: a digest that becomes known later must not move the commit id
            cheap = self.known or self.size <= _HASH_AT_ONCE or (self.fast and self.lfs)
            self._identity = self.sha256() if cheap else f"{self.size}:{self.mtime_ns}"
        return self._identity

    def intact(self) -> bool:
        """Whether the bytes still lie where they were scanned."""
        try:
            stat = self.location.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class Commit:
    """One state of a repository: its id and its files by path."""

    sha: str
    files: dict[str, Blob]
    title: str = "Update"

    def seconds(self) -> float:
        """Return the newest time stamp among the files, in seconds since the epoch."""
        return max((blob.mtime_ns for blob in self.files.values()), default=0) / 1e9

    def folders(self) -> dict[str, str]:
        """Return every folder path with a made-up but stable tree id."""
        found = {str(p): "" for path in self.files for p in PurePosixPath(path).parents if str(p) != "."}
        return {path: hashlib.sha1(f"{self.sha}:{path}".encode()).hexdigest() for path in sorted(found)}


class Repo:
    """One repository.

    Args:
        repo_id: ``owner/name`` of a model, ``datasets/owner/name`` of a dataset.
        folder: Its files.
        aside: Folder of the server's own where replaced bytes are kept.
        lfs_threshold: Files of at least this many bytes are LFS files whatever their name.
        fast_digests: See ``LocalHub``.
        writable: Whether commits may change the folder.
    """

    def __init__(
        self, repo_id: str, folder: Path, aside: Path, *, lfs_threshold: int, fast_digests: bool, writable: bool
    ) -> None:
        self.id = repo_id
        self.folder = folder
        self.writable = writable
        self._aside = aside
        self._threshold = lfs_threshold
        self._fast = fast_digests
        self._lock = threading.RLock()
        self._blobs: dict[Path, Blob] = {}
        self._title = "Initial commit"
        self._main: str | None = None
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}

    @property
    def dataset(self) -> bool:
        """Whether it is a dataset."""
        return self.id.count("/") == 2

    @property
    def kind(self) -> str:
        """``model`` or ``dataset``."""
        return "dataset" if self.dataset else "model"

    def is_lfs(self, path: str, size: int) -> bool:
        """Whether the Hub would put such a file into large file storage."""
        return size > 0 and (path.lower().endswith(LFS_SUFFIXES) or size >= self._threshold)

    def head(self) -> Commit:
        """Return the commit that ``main`` points to."""
        with self._lock:
            if self._main is not None:
                return self.commits[self._main]
            return self._commit(self._scan(self.folder), self._title)

    def set_main(self, sha: str | None) -> None:
        """Let ``main`` point to a known commit; ``None`` lets it follow the folder again."""
        with self._lock:
            if sha is not None and sha not in self.commits:
                raise KeyError(sha)
            self._main = sha

    def find(self, revision: str) -> Commit | None:
        """Return the commit of a branch, an extra revision or a full commit id."""
        with self._lock:
            head = self.head()
            if revision in ("main", "refs/heads/main"):
                return head
            return self.commits.get(self.refs.get(revision, revision))

    def add_revision(self, name: str, folder: Path) -> Commit:
        """Let ``name`` point to the files of another folder."""
        with self._lock:
            commit = self._commit(self._scan(folder), name)
            self.refs[name] = commit.sha
            return commit

    def alias(self, commit: Commit, salt: str) -> Commit:
        """Return the same files under another, stable commit id."""
        with self._lock:
            sha = hashlib.sha1(f"{commit.sha}:{salt}".encode()).hexdigest()
            return self.commits.setdefault(sha, Commit(sha, commit.files, salt))

    def _scan(self, folder: Path) -> dict[str, Blob]:
        sidecar = _read_sidecar(folder)
        files: dict[str, Blob] = {}
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(set(folders) - _HIDDEN)
            for name in sorted(set(names) - _HIDDEN):
                location = Path(parent) / name
                try:
                    stat = location.stat()
                except OSError:
                    continue
                path = location.relative_to(folder).as_posix()
                blob = self._blobs.get(location)
                if blob is None or (blob.size, blob.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                    lfs = self.is_lfs(path, stat.st_size)
                    blob = Blob(location, stat.st_size, stat.st_mtime_ns, lfs, self._fast, sidecar.get(path, ""))
                    self._blobs[location] = blob
                files[path] = blob
        return files

    def _commit(self, files: dict[str, Blob], title: str) -> Commit:
        lines = "".join(f"{path}\0{blob.size}\0{blob.identity()}\n" for path, blob in sorted(files.items()))
        sha = hashlib.sha1(f"{self.id}\n{lines}".encode()).hexdigest()
        return self.commits.setdefault(sha, Commit(sha, files, title))

    def write(self, added: dict[str, Path], deleted: list[str], title: str, digests: dict[str, str]) -> Commit:
        """Apply a commit to the folder: move ``added`` files in, drop ``deleted`` paths, return the new head."""
        with self._lock:
            inside = self.folder.resolve()
            if not all((self.folder / path).parent.resolve().is_relative_to(inside) for path in [*deleted, *added]):
                raise PermissionError(f"a path leaves {self.id}")
            before = self.head().files
            for path in {*deleted, *added} & set(before):
                self._put_aside(before[path])
            for path, source in added.items():
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, target)
                stat = target.stat()
                lfs = self.is_lfs(path, stat.st_size)
                known = digests.get(path, "")
                self._blobs[target] = Blob(target, stat.st_size, stat.st_mtime_ns, lfs, self._fast, known)
            self._main, self._title = None, title
            return self.head()

    def _put_aside(self, blob: Blob) -> None:
        target = self._aside / uuid.uuid4().hex
        self._blobs.pop(blob.location, None)
        shutil.move(blob.location, target)
        blob.location = target

    def safetensors_header(self, blob: Blob) -> dict[str, object] | None:
        """Return the parsed header of a safetensors file, or ``None`` when it has none."""
        try:
            with blob.location.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length)) if length <= min(blob.size, 100_000_000) else None
        except (OSError, ValueError, struct.error):
            return None
        return header if isinstance(header, dict) else None


def _read_sidecar(folder: Path) -> dict[str, str]:
    try:
        return {str(k): str(v) for k, v in json.loads((folder / DIGESTS).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
