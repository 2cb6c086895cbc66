r"""Foreign text, made fit to print.

Model ids, card values, tensor names and server answers are chosen by strangers and end up on terminals, in CI logs, in
annotations and in Markdown. :func:`one_line` is the gate they pass: what comes out is a single short line of visible
characters that can be encoded, and that a terminal or a CI runner prints and does not obey.

    >>> one_line("owner/name\x1b[31m\n::error::gotcha")
    'owner/name : :error: :gotcha'

It does not escape for HTML, Markdown or Rich markup; each report does that for its own format.
"""

from __future__ import annotations

import re

__all__ = ["one_line", "quoted"]

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x9c\r\n]{0,1024}(?:\x07|\x1b\\|\x9c)"  # operating system command: title, link
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\r\n]{0,1024}(?:\x1b\\|\x9c)"  # device control and other strings
    r"|(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,16}[@-~]"  # control sequence: colours, cursor, erase
    r"|\x1b[ -/]{0,16}[0-~]"  # two-character and charset escapes
)
_SECRET = re.compile(r"\b(hf_|api_org_|github_pat_|gh[pousr]_)[A-Za-z0-9_]{8,}")
_USERINFO = re.compile(r"://[^/\s@]{0,512}@")
# Letters by category, blank by appearance: Hangul fillers, the empty Braille pattern, the combining grapheme joiner,
# vowel inherents and variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def one_line(value: object, limit: int = 80) -> str:
    """Return a value as one short, inert line.

    Removed are C0 and C1 controls, terminal escape sequences, bidirectional overrides, zero-width and other invisible
    characters, lone surrogates, private and unassigned code points; every run of white space and line separators
    becomes one space. ``::`` and ``##[``, which open workflow commands in CI logs, are pulled apart wherever they
    stand, since a report may wrap its lines anywhere. Access tokens and the user part of URLs are masked.

    Args:
        value: Anything; bytes are read as UTF-8, other objects through ``str``.
        limit: Largest number of characters returned, at least 1; longer text ends in an ellipsis.

    Returns:
        The cleaned text; empty when nothing visible remains. It can always be encoded as UTF-8.
    """
    limit = max(1, limit)
    # Far more than can be kept, so that the work does not grow with the input.
    window = 4 * limit + 4096
    text = _as_text(value, window + 1)
    cut = len(text) > window
    text = _ESCAPE_SEQUENCE.sub("", text[:window])
    text = " ".join(_drop_invisible(text).split())
    text = _USERINFO.sub("://***@", text)
    text = _SECRET.sub(r"\1***", text)
    text = _split_commands(text)
    if len(text) > limit or cut:
        text = text[: limit - 1].rstrip() + ELLIPSIS
    return text


def letters(text: str) -> str:
    """Return the letters among the first 40 characters, in lower case: what two spellings of a word have in common."""
    return "".join(filter(str.isalpha, text[:40])).lower()


def quoted(value: object, limit: int = 80) -> str:
    """Return a value as :func:`one_line` does, between double quotes, to stand inside a sentence."""
    return f'"{one_line(value, limit)}"'


def _as_text(value: object, size: int) -> str:
    """Return the first characters of a value's text; never raises."""
    if isinstance(value, str):
        # A subclass may override anything; take the plain string.
        return str.__getitem__(value, slice(0, size))
    if isinstance(value, (bytes, bytearray)):
        return bytes(value[: 4 * size]).decode("utf-8", "replace")[:size]
    try:
        return str.__getitem__(str(value), slice(0, size))
    except Exception:  # str() of a foreign object may do anything; an integer may have too many digits to print
        return f"<{type(value).__name__}>"


def _drop_invisible(text: str) -> str:
    """Drop what cannot be seen; keep white space for the caller to fold."""
    if text.isascii() and text.isprintable():
        return text
    kept = []
    for character in _INVISIBLE.sub("", text):
        if character.isspace():
            kept.append(" ")
        elif character.isprintable():
            kept.append(character)
    return "".join(kept)


def _split_commands(text: str) -> str:
    """Pull ``::`` and ``##[`` apart."""
    text = re.sub(r":(?=:)", ": ", text)
    return text.replace("##[", "## [")
