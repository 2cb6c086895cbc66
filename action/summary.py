"""The Markdown of job summary and comment."""

from __future__ import annotations

from collections.abc import Sequence

from action.github import Context
from action.models import Selection
from lineage_plugin.outcome import Outcome, gravest_first
from lineage_plugin.report.markdown_report import fit
from lineage_plugin.report.markup import code, text
from lineage_plugin.text import one_line

__all__ = ["summary"]

_MOST = 50
_WORDS = {"fail": "fails", "unchecked": "could not be checked", "undecided": "is undecided", "pass": "passes"}


def summary(selection: Selection, outcomes: Sequence[Outcome], context: Context, limit: int) -> str:
    """Write what there is to say, the gravest first.

    Args:
        selection: The models, and why these.
        outcomes: What came of them.
        context: The run.
        limit: Bytes of UTF-8 there are, at least 32 KiB.

    Returns:
        The Markdown, ending in a newline.
    """
    outcomes = gravest_first(outcomes)
    before = [f"### Lineage: {_counted(outcomes)}"]
    for notice in selection.notices:
        before.append(f"**{notice.title.capitalize()}** ({code(notice.file)}): {text(notice.message)}")
    before.append(_unchecked(outcomes))
    # Addresses of runs are made of names that GitHub gives, and of digits.
    link = f" [The run]({context.run_url}) has the log." if context.run_url else ""
    commit = f" For commit {context.after[:12]}." if context.after else ""
    after = f"<sub>{selection.why}{commit}{link}</sub>"
    rest = len("\n\n".join([*before, after]).encode("utf-8", "replace")) + 16
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    said = fit(reports, limit - rest).rstrip() if reports else ""
    return "\n\n".join(part for part in (*before, said, after) if part) + "\n"


def _counted(outcomes: Sequence[Outcome]) -> str:
    """Return ``2 of 8 models fail, 1 is undecided``."""
    total = len(outcomes)
    if not total:
        return "no model to check"
    said: list[str] = []
    for verdict, word in _WORDS.items():
        count = sum(outcome.verdict == verdict for outcome in outcomes)
        if count and not (verdict == "pass" and said):
            plural = {"fails": "fail", "is undecided": "are undecided", "passes": "pass"}.get(word, word)
            of = f" of {total} models" if not said and total > 1 else " model" if not said else ""
            said.append(f"{count}{of} {word if count == 1 else plural}")
    return ", ".join(said)


def _unchecked(outcomes: Sequence[Outcome]) -> str:
    failed = [outcome for outcome in outcomes if outcome.report is None]
    if not failed:
        return ""
    rows = []
    for outcome in failed[:_MOST]:
        problem = outcome.problem.removeprefix(f"{outcome.target.name}: ")
        rows.append(f"- {code(outcome.target.name)}: {text(one_line(problem, 400))} (exit code {outcome.code})")
    if len(failed) > len(rows):
        rows.append(f"- and {len(failed) - len(rows)} more; the log has them all")
    return "\n".join(("**Could not be checked**", "", *rows))
