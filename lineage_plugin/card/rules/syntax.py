"""The rule about how the card is written: LIN207."""

from __future__ import annotations

from collections.abc import Iterator

from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding

__all__ = ["malformed_front_matter"]


@rule("LIN207")
def malformed_front_matter(card: Card) -> Iterator[Finding]:
    """Report front matter, or a value in it, that cannot be used as it is written.

    Why: the Hub refuses or drops such metadata, and a reader of the card cannot know which part of it holds. It is an
    error when something declared is lost, a warning or a note when it could be read all the same. Files beside the card
    that could not be read are notes, too: what they say was held against nothing. A character that ends a line for some
    readers and not for others (U+0085, U+2028, U+2029) is a warning, and an error where a key or a comment follows.

    Fix: writes the id instead of a web address and several ids in one text as a list, removes repeated and empty
    entries, and removes blanks behind the dashes that open the front matter.

    Example::

        ---
        base_model: {{ base_model }}
        ---

    Repair::

        ---
        base_model: owner/name
        ---
    """
    # Configurations that could not be read; what else is odd beside the card is the matter of other rules.
    beside = [problem for problem in card.beside.problems if problem.level == "note" and problem.file.endswith(".json")]
    for problem in (*card.front_matter.problems, *card.declaration.problems, *beside):
        yield finding(
            "LIN207",
            problem.message,
            file=problem.file or card.file,
            line=problem.line,
            help=problem.help,
            level=problem.level,
            column=problem.column,
            fix=problem.fix,
        )
