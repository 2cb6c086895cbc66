"""A Hub on this machine that the real ``huggingface_hub`` client talks to; see ``LocalHub``."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

from .api import HubHandler
from .cdn import CdnHandler, Signer
from .discussions import Board
from .faults import Faults
from .log import RequestLog
from .store import Commit, Repo, safe_path
from .wire import Server

__all__ = ["OUTSIDER", "TOKEN", "LocalHub"]

#: The token that may read and write everything.
TOKEN = "hf_localHubOwner"
#: A valid token that was not granted access to gated and private repositories.
OUTSIDER = "hf_localHubOutsider"


class LocalHub:
    """Serve folders as repositories on two ports: the Hub and, by redirect, its CDN.

    ``root/owner/name`` is the repository ``owner/name`` of a model, ``root/datasets/owner/name`` that of a dataset,
    which is called ``datasets/owner/name`` here. They are looked up anew at each request, so files may be added while
    the server runs::

        with LocalHub(tmp_path) as hub:
            HfApi(endpoint=hub.endpoint).model_info("owner/name", files_metadata=True)
            assert hub.log.requests("owner/name") == 1

    Args:
        root: Folder of the repositories. Uploads write into it.
        latency: Seconds that every request waits on both ports before it is answered.
        faults: What goes wrong; a healthy server by default. Also reachable, and changeable, as ``hub.faults``.
        lfs_threshold: Files of at least this many bytes are LFS files (served by the CDN port); files with a weight
            suffix are so whatever their size, as on the Hub.
        fast_digests: For LFS files, do not read everything to answer with a sha256, but derive one from size, time
            stamp and ten samples of 64 KiB. It is stable, equal for files copied with their time stamp, and **not** the
            sha256 of the content. Without it the digest is computed when it is first asked for and kept. A
            ``.digests.json`` in a repository's folder ({path: sha256}, never served) is believed either way.
        mounts: Further repositories: id -> folder. They are read-only, and the id may lack an owner.
        xet_hashes: Report a (made-up) ``xetHash`` in trees. ``snapshot_download`` then wants a xet storage that is not
            here, unless ``HF_HUB_DISABLE_XET`` is set.
        redirect_small: Answer ``/resolve/`` of small files with the 307 to ``/api/resolve-cache/`` that the Hub sends.
        upload_mode: What preupload answers: ``auto`` (LFS by name and size), ``regular`` or ``lfs`` for every file.
            There is no xet storage here: uploads of LFS files need ``HF_HUB_DISABLE_XET``; ``regular`` works with xet.
        cdn_seconds: Lifetime of a signed CDN address.
        page_size: Entries per page of tree listings.
        port: Port of the Hub; 0 picks a free one. The CDN port is always picked.

    Attributes:
        log: Every request of both ports.
        discussions: The discussions of all repositories.
        errors: Exceptions inside the server, answered with 500; a test may assert that there are none.
        renamed: Names that repositories had before -> ids that they have now; requests are sent on with a 307.
    """

    def __init__(
        self,
        root: Path,
        *,
        latency: float = 0.0,
        faults: Faults | None = None,
        lfs_threshold: int = 10 * 2**20,
        fast_digests: bool = False,
        mounts: Mapping[str, Path] | None = None,
        xet_hashes: bool = False,
        redirect_small: bool = False,
        upload_mode: Literal["auto", "regular", "lfs"] = "auto",
        cdn_seconds: float = 3600.0,
        page_size: int = 1000,
        port: int = 0,
    ) -> None:
        self.root = Path(root)
        self.latency = latency
        self.faults = faults if faults is not None else Faults()
        self.lfs_threshold = lfs_threshold
        self.fast_digests = fast_digests
        self.xet_hashes = xet_hashes
        self.redirect_small = redirect_small
        self.upload_mode = upload_mode
        self.page_size = page_size
        self.log = RequestLog()
        self.discussions = Board()
        self.errors: list[Exception] = []
        self.signer = Signer(cdn_seconds)
        self._port = port
        self.renamed: dict[str, str] = {}
        self._mounts = {repo_id: Path(folder) for repo_id, folder in (mounts or {}).items()}
        self._repos: dict[str, Repo] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._servers: list[Server] = []
        self.endpoint = ""
        self.cdn = ""

    # Life -----------------------------------------------------------------------------------------------------------

    def start(self) -> LocalHub:
        """Open both ports; ``endpoint`` is the address for ``HF_ENDPOINT`` or ``HfApi(endpoint=...)``."""
        if self._servers:
            return self
        self._stop.clear()
        self.state = Path(tempfile.mkdtemp(prefix="local-hub-"))
        self._servers = [
            Server(self, "hub", HubHandler, "127.0.0.1", self._port),
            Server(self, "cdn", CdnHandler, "127.0.0.1", 0),
        ]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def stop(self) -> None:
        """Close both ports, end all connections and threads, remove what uploads left aside."""
        self._stop.set()
        for server in self._servers:
            server.close()
        self._servers = []
        if hasattr(self, "state"):
            shutil.rmtree(self.state, ignore_errors=True)

    def __enter__(self) -> LocalHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the server is stopped."""
        if seconds > 0:
            self._stop.wait(seconds)

    # Repositories ---------------------------------------------------------------------------------------------------

    def repo(self, repo_id: str) -> Repo | None:
        """Return the repository of this id, or ``None``."""
        folder = self._mounts.get(repo_id)
        writable = folder is None
        if folder is None:
            if repo_id.count("/") != 1 + repo_id.startswith("datasets/") or safe_path(repo_id) is None:
                return None
            folder = self.root / repo_id
        if not folder.is_dir():
            return None
        with self._lock:
            if repo_id not in self._repos:
                self._repos[repo_id] = Repo(
                    repo_id,
                    folder,
                    self.state,
                    lfs_threshold=self.lfs_threshold,
                    fast_digests=self.fast_digests,
                    writable=writable,
                )
            return self._repos[repo_id]

    def repo_ids(self) -> list[str]:
        """Return the ids of all models."""
        found = {f"{f.parent.name}/{f.name}" for f in self.root.glob("*/*") if f.is_dir() and safe_path(f.name)}
        found = {name for name in found if not name.startswith("datasets/")}
        return sorted({*found, *self._mounts})

    def create(self, repo_id: str) -> Path:
        """Make an empty repository and return its folder."""
        folder = self.root / repo_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def commit_id(self, repo_id: str, revision: str = "main") -> str:
        """Return the commit id that a revision points to."""
        return self._known(repo_id, revision).sha

    def add_revision(self, repo_id: str, name: str, folder: Path) -> str:
        """Give a repository a further branch or tag with the files of ``folder``; returns the commit id."""
        repo = self.repo(repo_id)
        if repo is None:
            raise KeyError(repo_id)
        return repo.add_revision(name, Path(folder)).sha

    def move_main(self, repo_id: str, revision: str | None) -> None:
        """Let ``main`` point to another known revision; ``None`` lets it follow the folder again."""
        repo = self.repo(repo_id)
        if repo is None:
            raise KeyError(repo_id)
        repo.set_main(None if revision is None else self._known(repo_id, revision).sha)

    def _known(self, repo_id: str, revision: str) -> Commit:
        repo = self.repo(repo_id)
        commit = repo.find(revision) if repo else None
        if commit is None:
            raise KeyError(f"{repo_id}@{revision}")
        return commit

    def serve_forever(self) -> None:
        """Block until ``stop`` or an interrupt."""
        while not self.stopping:
            time.sleep(0.2)
