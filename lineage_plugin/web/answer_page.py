"""What stands below the form: how far a question is, its answer, or why there is none; HTML, escaped by the templates.

Whatever a model, the Hub or a visitor says reaches a template as plain text that passed through
:func:`~lineage_plugin.text.one_line`; the article itself is the report's, see
:func:`lineage_plugin.report.html_report.fragment`.
"""

from __future__ import annotations

import base64
from typing import Any

from lineage_plugin.judge.types import Report
from lineage_plugin.report import html_report, phrases, render
from lineage_plugin.report.templates import own_markup, templates
from lineage_plugin.text import one_line
from lineage_plugin.web import share
from lineage_plugin.web.jobs import Answer, Failed, Failure, Job, Update
from lineage_plugin.web.settings import Settings

__all__ = ["answered", "failure", "note", "offers", "progress"]

_TEMPLATES = "web/static"

_STAGES = {
    "waiting": "Waiting for its turn",
    "starting": "Starting",
    "reading layers": "Reading layers and tossing their coins",
    "aligning layers": "Looking for layers that moved",
    "comparing channels": "Comparing what the layers pass on to each other",
    "matching units": "Looking for units that stand in another order",
    "recovering the basis": "Looking for a changed basis",
    "comparing units": "Comparing the units that were found",
    "opening models": "Opening the models",
    "comparing pairs": "Comparing each with each",
    "comparing declared bases by their weights": "Comparing the bases that cards declare once more, by their weights",
}
_UNITS = {
    "reading layers": "Layers",
    "opening models": "Models",
    "comparing pairs": "Pairs",
    "comparing declared bases by their weights": "Pairs",
}
_TITLES: dict[Failure, str] = {
    "usage": "That cannot be asked",
    "missing": "There is no such model",
    "denied": "That model may not be read",
    "unreachable": "The Hub does not answer",
    "unreadable": "That model cannot be read",
    "limit": "That is more than this page may do",
    "busy": "Too much is being asked right now",
    "cancelled": "Cancelled",
    "defect": "Something went wrong here",
}
_QUESTIONS = {
    "compare": "Comparing {} with {}",
    "check": "Checking {} against its card",
    "scan": "Looking for the parent of {}",
    "tree": "Growing a family tree of {}",
}


def progress(job: Job, update: Update) -> str:
    """Write how far a question is.

    Args:
        job: The question.
        update: How far it is.
    """
    waits = update.ahead > 0 or update.stage == "waiting"
    stage = _STAGES.get(update.stage) or one_line(update.stage, 60) or "starting"
    stage = stage[:1].upper() + stage[1:]
    if update.ahead > 0:
        stage = f"Waiting: {phrases.plural(update.ahead, 'question')} before this one"
    done, total = max(0, update.done), max(0, update.total)
    steps = f"{phrases.count(min(done, total))} of {phrases.count(total)}" if total else ""
    share_of_heads = phrases.percent(update.heads / update.coins) if update.coins > 0 else ""
    return _write(
        "progress.html",
        question=_question(job),
        query=share.query(job),
        stage=stage,
        steps=steps,
        unit=_UNITS.get(update.stage, "Steps"),
        done=min(done, total),
        total=total,
        waits=waits,
        size=phrases.size(max(0, update.bytes_read)),
        requests=phrases.count(max(0, update.requests)),
        coins=phrases.count(max(0, update.coins)),
        heads=phrases.count(max(0, update.heads)),
        share=share_of_heads,
        seconds=f"{max(0.0, update.seconds):.0f} s",
    )


def answered(answer: Answer, settings: Settings) -> str:
    """Write an answer: the article, its files, and what can be passed on.

    Args:
        answer: The answer.
        settings: Where the pages are reached.
    """
    job, result = answer.job, answer.result
    if isinstance(result, Report):
        article, summary = html_report.fragment(result, anchor=f"{job.kind}-answer"), phrases.summary(result)
        files = [(kind, render(result, kind), mime) for kind, mime in _FILES]
    else:
        from lineage_plugin.family import page, words
        from lineage_plugin.family import report as family_report

        article, summary = page.fragment(result), phrases.sentence(words.summary(result))
        files = [(kind, family_report.render(result, kind), mime) for kind, mime in _FILES]
    query = share.query(job)
    return _write(
        "answer.html",
        article=own_markup(article),
        summary=summary,
        kept=answer.kept,
        created=phrases.moment(result.created),
        query=query,
        link=f"{settings.address}{query}",
        files=[(share.file_name(job, kind), kind.upper(), _data(text, mime)) for kind, text, mime in files],
        citation=share.citation(answer),
        badge=share.badge(answer, f"{settings.address}{query}") if settings.address else "",
        badge_of_here="" if settings.address else share.badge(answer, query),
        anchor=f"{job.kind}-share",
    )


def failure(failed: Failed, job: Job | None = None) -> str:
    """Write why there is no answer.

    Args:
        failed: Why.
        job: The question; None where the text was none.
    """
    return _write(
        "failure.html",
        title=_TITLES[failed.why],
        message=failed.message,
        gentle=failed.why == "cancelled",
        query="" if job is None else share.query(job),
    )


def note(text: str) -> str:
    """Write a remark below a field; empty for an empty one."""
    return _write("note.html", text=one_line(text, 300)) if text else ""


def offers(field: str, names: tuple[str, ...]) -> str:
    """Write the names that a field offers while somebody types.

    Args:
        field: Id of the field.
        names: The names.
    """
    return _write("offers.html", field=field, names=[one_line(name, 200) for name in names])


_FILES = (("json", "application/json"), ("html", "text/html"))


def _question(job: Job) -> str:
    if job.kind == "tree":
        return _QUESTIONS["tree"].format(phrases.plural(len(job.models), "model"))
    return _QUESTIONS[job.kind].format(*(one_line(name, 120) for name in job.models))


def _data(text: str, mime: str) -> str:
    """Return a file as an address of its own: nothing lies on the server's disk until somebody fetches it."""
    return f"data:{mime};base64,{base64.b64encode(text.encode()).decode('ascii')}"


def _write(name: str, **values: Any) -> str:
    return templates(_TEMPLATES).get_template(name).render(values)
