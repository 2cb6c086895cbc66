"""What the desk and a worker process write to each other: one JSON object a line, each of a bounded length.

The desk writes one line a question, with the settings that matter and the token if there is one; that is the only place
where a token is written. The worker writes ``ready`` once, then for each question any number of updates and one answer
or failure.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from lineage_plugin.web.answers import plain, read
from lineage_plugin.web.jobs import Answer, Failed, Failure, Job, Kind, Update
from lineage_plugin.web.settings import Settings

__all__ = ["LONGEST", "READY", "message_of", "question_line", "read_message", "read_question"]

LONGEST = 16 << 20
"""Bytes of the longest line; a report of a model with a thousand layers has some megabytes."""
READY = b'{"ready": true}\n'
_SETTINGS = ("registry", "on_space", "offline", "bytes", "memory", "cache_bytes")


def question_line(job: Job, settings: Settings, token: str | None) -> bytes:
    """Return a question as a worker is given it."""
    chosen: dict[str, Any] = {name: getattr(settings, name) for name in _SETTINGS}
    chosen["cache"] = None if settings.cache is None else str(settings.cache.absolute())
    # The worker's environment may lack an address that holds a password.
    chosen["endpoint"] = settings.endpoint or os.environ.get("HF_ENDPOINT")
    # Bases of an offered model are looked for among the others.
    relatives = job.kind == "check" and job.models[0] in settings.models
    chosen["models"] = {
        name: str(place.absolute()) for name, place in settings.models.items() if relatives or name in job.models
    }
    if chosen["registry"] is not None:
        chosen["registry"] = str(Path(chosen["registry"]).absolute())
    return _line({"kind": job.kind, "models": job.models, "settings": chosen, "token": token})


def read_question(line: bytes) -> tuple[Job, Settings, str | None]:
    """Return what :func:`question_line` made the line of."""
    said = json.loads(line)
    chosen = said["settings"]
    chosen["models"] = {name: Path(place) for name, place in chosen["models"].items()}
    chosen["cache"] = None if chosen["cache"] is None else Path(chosen["cache"])
    return Job(said["kind"], tuple(said["models"])), Settings(**chosen), said["token"]


def message_of(said: Update | Answer | Failed) -> bytes:
    """Return what a worker says as a line."""
    if isinstance(said, Update):
        return _line({"update": asdict(said)})
    if isinstance(said, Answer):
        return _line({"answer": plain(said.result), "kept": said.kept})
    return _line({"failed": said.why, "message": said.message})


def read_message(line: bytes, job: Job) -> Update | Answer | Failed:
    """Return what a worker said about a question; nothing is taken for granted about it.

    Raises:
        ValueError: When it is nothing that a worker says.
    """
    try:
        said = json.loads(line)
        if "update" in said:
            return _update(said["update"])
        if "answer" in said:
            kind: Kind = job.kind
            return Answer(job, read(kind, said["answer"]), kept=said["kept"] is True)
        if said["failed"] in get_args(Failure) and isinstance(said["message"], str):
            return Failed(said["failed"], said["message"][:2000])
    except (TypeError, KeyError, RecursionError):
        pass
    raise ValueError("this is nothing that a worker says")


def _update(said: dict[str, Any]) -> Update:
    update = Update(**said)
    for field in fields(Update):
        value = getattr(update, field.name)
        if field.name == "stage":
            if type(value) is not str or len(value) > 200:
                raise ValueError("the stage is no short text")
        elif type(value) is not (float if field.name == "seconds" else int) or not 0 <= value < 1 << 62:
            raise ValueError(f"{field.name} is no number")
    return update


def _line(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode("ascii") + b"\n"
