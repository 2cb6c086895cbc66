"""What visitors take away: the link that asks the question again, files, a citation, a badge.

A badge says what the weights show and nothing more; there is none that accuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from lineage_plugin._links import HOME
from lineage_plugin._version import __version__
from lineage_plugin.judge.types import Report
from lineage_plugin.report import cautions, outline, phrases, repeat
from lineage_plugin.text import one_line
from lineage_plugin.web.jobs import Answer, Job, Kind

if TYPE_CHECKING:
    from lineage_plugin.family.types import Family
    from lineage_plugin.judge.types import Comparison, ModelSummary

__all__ = ["Asked", "Citation", "badge", "citation", "file_name", "query", "read_query"]

_LONGEST = 2000
"""Characters of a value of a link that are looked at."""
_WHAT = {
    "compare": "Weights compared",
    "check": "Model held against its card",
    "scan": "Model looked up in a registry",
    "tree": "Family tree",
}
_SHOWN = {
    "identical": ("identical to {}", "blue"),
    "derived": ("share learned weights with {}", "blue"),
    "shared-init": ("share a start with {}, no descent shown", "lightgrey"),
    "unrelated": ("no relation to {} found", "lightgrey"),
}
_REPEATS = {
    "same": "This repeats the answer and its numbers",
    "numbers": "This repeats the numbers",
    "registry": "With the same registry this repeats the numbers",
}
_LATEX = {
    **{sign: f"\\{sign}" for sign in "{}$&#%_"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a link asks; the texts are as they stand in it, and nothing has looked at them.

    Attributes:
        kind: The kind of the question.
        texts: What goes into the fields, in order.
    """

    kind: Kind
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Citation:
    """How an answer is quoted: as a sentence, and as an entry of BibTeX."""

    text: str
    bibtex: str


def query(job: Job) -> str:
    """Return the link to a question, from its question mark on: ``?suspect=a/b&base=c/d``.

    Args:
        job: The question.
    """
    if job.kind == "compare":
        pairs = list(zip(("suspect", "base"), job.models, strict=True))
    else:
        name = {"check": "model", "scan": "scan", "tree": "tree"}[job.kind]
        pairs = [(name, ",".join(job.models))]
    return "?" + urlencode(pairs, safe="/@:,", quote_via=quote)


def read_query(values: Mapping[str, str]) -> Asked | None:
    """Return what a link asks; None when it asks nothing.

    Args:
        values: Its query parameters, by name.
    """
    given = {
        name: values[name][:_LONGEST].strip() for name in ("suspect", "base", "model", "scan", "tree") if name in values
    }
    if "suspect" in given or "base" in given:
        return Asked("compare", (given.get("suspect", ""), given.get("base", "")))
    if "model" in given:
        return Asked("check", (given["model"],))
    if "scan" in given:
        return Asked("scan", (given["scan"],))
    if "tree" in given:
        return Asked("tree", tuple(filter(None, (text.strip() for text in given["tree"].split(",")))))
    return None


def file_name(job: Job, suffix: str) -> str:
    """Return what a downloaded answer is called, such as ``lineage-owner-name.html``; a pair is called after both.

    Args:
        job: The question.
        suffix: What it ends in, without the dot.
    """
    about = job.models[: 2 if job.kind == "compare" else 1]
    parts = [re.sub(r"[^A-Za-z0-9._]+", "-", one.partition("@")[0]).strip("-.")[:80] for one in about]
    named = "-".join(filter(None, parts))
    return f"lineage-{'tree-' if job.kind == 'tree' else ''}{named or 'report'}.{suffix}"


