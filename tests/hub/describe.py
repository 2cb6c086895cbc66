"""What the Hub says about a repository: the JSON of ``/api/models/{id}`` and ``/api/datasets/{id}``."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from .store import Commit, Repo

if TYPE_CHECKING:
    from .server import LocalHub

__all__ = ["card_data", "describe", "tags"]

_SMALL = 2**20


def describe(hub: LocalHub, repo: Repo, commit: Commit, *, blobs: bool, expand: list[str] | None) -> dict[str, Any]:
    """Return what is said of a repository; ``expand`` picks properties, ``blobs`` adds sizes and digests of files."""
    card, config = card_data(commit), _json_file(commit, "config.json")
    siblings = []
    for path, blob in sorted(commit.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            sibling |= {"size": blob.size, "blobId": blob.git_oid()}
            if blob.lfs:
                sibling["lfs"] = {"sha256": blob.sha256(), "size": blob.size, "pointerSize": len(blob.pointer())}
        siblings.append(sibling)
    name = repo.id.removeprefix("datasets/") if repo.dataset else repo.id
    date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(commit.seconds()))
    info: dict[str, Any] = {
        "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24],
        "id": name,
        **({} if repo.dataset else {"modelId": name}),
        "author": name.split("/")[0] if "/" in name else None,
        "sha": commit.sha,
        "lastModified": date,
        "createdAt": date,
        "private": repo.id in hub.faults.private,
        "gated": "manual" if repo.id in hub.faults.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags(repo, commit),
        "siblings": siblings,
        "spaces": [],
        "usedStorage": sum(blob.size for blob in commit.files.values()),
    }
    if card is not None:
        info["cardData"] = card
        info |= {key: card[key] for key in ("library_name", "pipeline_tag") if isinstance(card.get(key), str)}
    if config:
        kept = ("architectures", "model_type", "quantization_config")
        info["config"] = {key: config[key] for key in kept if key in config}
    if expand is None or "safetensors" in expand:
        info |= _safetensors(repo, commit)
    if expand is None:
        return info
    bases = [base for base in _bases(card) if hub.repo(base)]
    if bases:
        models = [{"_id": hashlib.sha1(base.encode()).hexdigest()[:24], "id": base} for base in bases]
        info["baseModels"] = {"relation": _relation(commit, card, config), "models": models}
    return {key: value for key, value in info.items() if key in {"_id", "id", *expand}}


def tags(repo: Repo, commit: Commit) -> list[str]:
    """Return the tags that the Hub derives from the card."""
    card = card_data(commit) or {}
    own = card.get("tags")
    found = [str(tag) for tag in own] if isinstance(own, list) else []
    if any(path.endswith(".safetensors") for path in commit.files):
        found.append("safetensors")
    relation = _relation(commit, card, _json_file(commit, "config.json"))
    for base in _bases(card):
        found += [f"base_model:{base}", f"base_model:{relation}:{base}"]
    if isinstance(card.get("license"), str):
        found.append(f"license:{card['license']}")
    return found


def card_data(commit: Commit) -> dict[str, Any] | None:
    """Return the card's front matter; ``None`` without one, with a broken one, or where PyYAML is not installed."""
    blob = commit.files.get("README.md")
    if blob is None or blob.size > _SMALL:
        return None
    try:
        import yaml

        text = blob.location.read_text("utf-8", errors="replace").lstrip("\ufeff")
        if not text.startswith("---") or text.count("\n---") < 1:
            return None
        data = yaml.safe_load(text[3:].split("\n---")[0])
        data = json.loads(json.dumps(data, default=str))
    except (ImportError, OSError, ValueError, TypeError, RecursionError):
        return None
    except Exception:  # the YAML library's own errors, whose class has no name where it is not installed
        return None
    return data if isinstance(data, dict) else None


def _bases(card: dict[str, Any] | None) -> list[str]:
    declared = (card or {}).get("base_model")
    return [str(base) for base in (declared if isinstance(declared, list) else [declared]) if base]


def _relation(commit: Commit, card: dict[str, Any] | None, config: dict[str, Any]) -> str:
    declared = (card or {}).get("base_model_relation")
    if isinstance(declared, str):
        return declared
    if "adapter_config.json" in commit.files:
        return "adapter"
    if len(_bases(card)) > 1:
        return "merge"
    return "quantized" if "quantization_config" in config else "finetune"


def _safetensors(repo: Repo, commit: Commit) -> dict[str, Any]:
    """Return parameter counts by dtype over the root's safetensors files; nothing where a header is broken."""
    counts: Counter[str] = Counter()
    for path, blob in commit.files.items():
        if path.endswith(".safetensors") and "/" not in path:
            try:
                for name, entry in (repo.safetensors_header(blob) or {}).items():
                    if name != "__metadata__":
                        size = 1
                        for dimension in entry["shape"]:  # type: ignore[index]
                            size *= int(dimension)
                        counts[str(entry["dtype"])] += size  # type: ignore[index]
            except (KeyError, TypeError, ValueError):
                return {}
    return {"safetensors": {"parameters": dict(counts), "total": sum(counts.values())}} if counts else {}


def _json_file(commit: Commit, path: str) -> dict[str, Any]:
    blob = commit.files.get(path)
    if blob is None or blob.size > _SMALL:
        return {}
    try:
        data = json.loads(blob.location.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
