"""Reports: one :class:`~lineage_plugin.judge.types.Report` value, written in several formats.

A format is a module of this package named ``<format>_report`` with one function::

    def render(report: Report, *, color: bool, width: int, unicode: bool) -> str

A format that holds several models in one document of its own making has ``render_all`` besides, with a sequence of
reports; of other formats the reports stand one below the other. One that states the digests of files says so by
``DIGESTS = True``. The folder is the registry: adding a module adds a
format, and none is imported before it is asked for. Sentences that several formats share are in
:mod:`~lineage_plugin.report.phrases`, the picture of the layers in :mod:`~lineage_plugin.report.picture`, the places of
files in :mod:`~lineage_plugin.report.places`.

Example:
    >>> from lineage_plugin.report import formats
    >>> formats()
    ('cyclonedx', 'github', 'html', 'json', 'markdown', 'predicate', 'sarif', 'text')
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, cast

from lineage_plugin.errors import UsageError

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report, Verdict

__all__ = ["GRAVEST_FIRST", "FailOn", "exit_code", "formats", "formats_in", "render", "render_all", "wants_digests"]

FailOn = Literal["error", "warning", "note", "never"]

GRAVEST_FIRST: tuple[Literal[1, 2, 4, 3, 0], ...] = (1, 2, 4, 3, 0)
"""Exit codes, the one that decides among several first: what is certain to be wrong before what could not be found
out."""

_SUFFIX = "_report"
_SEVERITY = {"note": 0, "warning": 1, "error": 2, "never": 3}
_UNDECIDED: Mapping[Verdict, Literal[0, 1, 3]] = {"pass": 0, "fail": 1, "undecided": 3}


class _Format(Protocol):
    def render(self, report: Report, *, color: bool, width: int, unicode: bool) -> str: ...


def formats() -> tuple[str, ...]:
    """Return the names of the formats there are, sorted."""
    return formats_in(__path__)


def formats_in(folders: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the formats that modules ``<format>_report`` of some folders write, sorted."""
    names = (module.name for module in pkgutil.iter_modules(folders))
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def render(report: Report, format: str = "text", *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report.

    Args:
        report: The report.
        format: One of :func:`formats`.
        color: Whether ANSI colours may be used; formats for programs ignore it.
        width: Columns to wrap to; formats for programs ignore it.
        unicode: Whether the report's own signs may leave ASCII; names taken from models are shown as they are.

    Returns:
        The text, ending in one newline.

    Raises:
        UsageError: When there is no such format.
    """
    return _module(format).render(report, color=color, width=width, unicode=unicode).rstrip("\n") + "\n"


def render_all(
    reports: Sequence[Report], format: str = "text", *, color: bool = False, width: int = 80, unicode: bool = True
) -> str:
    """Write the reports on several models as one text; of a single report the text is that of :func:`render`.

    Args:
        reports: The reports; for most formats there may be none.
        format: One of :func:`formats`.
        color: As for :func:`render`.
        width: As for :func:`render`.
        unicode: As for :func:`render`.

    Returns:
        The text, ending in one newline.

    Raises:
        UsageError: When there is no such format.
    """
    module = _module(format)
    if len(reports) == 1:
        return render(reports[0], format, color=color, width=width, unicode=unicode)
    write = getattr(module, "render_all", None)
    if write is not None:
        return cast(str, write(reports, color=color, width=width, unicode=unicode)).rstrip("\n") + "\n"
    return "\n".join(render(report, format, color=color, width=width, unicode=unicode) for report in reports)


def wants_digests(format: str) -> bool:
    """Return whether a format is about files by their digests, for which local ones are to be read whole.

    Raises:
        UsageError: When there is no such format.
    """
    return bool(getattr(_module(format), "DIGESTS", False))


def _module(format: str) -> _Format:
    if format not in formats():
        raise UsageError(f"no report format {format!r}; there are {', '.join(formats())}")
    return cast(_Format, importlib.import_module(f"{__name__}.{format}{_SUFFIX}"))


def exit_code(report: Report, fail_on: FailOn | None = None) -> Literal[0, 1, 3]:
    """Return the exit code a report stands for.

    Args:
        report: The report.
        fail_on: The lowest level of finding that fails; ``never`` lets every finding pass. None: as the report's policy
            says, else ``error``.

    Returns:
        1 when a finding is at or above ``fail_on``, else 3 when the verdict is undecided and the policy takes it for
        nothing else, else 0.
    """
    policy = report.settings.policy
    lowest = fail_on or (policy and policy.fail_on) or "error"
    if any(_SEVERITY[finding.level] >= _SEVERITY[lowest] for finding in report.findings):
        return 1
    if report.verdict != "undecided":
        return 0
    return 3 if policy is None else _UNDECIDED[policy.undecided]