def citation(answer: Answer) -> Citation:
    """Return how an answer is quoted: which models at which commits, when, what was found, how to repeat it.

    Args:
        answer: The answer.
    """
    result = answer.result
    models = _models(result)
    named = (
        " and ".join(map(_named, models[:2]))
        if len(models) < 3
        else f"{_named(models[0])} and {len(models) - 1} others"
    )
    title = f"{_WHAT[answer.job.kind]}: {named}"
    commits = "; ".join(f"{_named(one)} at commit {one_line(one.revision, 40)}" for one in models if one.revision)
    found = _found(result)
    repeated = _repeated(answer)
    date = one_line(result.created, 40)[:10]
    parts = [f"lineage-plugin {__version__}. {title}. {date}.", found, f"{commits}." if commits else ""]
    careful = _caution(result)
    text = " ".join(filter(None, [*parts, repeated, f"({HOME})", careful]))
    note = " ".join(filter(None, [found, f"{commits}." if commits else "", repeated, careful]))
    key = re.sub(r"[^a-z0-9]+", "-", f"lineage {named} {date}".lower()).strip("-")[:80]
    year = date[:4] if re.match(r"\d{4}", date) else ""
    bibtex = "\n".join(
        [
            f"@misc{{{key},",
            f"  title        = {{{{{_latex(title)}}}}},",
            f"  author       = {{{{lineage-plugin {_latex(__version__)}}}}},",
            f"  year         = {{{year}}},",
            f"  howpublished = {{\\url{{{HOME}}}}},",
            f"  note         = {{{_latex(f'Made on {date}. {note}')}}},",
            "}",
        ]
    )
    return Citation(text, bibtex)


def badge(answer: Answer, address: str) -> str:
    """Return Markdown for a model card: a badge with the words of what the weights show; empty where none is right.

    There is none that speaks against what a card declares, and none for what is open. That a badge is no evidence by
    itself stands in its text for those who do not see it and in its tooltip.

    Args:
        answer: The answer.
        address: The link to the question, so that readers can ask it themselves.
    """
    report = answer.result
    if not isinstance(report, Report) or not report.comparisons or answer.job.kind == "scan":
        return ""
    one = report.comparisons[0]
    if not outline.is_pair(report) and (report.verdict != "pass" or one.relation not in ("identical", "derived")):
        return ""
    if one.relation not in _SHOWN:
        return ""
    words, colour = _SHOWN[one.relation]
    said = words.format(_named(one.base))
    shown = quote(said.replace("-", "--").replace("_", "__").replace(" ", "_"), safe="")
    told = "Not evidence by itself: follow the link and check."
    alt = re.sub(r"([\\\[\]`*<>])", r"\\\1", f"weights: {said} (not evidence by itself)")
    return f'[![{alt}](https://img.shields.io/badge/weights-{shown}-{colour} "{told}")]({address})'


def _models(result: Report | Family) -> Sequence[ModelSummary]:
    if isinstance(result, Report):
        return [result.suspect, *(one.base for one in result.comparisons)]
    return [member.model for member in result.models]


def _named(model: ModelSummary) -> str:
    return one_line(model.id, 120) or "unnamed"


def _found(result: Report | Family) -> str:
    if not isinstance(result, Report):
        from lineage_plugin.family import words

        return phrases.sentence(words.summary(result))
    said = [phrases.summary(result)]
    said += [_evidence(one, result.settings.bar) for one in result.comparisons]
    return " ".join(filter(None, said))


def _evidence(one: Comparison, bar: float) -> str:
    """Say what an answer rests on; empty for equal files and without coins."""
    coins = one.evidence
    if one.relation == "identical":
        return ""
    if phrases.rests_on_calibration(one) or (one.relation in ("derived", "shared-init") and coins.log10_e < bar):
        return f"What is said of {_named(one.base)} rests on calibrated evidence, not on exact coins."
    if not coins.coins and not any(stage.coins for stage in coins.stages):
        return ""
    given = "" if coins.exact else " (if the stated assumptions hold)"
    return f"E-value against independence of {_named(one.base)}: {phrases.e_value(coins.log10_e)}{given}."


def _repeated(answer: Answer) -> str:
    """Say how an answer is made again, and how much of it; empty where it cannot be."""
    if isinstance(answer.result, Report):
        command, repeats = repeat.command(answer.result)
        return f"{_REPEATS[repeats]}: {command}" if command else ""
    from lineage_plugin.family import words

    command = words.command(answer.result)
    return f"This repeats the tree: {command}" if command else ""


def _caution(result: Report | Family) -> str:
    """Say what an answer must not be taken for; a quotation travels without the page."""
    if isinstance(result, Report):
        return cautions.caution(result)
    from lineage_plugin.family import words

    return words.caution(result)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
