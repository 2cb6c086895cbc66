"""The first port, continued: creating repositories and uploading to them."""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .cdn import cdn_name, staged
from .store import Repo, is_weight, safe_path
from .wire import HttpError, Reply

if TYPE_CHECKING:
    from .api import HubHandler

__all__ = ["commit", "create_repo", "lfs_batch", "lfs_verify", "preupload", "validate_yaml"]


def _may_write(handler: HubHandler, repo: Repo | None) -> None:
    if not handler.reader:
        raise HttpError(401, "Invalid username or password.")
    if handler.reader != "owner" or (repo is not None and not repo.writable):
        raise HttpError(403, "You do not have write access to this repository")


def create_repo(handler: HubHandler) -> Reply:
    """``POST /api/repos/create``."""
    asked = handler.body_json() or {}
    _may_write(handler, None)
    kind = asked.get("type") or "model"
    if kind not in ("model", "dataset"):
        raise HttpError(400, "This local Hub keeps models and datasets only")
    name = f"{asked.get('organization') or handler.reader}/{asked.get('name')}"
    if safe_path(name) is None or not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name):
        raise HttpError(400, "Invalid repository name")
    repo_id = f"datasets/{name}" if kind == "dataset" else name
    answer = {"url": f"{handler.hub.endpoint}/{repo_id}", "name": name, "id": name}
    if handler.hub.repo(repo_id):
        return Reply.json({"error": f"You already created this {kind} repo", **answer}, 409)
    handler.hub.create(repo_id)
    if asked.get("visibility") == "private" or asked.get("private"):
        handler.hub.faults.private.add(repo_id)
    return Reply.json(answer)


def validate_yaml(handler: HubHandler) -> Reply:
    """``POST /api/validate-yaml``: front matter must parse to a mapping (checked where PyYAML is installed)."""
    content = str((handler.body_json() or {}).get("content", ""))
    if not content.startswith("---"):
        return Reply.json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        import yaml
    except ImportError:
        return Reply.json({"errors": [], "warnings": []})
    try:
        valid = isinstance(yaml.safe_load(content[3:].split("\n---")[0]) or {}, dict)
    except (yaml.YAMLError, ValueError, RecursionError):
        valid = False
    if not valid:
        return Reply.json({"errors": [{"message": "YAML metadata is not valid"}], "warnings": []}, 400)
    return Reply.json({"errors": [], "warnings": []})


def preupload(handler: HubHandler, repo: Repo, revision: str) -> Reply:
    """``POST /api/models/{id}/preupload/{revision}``: how each file shall be sent."""
    asked = handler.body_json() or {}
    _may_write(handler, repo)
    head, _ = handler._commit(repo, revision)
    answers = []
    for file in asked.get("files", []):
        path, size = str(file["path"]), int(file["size"])
        if is_weight(path):
            handler.record.weight_bytes += len(base64.b64decode(file.get("sample", "")))
        mode = handler.hub.upload_mode
        if mode == "auto":
            mode = "lfs" if repo.is_lfs(path, size) else "regular"
        blob = head.files.get(path)
        oid = None if blob is None else blob.sha256() if mode == "lfs" else blob.git_oid()
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return Reply.json({"files": answers, "commitOid": head.sha})


def lfs_batch(handler: HubHandler, repo: Repo) -> Reply:
    """``POST /{id}.git/info/lfs/objects/batch``: where to put each object."""
    asked = handler.body_json() or {}
    _may_write(handler, repo)
    present = {blob.known for blob in repo.head().files.values()}
    answers = []
    for item in asked.get("objects", []):
        oid, size = str(item.get("oid")), int(item.get("size", 0))
        if not re.fullmatch(r"[0-9a-f]{64}", oid):
            raise HttpError(422, "Invalid oid")
        answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if oid not in present and not staged(handler.hub.state, oid).exists():
            href = handler.hub.signer.sign(handler.hub.cdn, f"/lfs/{cdn_name(repo.id)}/{oid}")
            verify = f"{handler.hub.endpoint}/{repo.id}.git/info/lfs/verify?{urlencode({'oid': oid})}"
            answer["actions"] = {"upload": {"href": href}, "verify": {"href": verify}}
        answers.append(answer)
    reply = Reply.json({"transfer": "basic", "objects": answers})
    reply.headers["Content-Type"] = "application/vnd.git-lfs+json"
    return reply


