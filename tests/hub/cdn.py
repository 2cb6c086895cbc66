"""The second port: large files by signed address, and the target of LFS uploads."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlencode

from .wire import Handler, HttpError, Reply

__all__ = ["CdnHandler", "Signer", "cdn_name"]


def cdn_name(repo_id: str) -> str:
    """Return a repository id as two parts of a path: ``-/name`` without an owner, ``datasets:owner/name``."""
    return repo_id.replace("datasets/", "datasets:", 1) if "/" in repo_id else f"-/{repo_id}"


class Signer:
    """Makes and checks signed queries, and counts the uses of each."""

    def __init__(self, seconds: float) -> None:
        self._secret = secrets.token_bytes(16)
        self._seconds = seconds
        self._uses: dict[str, int] = {}
        self._lock = threading.Lock()

    def sign(self, base: str, path: str) -> str:
        """Return ``base`` + ``path`` (unquoted) with a query that lets it be used for a while."""
        expires, nonce = f"{time.time() + self._seconds:.3f}", secrets.token_hex(8)
        query = {"Expires": expires, "Signature": self._signature(path, expires, nonce), "Key-Pair-Id": nonce}
        return f"{base}{quote(path)}?{urlencode(query)}"

    def check(self, path: str, query: dict[str, str]) -> int:
        """Return how often this address was used, this time included; 0 if it is forged or too old."""
        expires, nonce = query.get("Expires", ""), query.get("Key-Pair-Id", "")
        signature = self._signature(path, expires, nonce)
        if not hmac.compare_digest(signature.encode(), query.get("Signature", "").encode()):
            return 0
        if float(expires) < time.time():
            return 0
        with self._lock:
            self._uses[nonce] = self._uses.get(nonce, 0) + 1
            return self._uses[nonce]

    def _signature(self, path: str, expires: str, nonce: str) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}\n{nonce}".encode(), hashlib.sha256).hexdigest()


class CdnHandler(Handler):
    """``GET /repos/{id}/{commit}/{file}`` and ``PUT /lfs/{id}/{oid}``, both by signed query only.

    The id is written as ``cdn_name`` has it.
    """

    def identify(self, parts: list[str]) -> tuple[str, str]:
        """See the base class."""
        if len(parts) < 4 or parts[0] not in ("repos", "lfs"):
            return "", ""
        owner = parts[1].replace("datasets:", "datasets/", 1)
        repo = parts[2] if owner == "-" else f"{owner}/{parts[2]}"
        return repo, "/".join(parts[4:]) if parts[0] == "repos" else ""

    def answer(self, parts: list[str]) -> Reply:
        """See the base class."""
        record = self.record
        uses = self.hub.signer.check(record.path, self.query)
        limit = self.hub.faults.find("expire_cdn", port="cdn", repo=record.repo, path=record.path)
        if limit is not None:
            limit.matched += 1
            if uses > int(str(limit.options["uses"])):
                limit.fired += 1
                record.fault.append("expire_cdn")
                uses = 0
        if uses == 0:
            body = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>'
            return Reply(403, {"Content-Type": "application/xml"}, body)
        if self.command == "PUT" and parts[0] == "lfs":
            return self._store(parts[3])
        if self.command in ("GET", "HEAD") and parts[0] == "repos":
            repo = self.hub.repo(record.repo)
            commit = repo.commits.get(parts[3]) if repo else None
            blob = commit.files.get(record.file) if commit else None
            if blob is None or not blob.intact() or self.take("missing"):
                raise HttpError(404, "Not found")
            return Reply(file=blob.location, size=blob.size, etag=blob.etag())
        raise HttpError(405, "Method not allowed")

    def _store(self, oid: str) -> Reply:
        """Keep an uploaded object until a commit names it."""
        digest = hashlib.sha256()
        target = self.hub.state / f"{oid}.{secrets.token_hex(4)}"
        with target.open("wb") as file:
            for chunk in self.body_chunks():
                digest.update(chunk)
                file.write(chunk)
                self.record.weight_bytes += len(chunk)
        if digest.hexdigest() != oid:
            target.unlink()
            raise HttpError(400, "The content does not have the announced sha256")
        target.replace(staged(self.hub.state, oid))
        return Reply(200, {"ETag": f'"{oid}"'})


def staged(state: Path, oid: str) -> Path:
    """Return where an uploaded object waits for its commit."""
    return state / f"lfs-{oid}"
