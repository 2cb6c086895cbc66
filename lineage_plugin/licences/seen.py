"""Whether a card shows what a licence wants shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lineage_plugin.licences.facts import Fact, Licence

__all__ = ["begins_so", "mentions", "plain_text", "shows"]

MAX_TEXT: Final = 1 << 18
"""Most of a card that is searched, in characters."""

_TARGET: Final = re.compile(r"\]\([^()\s]{0,2000}\)")
_TAG: Final = re.compile(r"<[a-zA-Z/][^<>]{0,2000}>")
_ENTITY: Final = re.compile(r"&(?:nbsp|#160|#x[aA]0|quot|ldquo|rdquo|#8220|#8221);|%20|%C2%A0", re.IGNORECASE)
_NOT_A_WORD: Final = re.compile(r"[\W_]+")


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


def mentions(words: str, licence: Licence) -> bool:
    """Tell whether a card's text calls a licence by one of its names."""
    return any(f" {_words(name)} " in words for name in licence.names)


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
