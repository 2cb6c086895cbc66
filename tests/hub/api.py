"""The first port: the Hub's API for reading (writing is in ``uploads``)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from . import discussions, uploads
from .cdn import cdn_name
from .describe import describe, tags
from .store import Blob, Commit, Repo
from .wire import Handler, HttpError, Moved, Reply

__all__ = ["HubHandler"]


class HubHandler(Handler):
    """Routes of the Hub port."""

    def identify(self, parts: list[str]) -> tuple[str, str]:
        """See the base class."""
        match parts:
            case ["api", "models", *parts] | ["api", "resolve-cache", "models", *parts]:
                pass
            case ["api", "datasets", *rest] | ["api", "resolve-cache", "datasets", *rest]:
                parts = ["datasets", *rest]
            case ["api", *_]:
                return "", ""
        repo, rest = self._split(parts)
        if rest[:1] == ["resolve"]:
            return repo, "/".join(rest[2:])
        return repo, ""

    def answer(self, parts: list[str]) -> Reply:
        """See the base class."""
        self.reader = self._reader()
        match parts:
            case ["api", "models"]:
                return self._list_models()
            case ["api", "models", *rest]:
                return self._repo_api(*self._split(rest))
            case ["api", "datasets", *rest]:
                return self._repo_api(*self._split(["datasets", *rest]))
            case ["api", "resolve-cache", kind, *rest] if kind in ("models", "datasets"):
                repo_id, (sha, *path) = self._split(rest if kind == "models" else [kind, *rest])
                repo = self._repo(repo_id, files=True)
                commit, stated = self._commit(repo, sha)
                return self._small_file(self._blob(commit, stated, "/".join(path)), stated)
            case ["api", "repos", "create"]:
                return uploads.create_repo(self)
            case ["api", "validate-yaml"]:
                return uploads.validate_yaml(self)
            case ["api", "whoami-v2"]:
                return self._whoami()
        repo_id, tail = self._split(parts)
        if tail[:1] == ["resolve"] and len(tail) >= 3 and self.command in ("GET", "HEAD"):
            return self._resolve(self._repo(repo_id, files=True), tail[1], "/".join(tail[2:]))
        if tail[:3] == ["info", "lfs", "objects"] and tail[3:] == ["batch"]:
            return uploads.lfs_batch(self, self._repo(repo_id))
        if tail[:2] == ["info", "lfs"] and tail[2:] == ["verify"]:
            return uploads.lfs_verify(self, self._repo(repo_id))
        raise HttpError(404, "Not found")

    # Who and what ---------------------------------------------------------------------------------------------------

    def _split(self, parts: list[str]) -> tuple[str, list[str]]:
        """Split path parts into a repository id and the rest; git addresses end the id with ``.git``."""
        first = parts[0].removesuffix(".git") if parts else ""
        size = 3 if first == "datasets" else 1 if self.hub.repo(first) or first in self.hub.renamed else 2
        return "/".join(parts[:size]).removesuffix(".git"), parts[size:]

    def _reader(self) -> str:
        """Return ``owner``, ``outsider`` or, without a token, the empty string; 401 for a token that is none."""
        from .server import OUTSIDER, TOKEN

        value = self.headers.get("Authorization")
        known = {None: "", f"Bearer {TOKEN}": "owner", f"Bearer {OUTSIDER}": "outsider"}
        if value not in known:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return known[value]

    def _repo(self, repo_id: str, *, files: bool = False) -> Repo:
        """Return a repository that the reader may see; with ``files`` also one whose files he may read."""
        repo = self.hub.repo(repo_id)
        if repo is None and repo_id in self.hub.renamed:
            raise Moved(self.path.replace(quote(repo_id), quote(self.hub.renamed[repo_id]), 1))
        if repo is None:
            raise HttpError(404, "Repository not found", "RepoNotFound")
        if repo_id in self.hub.faults.private and self.reader != "owner":
            status, message = (404, "Repository not found") if self.reader else (401, "Invalid username or password.")
            raise HttpError(status, message, "RepoNotFound")
        if files and repo_id in self.hub.faults.gated and self.reader != "owner":
            message = f"Access to {repo.kind} {repo_id} is restricted. You must have access to it and be authenticated."
            raise HttpError(403 if self.reader else 401, message, "GatedRepo")
        return repo

    def _commit(self, repo: Repo, revision: str) -> tuple[Commit, str]:
        """Return the commit of a revision and the commit id to state, which a fault may make another one."""
        commit = repo.find(revision)
        if commit is None:
            raise HttpError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if fault := self.take("move_revision"):
            other = repo.find(str(fault.options["to"])) if fault.options["to"] else repo.alias(commit, "moved")
            if other is None:
                raise KeyError(fault.options["to"])
            if revision == "main":
                return other, other.sha
            if fault.options["pinned"]:
                return commit, other.sha
        return commit, commit.sha

    def _blob(self, commit: Commit, stated: str, path: str) -> Blob:
        blob = commit.files.get(path)
        if blob is None or not blob.intact() or self.take("missing"):
            raise HttpError(404, "Entry not found", "EntryNotFound", X_Repo_Commit=stated)
        return blob

    # Files ----------------------------------------------------------------------------------------------------------

    def _resolve(self, repo: Repo, revision: str, path: str) -> Reply:
        commit, stated = self._commit(repo, revision)
        blob = self._blob(commit, stated, path)
        etag = blob.etag()
        headers = {"X-Repo-Commit": stated, "Accept-Ranges": "bytes"}
        if not blob.lfs and not self.hub.redirect_small:
            return self._small_file(blob, stated)
        if not blob.lfs:
            place = repo.id if repo.dataset else f"models/{repo.id}"
            target = f"/api/resolve-cache/{quote(place)}/{commit.sha}/{quote(path)}"
            target += "?" + urlencode({self.record.path: "", "etag": etag})
            headers |= {"ETag": etag, "X-Linked-Size": str(blob.size), "X-Linked-Etag": etag, "Location": target}
            return Reply(307, headers, f"Temporary Redirect. Redirecting to {target}".encode())
        if self.take("change_etag"):
            etag = f'"{etag.strip(chr(34))[::-1]}"'
        target = self.hub.signer.sign(self.hub.cdn, f"/repos/{cdn_name(repo.id)}/{commit.sha}/{path}")
        headers |= {"X-Linked-Size": str(blob.size), "X-Linked-Etag": etag, "Location": target}
        return Reply(302, headers, f"Found. Redirecting to {target}".encode())

    def _small_file(self, blob: Blob, stated: str) -> Reply:
        return Reply(200, {"X-Repo-Commit": stated}, file=blob.location, size=blob.size, etag=blob.etag())

    # Repositories ---------------------------------------------------------------------------------------------------

    def _repo_api(self, repo_id: str, rest: list[str]) -> Reply:
        repo = self._repo(repo_id)
        routes: dict[str, Callable[[Repo, str, list[str]], Reply]] = {
            "revision": lambda repo, revision, _: self._info(repo, revision),
            "tree": self._tree,
            "paths-info": self._paths_info,
            "preupload": lambda repo, revision, _: uploads.preupload(self, repo, revision),
            "commit": lambda repo, revision, _: uploads.commit(self, repo, revision),
        }
        match rest:
            case []:
                return self._info(repo, "main")
            case ["refs"]:
                found = {"main": repo.head().sha, **repo.refs}
                branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": sha} for n, sha in found.items()]
                return Reply.json({"branches": branches, "converts": [], "tags": [], "pullRequests": []})
            case ["discussions", *more]:
                return discussions.answer(self, repo, more)
            case ["auth-check"]:
                self._repo(repo_id, files=True)
                return Reply.json("OK")
            case ["safetensors-metadata", *path]:
                return self._safetensors_metadata(self._repo(repo_id, files=True), "/".join(path))
            case [route, revision, *path] if route in routes:
                return routes[route](repo, revision, path)
        raise HttpError(404, "Not found: this local Hub does not serve that part of the API")

    def _info(self, repo: Repo, revision: str) -> Reply:
        commit, stated = self._commit(repo, revision)
        blobs = self.query.get("blobs", "").lower() in ("true", "1")
        expand = self.query_lists.get("expand") or None
        info = describe(self.hub, repo, commit, blobs=blobs, expand=expand)
        if "sha" in info:
            info["sha"] = stated
        return Reply.json(info)

    def _list_models(self) -> Reply:
        search, author = self.query.get("search", "").lower(), self.query.get("author")
        wanted = set(self.query_lists.get("filter", []))
        found = []
        for repo_id in self.hub.repo_ids():
            repo = self.hub.repo(repo_id)
            hidden = repo_id in self.hub.faults.private and self.reader != "owner"
            if repo is None or hidden or search not in repo_id.lower():
                continue
            if author not in (None, repo_id.split("/")[0]) or not wanted <= set(tags(repo, repo.head())):
                continue
            found.append(describe(self.hub, repo, repo.head(), blobs=False, expand=None))
        limit = self.query.get("limit", "")
        return Reply.json(found[: int(limit)] if limit.isdigit() else found)

    def _entry(self, commit: Commit, path: str, expand: bool) -> dict[str, Any] | None:
        """Return what trees and paths-info say about one path."""
        blob, tree = commit.files.get(path), commit.folders().get(path)
        if blob is None and tree is None:
            return None
        entry: dict[str, Any] = {"type": "directory", "oid": tree, "size": 0, "path": path}
        if blob is not None:
            entry = {"type": "file", "oid": blob.git_oid(), "size": blob.size, "path": path}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256(), "size": blob.size, "pointerSize": len(blob.pointer())}
                if self.hub.xet_hashes:
                    entry["xetHash"] = hashlib.sha256(f"xet:{blob.sha256()}".encode()).hexdigest()
            if expand:
                entry["securityFileStatus"] = {
                    "status": "safe",
                    "avScan": {"virusFound": False, "virusNames": None},
                    "pickleImportScan": None,
                }
        if expand:
            entry["lastCommit"] = {"id": commit.sha, "title": commit.title, "date": _date(commit.seconds())}
        return entry

    def _tree(self, repo: Repo, revision: str, path: list[str]) -> Reply:
        commit, stated = self._commit(repo, revision)
        top = "/".join(path)
        inside = f"{top}/" if top else ""
        found = sorted(p for p in (*commit.files, *commit.folders()) if p.startswith(inside))
        if top and not found:
            raise HttpError(404, f"{top} does not exist on {revision}", "EntryNotFound", X_Repo_Commit=stated)
        if self.query.get("recursive", "").lower() not in ("true", "1"):
            found = [p for p in found if "/" not in p[len(inside) :]]
        expand = self.query.get("expand", "").lower() in ("true", "1")
        start = int(self.query.get("cursor", "") or 0)
        page = found[start : start + self.hub.page_size]
        reply = Reply.json([self._entry(commit, p, expand) for p in page], X_Repo_Commit=stated)
        if start + len(page) < len(found):
            query = urlencode({**self.query, "cursor": start + len(page)})
            reply.headers["Link"] = f'<{self.hub.endpoint}{self.path.split("?")[0]}?{query}>; rel="next"'
        return reply

    def _paths_info(self, repo: Repo, revision: str, _: list[str]) -> Reply:
        if "json" in self.headers.get("Content-Type", ""):
            asked = self.body_json()
            paths, expand = list(asked.get("paths", [])), bool(asked.get("expand"))
        else:
            form = parse_qs(self.body().decode())
            paths, expand = form.get("paths", []), form.get("expand", [""])[-1].lower() in ("true", "1")
        commit, stated = self._commit(repo, revision)
        found = [self._entry(commit, path.strip("/"), expand) for path in paths]
        return Reply.json([entry for entry in found if entry], X_Repo_Commit=stated)

    def _safetensors_metadata(self, repo: Repo, path: str) -> Reply:
        """Answer with the headers of all shards, as the Hub does for ``main``."""
        commit, stated = self._commit(repo, "main")
        self._blob(commit, stated, path)
        shards = {p: b for p, b in commit.files.items() if p.endswith(".safetensors")}
        headers = {p: repo.safetensors_header(b) for p, b in shards.items()}
        return Reply.json({"index": {"metadata": {}}, "headers": {p: h for p, h in headers.items() if h}})

    def _whoami(self) -> Reply:
        if not self.reader:
            raise HttpError(401, "Invalid username or password.")
        token = {"displayName": "local", "role": "write" if self.reader == "owner" else "read"}
        return Reply.json(
            {
                "type": "user",
                "id": hashlib.sha1(self.reader.encode()).hexdigest()[:24],
                "name": self.reader,
                "fullname": self.reader.title(),
                "isPro": False,
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
