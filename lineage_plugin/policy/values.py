"""Values of a policy file, each checked where it stands: what is wrong is one line with file and line number."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from datetime import date
from typing import Final, TypeVar

from lineage_plugin.card.located import Entry, Located, Problem
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import CODES
from lineage_plugin.policy.size import size_in_bytes
from lineage_plugin.text import one_line, quoted

__all__ = ["Reader", "Wrong"]

MAX_REASON: Final = 300
MAX_PATTERN: Final = 200

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?\Z", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,17}\Z", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)
_BASE = re.compile(r"[A-Za-z0-9._*?-]+(?:/[A-Za-z0-9._*?-]+)?\Z", re.ASCII)


_Value = TypeVar("_Value")


class Wrong(UsageError):
    """Something in a policy file is not as it must be.

    Args:
        file: The file, fit to print.
        line: Line of the file, from 1.
        column: Character in the line, from 1.
        problem: What is wrong and what to do, without a full stop.
    """

    def __init__(self, file: str, line: int, column: int, problem: str) -> None:
        self.line, self.column, self.problem = line, column, problem
        super().__init__(f"{file}:{line}: {problem}")


class Reader:
    """Reads the values of one policy file.

    Args:
        file: The file, as errors shall call it.
        problems: Where to put what is wrong, to read on; None: the first problem is raised.
    """

    def __init__(self, file: str, problems: list[Wrong] | None = None) -> None:
        self._file = one_line(file, 160)
        self._problems = problems

    @property
    def satisfied(self) -> bool:
        """Whether nothing wrong was found so far."""
        return not self._problems

    def wrong(self, where: Located | Problem, problem: str) -> Wrong:
        """Return the error for a problem, to be raised."""
        return Wrong(self._file, where.line or 1, where.column or 1, problem)

    def attempt(self, read: Callable[[], _Value]) -> _Value | None:
        """Return what is read; None when it is wrong, and what is wrong is gathered."""
        try:
            return read()
        except Wrong as wrong:
            if self._problems is None:
                raise
            self._problems.append(wrong)
            return None

    def report(self, where: Located | Problem, problem: str) -> None:
        """Raise a problem, or put it where problems are gathered."""
        wrong = self.wrong(where, problem)
        if self._problems is None:
            raise wrong
        self._problems.append(wrong)

    def entries(self, value: Located, what: str) -> tuple[Entry, ...]:
        """Return the entries of a mapping; that no key is repeated was seen when the YAML was read."""
        if value.kind != "mapping":
            raise self._kind(value, what, "keys with values")
        return value.entries

    def mapping(
        self, value: Located, what: str, keys: Sequence[str], *, needs: Sequence[str] = ()
    ) -> dict[str, Located]:
        """Return the values of a mapping by key.

        Args:
            value: The mapping.
            what: What to call it.
            keys: The keys it may have.
            needs: The keys it must have; where problems are gathered, one may be missing all the same.

        Raises:
            Wrong: For a key that is unknown or missing.
        """
        found: dict[str, Located] = {}
        for entry in self.entries(value, what):
            key = entry.key.text or ""
            if key not in keys:
                self.report(entry.key, f"{what} has no {quoted(key, 40)}; {_instead(key, keys)}")
                continue
            found[key] = entry.value
        for key in needs:
            if key not in found:
                self.report(value, f"{what} lacks {quoted(key)}")
        return found

    def items(self, value: Located, what: str) -> tuple[Located, ...]:
        """Return the values of a list that is not empty."""
        if value.kind != "list" or not value.items:
            raise self._kind(value, what, "a list with at least one entry")
        return value.items

    def word(self, value: Located, what: str, choices: Sequence[str]) -> str:
        """Return one of several words. YAML 1.1 takes ``off`` for a truth value; here it is the word as written."""
        text = value.text
        if value.kind not in ("string", "boolean") or text is None or text not in choices:
            raise self.wrong(value, f"{what} is {_shown(value)}; {_instead(text or '', choices)}")
        return text

    def code(self, value: Located) -> str:
        """Return a finding code."""
        text = value.text or ""
        if text not in CODES:
            near = _near(text, CODES)
            help_ = f"did you mean {near}?" if near else "docs/findings.md lists them"
            raise self.wrong(value, f"there is no finding code {_shown(value)}; {help_}")
        return text

    def version(self, value: Located) -> None:
        """Accept the version of the file's format that this package reads."""
        if value.kind != "number" or value.text != "1":
            raise self.wrong(value, f"version is {_shown(value)}, but the version of policies read here is 1")

    def bar(self, value: Located) -> float:
        """Return an evidence bar."""
        text = value.text or ""
        if value.kind != "number" or not _NUMBER.match(text) or not 2.0 <= float(text) < 1e6:
            raise self.wrong(value, f"bar is {_shown(value)}, not a number from 2 (an e-value of 100) to 999999")
        return float(text)

    def size(self, value: Located, what: str) -> int:
        """Return a number of bytes."""
        text = value.text or ""
        plain = value.kind == "number" and _WHOLE.match(text)
        octets = size_in_bytes(text) if plain or value.kind == "string" else None
        if octets is None:
            raise self.wrong(value, f"{what} is {_shown(value)}, not a size such as 64MB, 1.5GB or 4000000")
        return octets

    def day(self, value: Located, what: str) -> date:
        """Return a date."""
        text = value.text or ""
        if value.kind in ("date", "string") and _DATE.match(text):
            try:
                return date.fromisoformat(text)
            except ValueError:
                pass  # no such day
        raise self.wrong(value, f"{what} is {_shown(value)}, not a date such as 2027-03-31")

    def reason(self, value: Located) -> str:
        """Return a reason, made fit to print."""
        text = value.text or ""
        said = one_line(text, MAX_REASON)
        if value.kind != "string" or not said or len(text) > MAX_REASON:
            raise self.wrong(value, f"reason is {_shown(value)}, not a text of 1 to {MAX_REASON} characters")
        return said

    def pattern(self, value: Located, what: str) -> str:
        """Return a pattern of models."""
        text = value.text or ""
        if value.kind != "string" or not text or len(text) > MAX_PATTERN or one_line(text, MAX_PATTERN) != text:
            raise self.wrong(value, f"{what} is {_shown(value)}, not an id or a folder in which * and ? may stand")
        return text

    def base(self, value: Located) -> str:
        """Return a pattern of ids on the Hub."""
        text = value.text or ""
        if value.kind != "string" or len(text) > MAX_PATTERN or not _BASE.match(text):
            raise self.wrong(value, f"{_shown(value)} is no pattern of model ids such as acme/* or acme/base-7b")
        return text

    def _kind(self, value: Located, what: str, wanted: str) -> UsageError:
        return self.wrong(value, f"{what} is {_shown(value)}, not {wanted}")


def _shown(value: Located) -> str:
    if value.kind == "null":
        return "empty"
    if value.kind in ("list", "mapping"):
        return f"a {value.kind}" if value.value else f"an empty {value.kind}"
    return quoted(value.text, 60)


def _instead(word: str, choices: Sequence[str]) -> str:
    near = _near(word, choices)
    return f"did you mean {near}?" if near else f"there are {', '.join(choices)}"


def _near(word: str, choices: Collection[str]) -> str | None:
    """Return the choice that a word was perhaps meant for."""
    lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(one_line(word, 40).lower().replace("_", "-"), lower, n=1, cutoff=0.75)
    return lower[found[0]] if found else None
