"""A page: the parts of what is to be said about a finding code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from lineage_plugin.errors import UsageError
from lineage_plugin.findings import CODES, Level, Rule, nearest_code
from lineage_plugin.text import one_line

__all__ = ["Page", "Part", "page", "pages", "parts"]

_BLOCKS: Final = ("Example", "Repair")
_LEADS: Final = ("Why", "Do", "Fix")
_OF_FUNCTIONS: Final = re.compile(r"^(?:Args|Returns|Yields|Raises|Attributes):\n.*", re.MULTILINE | re.DOTALL)
_LITERAL: Final = re.compile(r"(?::\w+:)?(?<!`)(`{1,2})~?([^`]+)\1(?!`)")


class Part(NamedTuple):
    """A part of a page as it is shown.

    Attributes:
        heading: What it is; empty for a plain paragraph.
        text: A paragraph, or lines of code.
        code: Which of the two.
    """

    heading: str
    text: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """What a finding code means.

    Texts are Markdown of words, code marks and links, each in one line; links lead to pages of ``docs/``.

    Attributes:
        code: The code.
        title: What it says, in a few words.
        level: The level that it is reported at by default.
        what: What is reported.
        why: Why that matters; empty where it needs no words.
        details: Paragraphs, and lines of code, on when it is said and when not.
        example: Lines of an example.
        repair: The same lines, put right.
        more: The same for which the example is needed.
        do: What to do about it.
        fix: What ``lineage lint --fix`` does about it; empty when it does nothing.
        uri: The page on the web.
    """

    code: str
    title: str
    level: Level
    what: str
    why: str
    details: tuple[Part, ...]
    example: str
    repair: str
    more: tuple[Part, ...]
    do: str
    fix: str
    uri: str

    @property
    def fixable(self) -> bool:
        """Whether ``lineage lint --fix`` can repair it, at least in some cases."""
        return bool(self.fix)


def page(code: str) -> Page:
    """Return the page of a finding code.

    Args:
        code: The code; small letters are forgiven.

    Raises:
        UsageError: When there is no such code; the message names the nearest one.
    """
    rule = CODES.get(code.strip().upper())
    if rule is None:
        near = nearest_code(code)
        instead = f"did you mean {near}?" if near else "docs/findings.md lists them"
        raise UsageError(f"{one_line(code, 40) or 'nothing'} is no finding code; {instead}")
    return _page(rule, _text(rule.code))


def pages() -> tuple[Page, ...]:
    """Return the pages of all codes, in their order."""
    return tuple(page(code) for code in CODES)


def parts(page: Page) -> Iterator[Part]:
    """Yield the parts of a page below its title, in the order in which they are shown; none is empty."""
    everything = (
        Part("", page.what),
        *page.details,
        Part("Why", page.why),
        Part("Example", page.example, True),
        Part("Repair", page.repair, True),
        *page.more,
        Part("What to do", page.do),
        Part("What --fix does", page.fix),
    )
    yield from (part for part in everything if part.text)


def _text(code: str) -> str:
    """Return the text that explains a code; where it stands is a matter of its group."""
    if code.startswith("LIN2"):
        from lineage_plugin.card.rules.registry import explanations

        return explanations()[code]
    from lineage_plugin.explain import inputs, lineage, policies

    return {**lineage.TEXTS, **inputs.TEXTS, **policies.TEXTS}[code]


def _page(rule: Rule, text: str) -> Page:
    """Take a text in the form of a docstring apart."""
    text = _OF_FUNCTIONS.sub("", inspect.cleandoc(text)).rstrip()
    what, _, rest = text.partition("\n\n")
    leads: dict[str, str] = {}
    blocks: dict[str, str] = {}
    details: list[Part] = []
    more: list[Part] = []
    for paragraph in _paragraphs(rest):
        prose, _, code = paragraph.partition("::\n\n")
        head, _, tail = paragraph.partition(":")
        if prose in _BLOCKS:
            blocks[prose] = inspect.cleandoc("\n" + code)
        elif head in _LEADS:
            leads[head] = _line(tail)
        else:
            said = [Part("", _line(f"{prose}:")), Part("", inspect.cleandoc("\n" + code), True)]
            (more if blocks else details).extend(said if code else [Part("", _line(paragraph))])
    return Page(
        rule.code,
        rule.title,
        rule.level,
        re.sub(r"^(Report|Note)\b", r"\1s", _line(what)),
        _sentence(leads.get("Why", "")),
        tuple(details),
        blocks.get("Example", ""),
        blocks.get("Repair", ""),
        tuple(more),
        _sentence(leads.get("Do", "")),
        _sentence(leads.get("Fix", "")),
        rule.help_uri,
    )


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs, each with the lines of code that follow it."""
    together = ""
    for paragraph in filter(str.strip, re.split(r"\n[ \t]*\n", text)):
        if together and not paragraph.startswith(" "):
            yield together
            together = ""
        together += f"\n\n{paragraph}" if together else paragraph
    if together:
        yield together


def _line(text: str) -> str:
    """Join the lines of a paragraph, and write literals as Markdown does."""
    return _LITERAL.sub(r"`\2`", " ".join(text.split()))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
