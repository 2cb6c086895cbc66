"""Registries published on the Hub: a dataset repository of Parquet files, pulled from and pushed to."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.checkpoint.hub import endpoint_of
from lineage_plugin.checkpoint.names import is_model_id, is_plain_path, shown
from lineage_plugin.errors import HubDenied, HubError, HubNotFound, HubUnreachable, InputError, UsageError
from lineage_plugin.fingerprint.registry.exchange import Merged, import_parquet, keys_of, write_parquet
from lineage_plugin.fingerprint.registry.store import Added, Registry
from lineage_plugin.options import Options, Progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Pushed", "pull", "push"]

_FILES = re.compile(r"data/[A-Za-z0-9_.-]{1,100}\.parquet", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ENTRIES_A_FILE = 4096
_MOST_FILES = 4096
_LARGEST_FILE = 16 << 30
_CARD = """---
pretty_name: Model fingerprints
tags:
- model-lineage
- fingerprints
configs:
- config_name: default
  data_files: data/*.parquet
---

# Model fingerprints

Each row is a model at a commit: its `fingerprint` (a file of the format `lineage-fingerprint/1`, a few kilobytes of
bits drawn from the weights) and what can be read off it. With it a checkpoint can be traced to the base it comes from:

```
pip install 'lineage-plugin[registry]'
lineage registry pull {repo}
lineage scan owner/model
```

No weights are in it. The columns besides `fingerprint` and `bases` (what the models' cards declare, a line each) follow
from the fingerprint, and are checked against it when it is pulled.
"""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push has done.

    Attributes:
        rows: Entries that the repository holds now.
        commit: Its commit.
        files: Data files that were sent; 0 where it held all of that before.
    """

    rows: int
    commit: str
    files: int


@dataclass(frozen=True, slots=True)
class _Remote:
    """A data file of the repository."""

    name: str
    size: int
    sha256: str


def pull(
    registry: Registry, repo: str, options: Options, *, revision: str | None = None, progress: Progress | None = None
) -> Merged:
    """Add the entries of a dataset repository, each of them verified; ours stay where theirs are not newer.

    Args:
        registry: Where they go.
        repo: ``owner/name`` of the dataset.
        options: ``offline``, ``token`` and ``endpoint`` count here.
        revision: Branch, tag or commit; None for the default branch.
        progress: Called after each file.

    Raises:
        UsageError: When ``repo`` is no id, or nothing may be asked for.
        InputError: When it holds no registry.
        HubError: When the Hub does not deliver, or delivers other files than it describes.
    """
    api = _client(repo, options)
    commit, files, _ = _described(api, repo, revision)
    if not files:
        raise InputError(repo, "this dataset holds no registry: there are no files data/*.parquet")
    result = Merged(Added())
    for number, file in enumerate(files):
        result += import_parquet(registry, _downloaded(api, repo, commit, file))
        if progress is not None:
            progress("pulling files", number + 1, len(files))
    return result


def push(
    registry: Registry,
    repo: str,
    options: Options,
    *,
    private: bool = False,
    replace: bool = False,
    progress: Progress | None = None,
) -> Pushed:
    """Make a dataset repository hold the entries of a registry, in one commit.

    Args:
        registry: The registry.
        repo: ``owner/name`` of the dataset; it is made if it is not there.
        options: ``offline``, ``token`` and ``endpoint`` count here.
        private: Whether it is made as a private one.
        replace: Whether entries that only the repository has are dropped from it; else they are an error.
        progress: Called after each file that is made ready.

    Raises:
        UsageError: When ``repo`` is no id, nothing may be sent, there are no entries, or the repository has others.
        InputError: When the registry, or a data file of the repository, cannot be read.
        HubError: When the Hub refuses, or somebody else has pushed meanwhile.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _client(repo, options)
    catalogue = registry.catalogue()
    if not len(catalogue):
        raise UsageError(f"{shown(registry.folder)}: the registry is empty, there is nothing to push")
    with _asking(repo):
        api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
    commit, remote, carded = _described(api, repo, None)
    with tempfile.TemporaryDirectory(prefix="lineage-push-") as folder:
        entries = registry.entries(catalogue)
        ours: dict[str, Path] = {}
        rows, total = 0, -(-len(catalogue) // _ENTRIES_A_FILE)
        while True:
            path = Path(folder) / f"models-{len(ours):05d}.parquet"
            written = write_parquet(islice(entries, _ENTRIES_A_FILE), path)
            if not written:
                break
            rows += written
            ours[f"data/{path.name}"] = path
            if progress is not None:
                progress("preparing files", len(ours), total)
        digests = {name: _digest(path) for name, path in ours.items()}
        if not replace:
            held = set(catalogue)
            changed = [file for file in remote if file.sha256 not in digests.values()]
            lost = {key for file in changed for key in keys_of(_downloaded(api, repo, commit, file))} - held
            if lost:
                raise UsageError(
                    f"{repo}: the repository holds {len(lost)} entries that this registry does not, such as "
                    f"{shown(min(lost).id)}. Pull first, or replace them"
                )
        there = {file.name: file.sha256 for file in remote}
        fresh = [name for name in ours if there.get(name) != digests[name]]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(ours[name])) for name in fresh
        ]
        operations += [CommitOperationDelete(path_in_repo=name) for name in there if name not in ours]
        if not carded:
            card = _CARD.format(repo=repo).encode()
            operations.append(CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card))
        if operations:
            with _asking(repo):
                made = api.create_commit(
                    repo,
                    operations,
                    commit_message=f"Hold {rows} models",
                    repo_type="dataset",
                    parent_commit=commit,
                )
            commit = str(made.oid)
    return Pushed(rows, commit, len(fresh))


def _client(repo: str, options: Options) -> HfApi:
    if not is_model_id(repo) or "/" not in repo:
        raise UsageError(f"'{shown(repo)}' is no id of a dataset. Give owner/name")
    if options.offline:
        raise UsageError(f"{repo}: offline mode allows no Hub. Use `lineage registry export` and `import` with files")
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint_of(options.endpoint), token=options.token, library_name="lineage-plugin")


def _described(api: HfApi, repo: str, revision: str | None) -> tuple[str, list[_Remote], bool]:
    """Return commit and data files of the repository, and whether it has a card."""
    with _asking(repo):
        info = api.dataset_info(repo, revision=revision, files_metadata=True)
    files, carded = [], False
    for sibling in info.siblings or []:
        name, size = sibling.rfilename, sibling.size
        carded = carded or name == "README.md"
        if not is_plain_path(name) or not _FILES.fullmatch(name):
            continue
        digest = "" if sibling.lfs is None else str(sibling.lfs.sha256)
        if not isinstance(size, int) or not 0 < size <= _LARGEST_FILE or not _SHA256.fullmatch(digest):
            raise HubError(repo, f"the size or digest of '{name}' is none of a registry's", "Check the endpoint.")
        files.append(_Remote(name, size, digest))
    if len(files) > _MOST_FILES or not info.sha:
        raise HubError(repo, f"there are more than {_MOST_FILES} data files, or no commit", "Check the endpoint.")
    return info.sha, sorted(files, key=lambda file: file.name), carded


def _downloaded(api: HfApi, repo: str, commit: str, file: _Remote) -> Path:
    """Return a data file in the client's cache, the one that was described."""
    with _asking(repo), _without_addresses():
        path = Path(api.hf_hub_download(repo, file.name, repo_type="dataset", revision=commit))
    if path.stat().st_size != file.size or _digest(path) != file.sha256:
        raise HubError(
            repo, f"'{file.name}' did not arrive as it was described", "Delete it from the cache, try again."
        )
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Keep the client from logging signed addresses of files that break off."""
    log = logging.getLogger("huggingface_hub.file_download")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _asking(repo: str) -> Iterator[None]:
    """Turn what the client raises into one line, without addresses, which may hold a signature."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    login = "Set HF_TOKEN to a token that may do this."
    try:
        yield
    except OfflineModeIsEnabled:
        raise UsageError(f"{repo}: HF_HUB_OFFLINE is set. Unset it, or exchange Parquet files") from None
    except HFValidationError:
        raise UsageError(f"'{shown(repo)}' is no id of a dataset. Give owner/name") from None
    except RevisionNotFoundError:
        raise HubNotFound(repo, "there is no such revision of this dataset") from None
    except GatedRepoError:
        raise HubDenied(repo, "the dataset is gated", f"Ask for access on its page. {login}") from None
    except RepositoryNotFoundError as error:
        status = error.response.status_code
        if status == 401:
            raise HubDenied(repo, "there is no such dataset, or it needs a token", login) from None
        raise HubNotFound(repo, "there is no such dataset, or it is private", "Check the spelling.") from None
    except LocalEntryNotFoundError:
        raise HubUnreachable(repo, "a file could not be downloaded", "Check the network, then run again.") from None
    except HfHubHTTPError as error:
        raise _refused(repo, error.response.status_code, login) from None
    except Exception as error:
        # Of the client's HTTP library, whose name differs between versions; its messages hold addresses.
        problem = f"the exchange with the server failed ({type(error).__name__})"
        raise HubUnreachable(repo, problem, "Check the network, then run again.") from None


def _refused(repo: str, status: int, login: str) -> HubError:
    if status in (401, 403):
        return HubDenied(repo, f"access is denied (HTTP {status})", login)
    if status == 412:
        return HubError(repo, "somebody else has pushed meanwhile", "Pull, and push again.")
    return HubUnreachable(repo, f"the server answered HTTP {status}", "Try again later.")
