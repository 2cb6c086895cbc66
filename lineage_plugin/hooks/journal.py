"""The record of what went out although it was blocked: who overrides says why, and it is kept.

One line of JSON an override, appended to ``overrides.jsonl`` in the cache folder. Where the upload makes a commit, the
reason stands in its description, too (:func:`trailer`): there others see it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from lineage_plugin.errors import UsageError
from lineage_plugin.shelf import cache_folder
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.outcome import Outcome

__all__ = ["OVERRIDE", "reason_given", "record", "trailer"]

OVERRIDE = "LINEAGE_OVERRIDE"
FILE = "overrides.jsonl"
_SHORTEST = 10
_LONGEST = 500


def reason_given(explicit: str | None = None) -> str | None:
    """Return why an upload goes on whatever is found, in one line; None when it does not.

    Args:
        explicit: The reason as the call gives it; None: that of ``LINEAGE_OVERRIDE``, if any.

    Raises:
        UsageError: When it is too short to be a reason.
    """
    given = os.environ.get(OVERRIDE) if explicit is None else explicit
    if given is None or (explicit is None and not given.strip()):
        return None
    reason = one_line(given.strip(), _LONGEST)
    if len(reason) < _SHORTEST:
        raise UsageError(f"'{reason}' is no reason to override: say why in a sentence, since it is kept")
    return reason


def record(repo: str, reason: str, outcomes: Sequence[Outcome], digests: Mapping[str, str]) -> None:
    """Append an override to the journal.

    Args:
        repo: The repository that the files went to.
        reason: Why, as :func:`reason_given` returns it.
        outcomes: What was found.
        digests: sha256 of the files, by their names in the repository.

    Raises:
        UsageError: When it cannot be written: what is not recorded is not overridden.
    """
    path = cache_folder() / FILE
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "repo": one_line(repo, 200),
        "reason": reason,
        "blocked": [
            {
                "model": outcome.target.name,
                "exit_code": outcome.code,
                "findings": codes_of(outcome),
                "problem": one_line(outcome.problem, _LONGEST),
            }
            for outcome in outcomes
            if outcome.code != 0
        ],
        "sha256": dict(digests),
    }
    line = json.dumps(entry, ensure_ascii=True) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line.encode())
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"{path}: the override cannot be recorded ({why}), and so it is none") from error


def codes_of(outcome: Outcome) -> list[str]:
    """Return the codes of what was found, without notes."""
    if outcome.report is None:
        return []
    return list(dict.fromkeys(found.code for found in outcome.report.findings if found.level != "note"))


def trailer(reason: str, outcomes: Sequence[Outcome]) -> str:
    """Return the line of a commit's description that says what was overridden, and why."""
    codes = list(dict.fromkeys(code for outcome in outcomes if outcome.code != 0 for code in codes_of(outcome)))
    what = ", ".join(codes) if codes else "what could not be checked"
    return f"Lineage-Override: {what}: {reason}"
