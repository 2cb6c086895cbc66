"""What an answer must not be taken for: said beside the verdict where people meet it who have not heard of the method.

The words are as careful as those of :mod:`~lineage_plugin.report.phrases`: descent is no wrong, silence of the weights
is no lie, and an e-value is no probability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lineage_plugin.report import outline, phrases

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Comparison, Report

__all__ = ["HONEST_MISTAKE", "UNTRACED", "caution", "not_shown"]

HONEST_MISTAKE = "This may be an honest mistake, such as a wrong name, revision or file. Ask before you accuse."
UNTRACED = "A relation that leaves no trace in the weights, such as distillation, cannot be seen by this."

_PAIR = {
    "identical": "The weights do not tell which of the two was there first, nor whether anything is wrong with that.",
    "derived": (
        "One may be made from the other, or both from a third model. The weights do not tell whether anybody did "
        "wrong: many licences allow just this."
    ),
    "shared-init": (
        "No descent is shown. Models trained apart from one start look like this, and so does one that is an early "
        "checkpoint of the other."
    ),
    "unrelated": UNTRACED,
    "inconclusive": "This is no answer: neither a relation nor its absence is shown.",
}
_VERDICTS = {
    "pass": "Nothing that was checked contradicts the card. That does not mean that the card is complete.",
    "fail": HONEST_MISTAKE,
    "undecided": "This is no answer: it speaks neither for the card nor against it.",
}
_UNSEEN_WEIGHTS = {
    "LIN202": "a declared base could not be opened",
    "LIN301": "they are in a file that could run code, which is not opened",
    "LIN302": "a file could not be read",
    "LIN303": "they are stored in a way that is not decoded",
    "LIN304": "there were no units to compare",
}
_RELATIVE = (
    "A model of the registry is a relative. That need not be the one it was made from, which the registry may not "
    "hold, and the weights do not tell whether anybody did wrong."
)
_SCANS = {"shared-init": _PAIR["shared-init"], "inconclusive": _PAIR["inconclusive"]}
_UNDECLARED = "That the card does not say so may be an honest mistake. Ask before you accuse."
_NO_RELATIVE = (
    "Only the models of this registry were looked at, by their fingerprints. It does not mean that the model was "
    "trained from scratch."
)
_NO_PROBABILITY = (
    "How probable a relation is. An e-value bounds how often chance alone would do as much; it is not the probability "
    "that the models are related."
)
_NO_INTENT = "Who did what, why, and whether a licence was broken."
_NOT_SHOWN = {
    "identical": ("Which of the two was published first.", _NO_INTENT),
    "derived": ("Who came first, or whether both come from a third model.", _NO_INTENT, _NO_PROBABILITY),
    "shared-init": (
        "That either holds what the other learned, or that neither is an early checkpoint of the other.",
        "That the common start belongs to one of them: it may be public.",
        _NO_PROBABILITY,
    ),
    "unrelated": (
        "That the models have nothing in common: data, outputs and ideas leave no trace in weights.",
        "That a card which says otherwise lies: it may name a wrong model, revision or file by mistake.",
    ),
    "inconclusive": ("That the models are related.", "That they are not.", phrases.UNSEEN),
}


def caution(report: Report) -> str:
    """Say in one or two sentences what the verdict must not be taken for.

    Args:
        report: The report.
    """
    if report.command == "scan":
        match = outline.best_match(report)
        if match is None:
            return _NO_RELATIVE
        said = _SCANS.get(match.relation, _RELATIVE)
        return f"{said} {_UNDECLARED}" if any(found.code == "LIN102" for found in report.findings) else said
    if outline.is_pair(report):
        return _PAIR[report.comparisons[0].relation]
    if report.verdict == "pass" and not report.comparisons:
        return "No weights were compared, so nothing is said about them."
    if outline.nothing_compared(report):
        codes = {found.code for found in report.findings if found.level == "error"}
        return f"This says nothing about the weights: {'; '.join(_UNSEEN_WEIGHTS[code] for code in sorted(codes))}."
    if outline.banner(report).kind == "pass" and (warnings := outline.warned(report)):
        read = f"there {'is' if warnings == 1 else 'are'} {phrases.plural(warnings, 'warning')} to read below"
        return f"No error was found, but {read}. That does not mean that the card is complete."
    return _VERDICTS[report.verdict]


def not_shown(comparison: Comparison) -> tuple[str, ...]:
    """Return what a comparison leaves open, a sentence each.

    Args:
        comparison: The comparison.
    """
    return _NOT_SHOWN[comparison.relation]
