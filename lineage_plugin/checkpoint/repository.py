"""A repository of the Hub at one commit: its files, their addresses, and what the Hub's refusals mean."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

from lineage_plugin.checkpoint.names import is_model_id, is_plain_path, shown
from lineage_plugin.checkpoint.ranges import Piece
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.checkpoint.transport import Answer, Transport
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import HubDenied, HubError, HubNotFound, HubUnreachable, UnreadableCheckpoint

__all__ = ["RemoteFile", "Repository", "describe", "metadata"]

_SHA256 = re.compile(r"^[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"^[0-9a-f]{40}\Z")
_CARD = "README.md"
_MAX_INFO = 64 << 20
_MAX_FILES = 1 << 18
_REFUSED = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Repository:
    """A model at one commit.

    Attributes:
        transport: What its requests are sent with.
        asked: The id that was asked for, which messages name.
        id: The id it has now; another one when it was renamed.
        commit: The commit that everything is read from.
        files: All files by name.
        folder: The folder of the repository that is meant, with a slash at the end; names count from there.
        card_above: Whether the card is that of the repository, because the folder has none.
    """

    transport: Transport
    asked: str
    id: str
    commit: str
    files: Mapping[str, FileInfo]
    folder: str = ""
    card_above: bool = False

    def below(self, folder: str) -> Repository:
        """Return a folder of the repository as if it were one; the card at the top still belongs to it.

        Args:
            folder: Its path, without a slash at the end.
        """
        start = f"{folder}/"
        files = {
            name[len(start) :]: replace(info, name=name[len(start) :])
            for name, info in self.files.items()
            if name.startswith(start)
        }
        borrowed = bool(files) and _CARD in self.files and _CARD not in files
        if borrowed:
            files[_CARD] = self.files[_CARD]
        return replace(self, files=files, folder=self.folder + start, card_above=borrowed)

    def address(self, name: str) -> str:
        """Return the address of a file at the pinned commit."""
        from huggingface_hub import hf_hub_url

        path = self.folder + name
        if name == _CARD and self.card_above:
            path = name
        return hf_hub_url(self.id, path, revision=self.commit, endpoint=self.transport.endpoint)

    def check(self, answer: Answer, file: str) -> None:
        """Hold an answer against what was asked for.

        Args:
            answer: The answer.
            file: The file asked for.

        Raises:
            HubError: When it is no success, or the Hub names another commit on the way.
        """
        _check_status(answer, self.transport, self.asked, self.commit, file)
        for url, headers in answer.hops:
            commit = headers.get("x-repo-commit")
            if commit is not None and commit != self.commit and self.transport.at_home(url):
                raise self.transport.moved("its commit is another now")

    def small_file(self, name: str, limit: int) -> bytes:
        """Return a file that is no weight file, at most ``limit`` bytes of it.

        Raises:
            HubError: When the Hub does not deliver.
        """
        size = self.files[name].size
        wanted = min(limit, size)
        if wanted <= 0:
            return b""
        span = (0, wanted) if wanted < size else None
        answer = self.transport.get(self.address(name), limit=wanted, span=span, size=size)
        self.check(answer, name)
        if len(answer.body) != wanted:
            raise self.transport.moved("a file changed its size")
        return answer.body


class RemoteFile:
    """A weight file: where its ranges come from, and the ETags seen first.

    Args:
        repository: The model.
        info: The file.

    Attributes:
        head: The bytes from the start of the file that came with the header.
    """

    def __init__(self, repository: Repository, info: FileInfo) -> None:
        self.info = info
        self.head = Piece(0, b"")
        self._repository = repository
        self._lock = threading.Lock()
        self._location: str | None = None
        self._tags: dict[tuple[str, str], str] = {}
        if info.sha256 is not None:
            self._tags["digest", ""] = info.sha256

    def fetch(self, span: tuple[int, int], data_start: int, stop: threading.Event) -> bytes:
        """Return a range.

        Args:
            span: First byte and end.
            data_start: Where tensor data begins, for the ledger.
            stop: Ends waiting when another request has failed.

        Raises:
            HubError: When the Hub does not deliver, or the file is no longer the same.
        """
        refused: set[str] = set()
        while True:
            # The address is renewed by one thread while the others wait for it.
            with self._lock:
                location = self._location
                if location is None or location in refused or len(refused) == 2:
                    self._location = None
                    answer = self._get(self._repository.address(self.info.name), span, data_start, stop)
                    body = self._accept(answer)
                    self._location = answer.url
                    return body
            answer = self._get(location, span, data_start, stop)
            if answer.status not in _REFUSED:
                return self._accept(answer)
            refused.add(location)

    def _get(self, url: str, span: tuple[int, int], data_start: int, stop: threading.Event) -> Answer:
        transport = self._repository.transport
        return transport.get(url, limit=0, span=span, size=self.info.size, weights=data_start, stop=stop)

    def _accept(self, answer: Answer) -> bytes:
        transport = self._repository.transport
        if answer.status in _REFUSED and not transport.at_home(answer.url):
            raise HubUnreachable(
                transport.repo,
                f"the download server refuses a fresh address (HTTP {answer.status})",
                "Run again later.",
            )
        self._repository.check(answer, self.info.name)
        for url, headers in answer.hops:
            if transport.at_home(url):
                tag = _tag(headers, "x-linked-etag")
                # For large files this is the digest of the content, which the description told, too.
                self._compare("digest" if _SHA256.match(tag) else "linked", "", tag)
        # Each download server may name the same bytes in its own way.
        self._compare("etag", urlsplit(answer.url).netloc, _tag(answer.headers, "etag"))
        return answer.body

    def _compare(self, kind: str, server: str, tag: str) -> None:
        if tag and self._tags.setdefault((kind, server), tag) != tag:
            raise self._repository.transport.moved("the ETag of a file changed")


def _tag(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").removeprefix("W/").strip('"')


def describe(transport: Transport, asked: str, revision: str | None) -> Repository:
    """Ask the Hub for commit, files, sizes and digests of a model, all at once.

    This is the request of ``HfApi.model_info(files_metadata=True)``, which itself would follow redirects uncounted and
    read an answer of any length.

    Args:
        transport: What requests are sent with.
        asked: A valid model id.
        revision: Branch, tag or commit, or None for the default branch.

    Raises:
        HubError: When the Hub does not answer, refuses, or answers something else.
    """
    info = metadata(transport, asked, revision, "blobs=true", limit=_MAX_INFO)
    commit, name = str(info["sha"]), info.get("id")
    if not isinstance(name, str) or not is_model_id(name):
        name = asked
    return Repository(transport, asked, name, commit, _files(info.get("siblings"), asked))


def metadata(
    transport: Transport,
    asked: str,
    revision: str | None,
    query: str,
    *,
    limit: int,
    stop: threading.Event | None = None,
) -> dict[str, object]:
    """Ask the Hub for what it says of a model; only its commit is looked at here.

    Args:
        transport: What requests are sent with.
        asked: A valid model id.
        revision: Branch, tag or commit, or None for the default branch.
        query: Which of its properties are wanted, as the Hub's API has it.
        limit: Longest answer in bytes.
        stop: Ends the waiting between attempts when set.

    Returns:
        The answer, an object whose ``sha`` is a commit.

    Raises:
        HubError: When the Hub does not answer, refuses, or answers something else.
    """
    url = f"{transport.endpoint}/api/models/{asked}"
    if revision is not None:
        url += f"/revision/{quote(revision, safe='')}"
    answer = transport.get(f"{url}?{query}", limit=limit + 1, stop=stop)
    _check_status(answer, transport, asked, revision, None)
    if len(answer.body) > limit:
        raise HubError(asked, f"the description of the repository is larger than {limit} bytes")
    try:
        # A file with its digests takes 256 bytes at least, and is four objects of twenty values at most.
        files = limit // 256
        info = load_object(answer.body, where=asked, what="answer", values=20 * files, containers=4 * files)
    except UnreadableCheckpoint as error:
        raise HubError(asked, f"{error.problem}: this is not a Hub", "Check the endpoint.") from None
    commit = info.get("sha")
    if not isinstance(commit, str) or not _COMMIT.match(commit):
        raise HubError(asked, "the Hub does not name a commit", "Check the endpoint and the revision.")
    if revision is not None and _COMMIT.match(revision) and revision != commit:
        raise HubError(asked, "the Hub answers with another commit than the one asked for")
    return info


def _files(siblings: object, asked: str) -> dict[str, FileInfo]:
    files: dict[str, FileInfo] = {}
    if not isinstance(siblings, list) or len(siblings) > _MAX_FILES:
        raise HubError(asked, "the Hub does not list the files of the model", "Check the endpoint.")
    for entry in siblings:
        if not isinstance(entry, dict) or not isinstance(name := entry.get("rfilename"), str):
            raise HubError(asked, "the Hub's list of files is malformed", "Check the endpoint.")
        if not is_plain_path(name):
            continue  # not a name that a checkpoint could use
        lfs = entry.get("lfs")
        digest = lfs.get("sha256") if isinstance(lfs, dict) else None
        size = lfs.get("size") if isinstance(lfs, dict) else entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
            raise HubError(asked, f"the Hub does not tell the size of '{shown(name, 120)}'", "Check the endpoint.")
        sha256 = digest if isinstance(digest, str) and _SHA256.match(digest) else None
        files[name] = FileInfo(name, size, sha256)
    return files


def _check_status(answer: Answer, transport: Transport, asked: str, revision: str | None, file: str | None) -> None:
    """Raise what an answer without success means; ``file`` is None when the repository itself was asked for."""
    status, code = answer.status, answer.headers.get("x-error-code", "")
    if status in (200, 206):
        return
    page = f"{_displayed(transport.endpoint)}/{asked}"
    if code == "GatedRepo":
        raise HubDenied(asked, "the model is gated", f"Accept the licence at {page} and set HF_TOKEN.")
    if code == "RevisionNotFound":
        raise HubNotFound(asked, f"there is no revision '{shown(revision, 80)}'", f"See {page}.")
    if "Invalid credentials" in answer.headers.get("x-error-message", ""):
        raise HubDenied(asked, "the Hub does not accept the token", "Set HF_TOKEN to a valid token, or unset it.")
    if code == "RepoNotFound" or (status == 404 and file is None):
        raise HubNotFound(
            asked,
            "there is no such model, or it is private",
            "Check the spelling, or the path if a local folder is meant; for a private model set HF_TOKEN.",
        )
    if status in (401, 403):
        remedy = f"Accept the licence at {page} if there is one, and set HF_TOKEN."
        raise HubDenied(asked, f"access is denied (HTTP {status})", remedy)
    if status == 404:
        raise HubNotFound(asked, f"there is no file '{shown(file, 120)}' at this revision", f"See {page}.")
    if status == 416:
        raise transport.moved("a file is shorter than before")
    raise HubUnreachable(asked, f"the server answered HTTP {status}", "Check the endpoint.")


def _displayed(endpoint: str) -> str:
    """Return an endpoint without the user and password it may hold."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
