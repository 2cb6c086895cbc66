"""Which outcomes of a check keep an upload or a push back, and how that is said."""

from __future__ import annotations

from collections.abc import Iterable

from lineage_plugin.findings import gravest_first
from lineage_plugin.hooks.journal import OVERRIDE
from lineage_plugin.hooks.said import LOG
from lineage_plugin.outcome import Outcome
from lineage_plugin.report.outline import headline, placed
from lineage_plugin.report.phrases import summary
from lineage_plugin.text import one_line

__all__ = ["blocking", "reason_of", "remedy_of", "tell"]

_SHOWN = 3
"""Findings of a model that a reason names."""
_CANNOT_SHOW = frozenset({"LIN301", "LIN302", "LIN303", "LIN304"})
"""Findings about weights that cannot be compared."""


def blocking(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes that keep an upload or a push back, in order.

    Two kinds of doubt do not, since nothing would settle them. An adapter that comes without its base's weights can at
    most be shown to fit its base (LIN304 is a note then). And further weights beside a model that was compared may be
    of a kind that is not read, or have no counterpart in the base: an exported graph, a value head, a layer in a
    folder of its own.
    """
    found = list(outcomes)
    compared = any(not one.extra and one.report is not None and one.report.comparisons for one in found)
    return [one for one in found if one.code != 0 and not _is_moot(one, compared)]


def _is_moot(outcome: Outcome, compared: bool) -> bool:
    if outcome.report is None:
        return False
    findings = outcome.report.findings
    if outcome.code == 3:
        levels = {found.level for found in findings if found.code == "LIN304"}
        return "note" in levels or (bool(levels) and outcome.extra and compared)
    errors = {found.code for found in findings if found.level == "error"}
    return outcome.code == 1 and outcome.extra and compared and bool(errors) and errors <= _CANNOT_SHOW


_UNKNOWN = "What could not be found out is not let go."
_OVERRIDE = f"To let it go all the same, say why ({OVERRIDE}='why', --override or override=): the reason is recorded."


def remedy_of(outcome: Outcome) -> str:
    """Say what can be done about the gravest outcome."""
    findings = () if outcome.report is None else gravest_first(outcome.report.findings)
    told = findings[0].help if findings and findings[0].level != "note" else ""
    return " ".join(part for part in (told if outcome.code == 1 else _UNKNOWN, _OVERRIDE) if part)


def tell(outcomes: Iterable[Outcome]) -> None:
    """Say of every model what came of it: whoever reads the log is to know that there was a check.

    Lines go to the logger ``lineage_plugin``: information, and a warning where nothing could be compared.
    """
    for outcome in outcomes:
        report = outcome.report
        if report is None:
            continue
        if outcome.code != 0:
            LOG.warning("UNCHECKED: %s", reason_of(outcome))
        elif report.command == "lint" or report.comparisons:
            LOG.info("%s: %s", headline(report).word, summary(report))
        else:
            LOG.warning("UNCHECKED: %s A card with base_model, or a base given by hand, is compared.", summary(report))


def reason_of(outcome: Outcome) -> str:
    """Say in a line why a model is not let go."""
    report, name = outcome.report, one_line(outcome.target.name, 200)
    if report is None:
        return f"{name}: {one_line(outcome.problem, 500)}"
    grave = [found for found in gravest_first(report.findings) if found.level != "note"]
    if not grave:
        return summary(report)
    said = [
        f"{found.code} {one_line(found.message, 300)}"
        + (f" ({placed(found.file, found.line, found.column)})" if found.file else "")
        for found in grave[:_SHOWN]
    ]
    more = f"; and {len(grave) - _SHOWN} more" if len(grave) > _SHOWN else ""
    return f"{name}: {'; '.join(said)}{more}"
