"""Whether a card shows what a licence wants shown, and whether it names a licence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from lineage_plugin.licences.facts import Fact, Licence

__all__ = ["begins_so", "mentions", "plain_text", "sentences", "shows"]

MAX_TEXT: Final = 1 << 18
"""Most of a card that is searched, in characters."""

_TARGET: Final = re.compile(r"\]\([^()\s]{0,2000}\)")
_TAG: Final = re.compile(r"<[a-zA-Z/][^<>]{0,2000}>")
_ENTITY: Final = re.compile(r"&(?:nbsp|#160|#x[aA]0|quot|ldquo|rdquo|#8220|#8221);|%20|%C2%A0", re.IGNORECASE)
_NOT_A_WORD: Final = re.compile(r"[\W_]+")
_SENTENCE_END: Final = re.compile(
    r"(?<=[.!?;])\s+|\n\s*\n|[ ]{2}\n|\n(?=[ \t]{0,40}(?:[-*+#|>]|\d{1,3}[.)]))|\||<br\b", re.IGNORECASE
)
"""Ends of sentences, of list items, of cells in a table and of lines that end where they are broken."""
_LICENCE: Final = "(?:license|licenses|terms|agreement)"
_BEFORE: Final = r"(?:(?:s|ai|community|model|usage|use) ){0,2}"
"""Words that may stand between the name of a model and the word licence, such as in "Meta's Llama 3.1 Community"."""
_NOT: Final = r"(?:not|no|never|neither|nor|cannot|\w{2,8}n t)"
_DENIED: Final = re.compile(rf" {_NOT} (?!(?:only|just) )(?:(?!unless |until |before |without )\S+ ){{0,7}}$")
_DENIED_AFTER: Final = re.compile(r"(?:\S+ ){0,3}(?:do|does|is|are) (?:not|no longer) (?:apply|valid|used|part|in) ")
_NAMES_A_MODEL: Final = ("community", "other")
"""Classes of licences whose ids may be names of models, too: these count only beside the word licence."""
_NO_VENDOR: Final = ("copyleft", "share-alike")
"""Classes of licences that no spelling confuses with a model."""


def plain_text(text: str) -> str:
    """Return the words of a card between single blanks, in lower case, without markup, comments and link targets.

    The card as it is written follows, so that the text of a badge in an address counts too.
    """
    text = _ENTITY.sub(" ", _without_comments(text[:MAX_TEXT]))
    bare = _TAG.sub(" ", _TARGET.sub(" ", text))
    return f" {_words(bare)} | {_words(text)} "


def shows(words: str, fact: Fact) -> bool:
    """Tell whether a card shows one of the wordings of a fact.

    Args:
        words: What :func:`plain_text` made of the card.
        fact: A fact with phrases.

    Returns:
        True also for the honest variants: any case and markup, and "Built with Llama 3" for "Built with Meta Llama 3"
        and the other way round.
    """
    return any(f" {variant}" in words for phrase in fact.phrases for variant in _variants(_words(phrase)))


def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a card as :func:`plain_text` writes words, licence spelt as license."""
    text = _ENTITY.sub(" ", _without_comments(text[:MAX_TEXT]))
    found = []
    for sentence in _SENTENCE_END.split(text):
        for words in dict.fromkeys((_words(_TAG.sub(" ", _TARGET.sub(" ", sentence))), _words(sentence))):
            found.append(f" {words} ".replace(" licence", " license").replace(" licensing ", " license "))
    return tuple(found)


def mentions(card: Iterable[str], licence: Licence) -> bool:
    """Tell whether a card's text says of a licence that it is there.

    Args:
        card: The :func:`sentences` of the card.
        licence: The licence.

    Returns:
        True for its names; for its id in other spellings where that is no name of models, too; and for the name of its
        models with the word licence, terms or agreement. A denial, such as "not under the Gemma license", is none.
    """
    pattern = _called(licence)
    return any(
        not _DENIED.search(sentence, max(0, match.start() - 160), match.start() + 1)
        and not _DENIED_AFTER.match(sentence[match.end() :])
        for sentence in card
        for match in pattern.finditer(sentence)
    )


@cache
def _called(licence: Licence) -> re.Pattern[str]:
    """Return what finds a licence in a sentence, the blank before it included, the one after it too."""
    stems = {_spelt(stem) for stem in (licence.id, *licence.aliases)} - {""}
    whole = {_spelt(name) for name in licence.names} | {stem for stem in stems if re.search(rf" {_LICENCE}\b", stem)}
    if licence.kind not in _NAMES_A_MODEL and "-" in licence.id:
        whole.add(_spelt(licence.id))
    if licence.kind in _NO_VENDOR or licence.id.startswith("cc-"):
        whole |= {_spelt(alias) for alias in licence.aliases}
    any_stem = "|".join(sorted(map(re.escape, stems)))
    ways = [
        *sorted(map(re.escape, whole)),
        rf"(?:{any_stem}) {_BEFORE}{_LICENCE}",
        rf"{_LICENCE} of (?:the |meta s |google s ){{0,2}}(?:{any_stem})",
    ]
    return re.compile(rf" (?:{'|'.join(ways)}) ")


def _spelt(name: str) -> str:
    return f" {_words(name)} ".replace(" licence ", " license ").strip()


def begins_so(name: str, prefix: str) -> bool:
    """Tell whether the name of a model, without its owner, begins with a prefix, whatever its case and its hyphens.

    A Meta before Llama does no harm: Meta's own names have it.
    """
    letters = re.sub(r"[\W_]+", "", name.rsplit("/", 1)[-1][:200].casefold())
    wanted = re.sub(r"[\W_]+", "", prefix.casefold())
    return letters.startswith((wanted, f"meta{wanted}"))


def _without_comments(text: str) -> str:
    # By hand: a pattern would look for the end anew from each of many beginnings.
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return " ".join((*kept, text[at:]))


def _words(text: str) -> str:
    return _NOT_A_WORD.sub(" ", text.casefold()).strip()


def _variants(phrase: str) -> Iterable[str]:
    yield phrase
    if phrase.startswith("built with") and "llama" in phrase:
        yield "built with llama"
        yield "built with meta llama"
    if phrase.endswith(" qwen"):
        yield phrase.replace(" qwen", " alibaba qwen")
