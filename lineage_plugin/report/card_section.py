"""The lineage section of a model card: what the weights showed, for a visitor of the model's page.

The text holds no time, no cost, no path of the machine and no name of the checked model, so that a check of the same
weights against the same commits with the same options writes the same bytes, wherever the model lies.
:func:`lineage_plugin.card.section.with_section` puts it into a card.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import PureWindowsPath

from lineage_plugin._links import DOCS
from lineage_plugin._version import __version__
from lineage_plugin.checkpoint.open import parse_model_id
from lineage_plugin.errors import UsageError
from lineage_plugin.judge.types import Comparison, ModelSummary, Report
from lineage_plugin.options import Options
from lineage_plugin.report import outline, phrases, searched
from lineage_plugin.report.json_report import to_dict
from lineage_plugin.report.markdown_report import evidence_cell, heads_cell, kept_cell, relation_cell
from lineage_plugin.report.markup import code, fenced, row, text
from lineage_plugin.text import one_line

__all__ = ["card_section"]

_MOST_BASES = 16
_MOST_FILES = 4
_DEFAULTS = Options()


def card_section(report: Report) -> str | None:
    """Write the section that a report amounts to.

    Args:
        report: The report; digests of the weight files are named as far as it has them.

    Returns:
        The Markdown, ending in a line break; None when nothing was compared.
    """
    if not report.comparisons:
        return None
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    shown = report.comparisons[:_MOST_BASES]
    left = len(report.comparisons) - len(shown)
    with_what = "another model" if len(report.comparisons) == 1 else f"{phrases.count(len(report.comparisons))} others"
    yield from ("## Lineage", "", f"The weights of this model were compared with those of {with_what}.", "")
    for comparison in shown:
        yield f"- {_sentence(report, comparison)}"
    if left > 0:
        yield f"- {phrases.count(left)} more are not shown."
    yield ""
    yield row(("Base", "Commit", "Relation", "Coins that came up heads", "log10 E", "Share of the base kept"))
    yield row(("---", "---", "---", "--:", "--:", "---"))
    for comparison in shown:
        yield row(_cells(comparison))
    yield from ("", *_files(report), _limits(report), "")
    yield "To repeat it, in a folder that holds this repository's files:"
    yield from ("", *fenced(_command(report, shown), "bash"), "")
    yield f"Made with lineage-plugin {__version__}. [How it works]({DOCS}/method.md)."


def _sentence(report: Report, comparison: Comparison) -> str:
    declared = outline.is_declared(report, comparison)
    label, found, consequence = phrases.relation(comparison, declared=declared)
    said = [f"{label}: {found}", consequence, searched.part(comparison)]
    if comparison.relation != "identical" or comparison.evidence.coins:
        said.append(phrases.coins(comparison.evidence, calibrated=comparison.calibrated is not None))
    at = code(comparison.base.revision[:12]) if _on_hub(comparison.base) and comparison.base.revision else ""
    which = f"at commit {at}" if at else "(a local copy)"
    return f"**{_name(comparison.base)}** {which}: {text(' '.join(filter(None, said)), 4000)}"


def _cells(comparison: Comparison) -> tuple[str, ...]:
    base = comparison.base
    return (
        _name(base, cell=True),
        code((base.revision or "")[:12], cell=True) if _on_hub(base) else "a local copy",
        relation_cell(comparison),
        heads_cell(comparison.evidence),
        evidence_cell(comparison.evidence),
        kept_cell(comparison),
    )


def _on_hub(model: ModelSummary) -> str:
    """Return how a model of the Hub is named on the command line, its commit included; empty for any other."""
    if not model.revision or model.id != one_line(model.id, 400):
        return ""
    owner, *rest = model.id.split("/", 2)
    repository, path = "/".join([owner, *rest[:1]]), rest[1] if len(rest) > 1 else ""
    pinned = f"{repository}@{model.revision.replace('/', '%2F')}"
    # The id of a folder inside has lost its slash.
    for named in (f"{pinned}/{path}", f"{pinned}/{path}/") if path else (pinned,):
        try:
            found = parse_model_id(named)
        except UsageError:
            continue
        if (found.repo, found.revision) == (repository, model.revision):
            return named
    return ""


def _name(model: ModelSummary, *, cell: bool = False) -> str:
    return code(model.id if _on_hub(model) else _folder(model), cell=cell)


def _folder(model: ModelSummary) -> str:
    """Return the name of a local folder, without the way there."""
    name = one_line(PureWindowsPath(model.id).name, 120)
    return name if name.strip(". ") else "base"


def _files(report: Report) -> Iterator[str]:
    """Name the files that all this is about, where their digests are known."""
    known: dict[str, str] = to_dict(report)["suspect"]["sha256"]  # only what has the form of a digest
    if not known:
        return
    if len(known) <= _MOST_FILES:
        yield "It is about weight files with these sha256 digests:"
        yield ""
        yield from (f"- {code(name, 120)}: {code(digest)}" for name, digest in known.items())
    else:
        listed = "".join(f"{digest}  {name}\n" for name, digest in known.items())
        first, last = (code(name, 120) for name in (next(iter(known)), next(reversed(known))))
        yield (
            f"It is about {phrases.count(len(known))} weight files, {first} to {last}. The sha256 digest of what "
            f"`sha256sum` prints of them, in the order of their names, is {code(_sha256(listed))}."
        )
    yield ""


def _sha256(listed: str) -> str:
    return hashlib.sha256(listed.encode("utf-8", "replace")).hexdigest()


def _limits(report: Report) -> str:
    said = [
        "An e-value bounds a probability and is none; the share kept is an estimate, and who came first is not shown."
    ]
    found = report.comparisons
    if any(one.relation in ("derived", "shared-init") for one in found):
        said.append("Descent is told from a shared start by calibrated statistics, not by the exact coins.")
    if any(not one.evidence.exact or one.calibrated is not None or one.relation == "inconclusive" for one in found):
        said.append("The full report names the assumptions made, and what the calibrated evidence rests on.")
    return f"Limits: {text(' '.join([*said, phrases.UNSEEN]))}"


def _command(report: Report, shown: tuple[Comparison, ...]) -> list[str]:
    """Return the lines of the command that repeats the check; what a shell would obey in them is quoted."""
    used = report.settings
    options = [f"--bar {used.bar:g} --seed {used.seed}"]
    options += ["--exhaustive"] if used.exhaustive else []
    options += [f"--budget {used.budget}"] if used.budget is not None else []
    options += [f"--fingerprints {used.fingerprints}"] if used.fingerprints != _DEFAULTS.fingerprints else []
    bases = [shlex.quote(_on_hub(one.base) or f"path/to/{_folder(one.base)}") for one in shown]
    parts = ["lineage check .", *(f"--base {base}" for base in bases), " ".join(options)]
    return " \\\n    ".join(parts).split("\n")
