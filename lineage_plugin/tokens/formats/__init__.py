"""The tokenizer files that are read, one module a format, in the order in which they are preferred.

A format is a name, the files it lies in, and a function from the file's bytes to the tokens. ``complete`` says whether
the file holds the added tokens, too, or whether they lie beside it in ``added_tokens.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from lineage_plugin.tokens.formats import plain, sentencepiece, tekken, tiktoken, tokenizer_json
from lineage_plugin.tokens.spelling import Entry

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of tokenizer files.

    Attributes:
        name: What it is called.
        files: Patterns of file names at the top of the model, preferred first.
        parse: From the file's bytes, and the file as messages name it, to its tokens.
        complete: Whether the added tokens are in the file.
    """

    name: str
    files: tuple[str, ...]
    parse: Callable[[bytes, str], list[Entry]]
    complete: bool = False

    def find(self, names: Iterable[str]) -> list[str]:
        """Return the files of this format among the files of a model, preferred first."""
        known = list(names)
        return [name for pattern in self.files for name in sorted(known) if fnmatchcase(name, pattern)]


# Not ``sentencepiece.bpe.model``: the models that ship it number their rows otherwise than the file does.
FORMATS: Final[tuple[Format, ...]] = (
    Format("tokenizer.json", ("tokenizer.json",), tokenizer_json.parse, complete=True),
    Format("tekken", ("tekken.json",), tekken.parse, complete=True),
    Format("tiktoken", ("*.tiktoken", "tiktoken.model"), tiktoken.parse),
    Format("sentencepiece", ("tokenizer.model", "spiece.model"), sentencepiece.parse),
    Format("vocab.json", ("vocab.json",), plain.parse_json),
    Format("vocab.txt", ("vocab.txt",), plain.parse_lines),
)