def lfs_verify(handler: HubHandler, repo: Repo) -> Reply:
    """``POST /{id}.git/info/lfs/verify``: whether an object arrived whole."""
    asked = handler.body_json() or {}
    oid, size = str(asked.get("oid")), asked.get("size")
    path = staged(handler.hub.state, oid) if re.fullmatch(r"[0-9a-f]{64}", oid) else None
    # Another upload of the same bytes may have committed it in the meantime.
    committed = any(blob.known == oid and blob.size == size for blob in repo.head().files.values())
    if not committed and (path is None or not path.exists() or path.stat().st_size != size):
        raise HttpError(404, "Object not found")
    return Reply.json({})


def commit(handler: HubHandler, repo: Repo, revision: str) -> Reply:
    """``POST /api/models/{id}/commit/{revision}``: header, files and deletions, one JSON object a line."""
    body = handler.body()
    try:
        items = [(item["key"], item["value"]) for item in map(json.loads, body.splitlines())]
        header = next(value for key, value in items if key == "header")
        weights = [v for k, v in items if k == "file" and is_weight(v["path"])]
        handler.record.weight_bytes += sum(len(base64.b64decode(value["content"])) for value in weights)
    except (ValueError, KeyError, TypeError, StopIteration, binascii.Error) as error:
        raise HttpError(400, "Invalid commit payload") from error
    _may_write(handler, repo)
    head, _ = handler._commit(repo, revision)
    if revision != "main" or handler.query.get("create_pr"):
        raise HttpError(400, "This local Hub takes commits to main only")
    if header.get("parentCommit") not in (None, head.sha):
        raise HttpError(412, "A commit has happened since. Please refresh and try again.")
    added: dict[str, Path] = {}
    digests: dict[str, str] = {}
    deleted: list[str] = []
    for key, value in items:
        if key == "header":
            continue
        path = str(value.get("path")).strip("/")
        if safe_path(path) is None:
            raise HttpError(400, "Invalid path in commit")
        if key == "file":
            added[path] = handler.hub.state / uuid.uuid4().hex
            added[path].write_bytes(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            added[path], digests[path] = _object(handler, repo, str(value.get("oid"))), str(value.get("oid"))
        elif key == "deletedFile":
            deleted.append(path)
        elif key == "deletedFolder":
            deleted += [name for name in head.files if name.startswith(f"{path}/")]
        else:
            raise HttpError(400, f"Unknown operation {key}")
    try:
        made = repo.write(added, deleted, str(header.get("summary", "")), digests)
    except OSError as error:
        raise HttpError(400, f"The commit cannot be applied: {error.strerror or error}") from error
    for oid in set(digests.values()):
        staged(handler.hub.state, oid).unlink(missing_ok=True)
    url = f"{handler.hub.endpoint}/{repo.id}/commit/{made.sha}"
    return Reply.json({"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""})


def _object(handler: HubHandler, repo: Repo, oid: str) -> Path:
    """Return a private copy of an uploaded object, or of a file that the repository already has."""
    known = [blob.location for blob in repo.head().files.values() if blob.known == oid]
    waiting = staged(handler.hub.state, oid)
    source = waiting if re.fullmatch(r"[0-9a-f]{64}", oid) and waiting.exists() else next(iter(known), None)
    if source is None:
        raise HttpError(400, "LFS pointer pointed to a file that does not exist")
    target = handler.hub.state / uuid.uuid4().hex
    shutil.copyfile(source, target)
    return target
