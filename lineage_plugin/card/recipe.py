"""Merge recipes: the configuration of mergekit, as a file or as a block of the card's text.

A recipe is the input of the program that made the weights (mergekit 0.1, ``MergeConfiguration``; ``mergekit-moe``)::

    merge_method: ties
    base_model: owner/base
    models:                     # or slices with sources, or modules with either
      - model: owner/one
      - model: owner/two+owner/lora

``mergekit-multi`` takes several documents, of which each may name itself and be named as a model in the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from lineage_plugin.card.beside import Recipe
from lineage_plugin.card.body import read_body
from lineage_plugin.card.claims import looks_like_a_folder
from lineage_plugin.card.declaration import MAX_BASES, BaseClaim
from lineage_plugin.card.located import Entry, Lines, Located, Problem
from lineage_plugin.card.reference import Rejection, parse_reference, parse_revision
from lineage_plugin.card.yaml_values import Refused, read_yaml
from lineage_plugin.text import one_line, quoted

__all__ = ["ReadRecipe", "recipe_of_card", "recipe_of_file"]

MAX_DOCUMENTS: Final = 32
"""Most documents of one recipe."""
MAX_RECIPE: Final = 256 * 1024
"""Characters read of all documents together; the longest recipes, of hundreds of slices, have some 50,000."""

# "^" would know no line that ends with a carriage return alone.
_NEXT: Final = re.compile(r"(?<![^\r\n])---[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n|\Z)")
_IS_RECIPE: Final = re.compile(r"(?<![^\r\n])(?:merge_method|gate_mode|experts)[ \t]*:")
_GENERATED: Final = re.compile(r"YAML configurations? (?:was|were) used to produce this model", re.IGNORECASE)
_MODELS: Final = frozenset({"base_model", "model", "source_model"})
_NOT_MERGED: Final = frozenset({"parameters", "tokenizer", "tokenizer_source"})
"""Keys below which models are named that lend no weights."""


@dataclass(frozen=True, slots=True)
class ReadRecipe:
    """A recipe and what else was seen in it.

    Attributes:
        recipe: The recipe, or None when nothing of it can be read.
        merged: How many different models it merges, those of the user's disk included; a model with an adapter is one.
        generated: Whether it is that of these weights by its place: a file, or below the sentence that mergekit writes.
        tokenizers: Models of the Hub that it takes the tokenizer from.
        problems: Models that nobody else can find, and documents that cannot be read.
    """

    recipe: Recipe | None
    merged: int
    generated: bool
    tokenizers: tuple[BaseClaim, ...]
    problems: tuple[Problem, ...]


def recipe_of_file(text: str, file: str) -> ReadRecipe | None:
    """Read a recipe that has a file of its own.

    Args:
        text: The content, of any kind.
        file: Its name, for the claims.

    Returns:
        The recipe, or None when there is none in it.
    """
    text = text.removeprefix("\ufeff")
    return _Reader(text, file).read([(0, len(text))], generated=True)


def recipe_of_card(text: str, file: str) -> ReadRecipe | None:
    """Read the recipe out of the blocks of YAML in a card's text.

    Args:
        text: The card.
        file: Its name, for the claims.

    Returns:
        The recipe, that of all blocks together, or None when no block is one.
    """
    if "merge_method" not in text and "source_model" not in text:
        return None
    body = read_body(text)
    blocks = [
        block
        for block in body.blocks
        if block.language in ("yaml", "yml", "") and _IS_RECIPE.search(body.text, block.start, block.end)
    ]
    generated = any(_GENERATED.search(block.above[:400]) for block in blocks)
    spans = [(block.start, block.end) for block in blocks[:MAX_DOCUMENTS]]
    return _Reader(body.text, file).read(spans, generated=generated)


@dataclass(slots=True)
class _Reader:
    """Collects the models that the documents of a recipe name."""

    text: str
    file: str
    problems: list[Problem] = field(default_factory=list)
    _models: dict[str, BaseClaim] = field(default_factory=dict)
    _merged: set[str] = field(default_factory=set)
    _tokenizers: dict[str, BaseClaim] = field(default_factory=dict)
    _steps: set[str] = field(default_factory=set)

    def read(self, spans: list[tuple[int, int]], *, generated: bool) -> ReadRecipe | None:
        """Read the documents in these parts of the text."""
        documents = self._documents(spans)
        self._steps = {name for document in documents if (name := _text(document, "name"))}
        for document in documents:
            self._walk(document)
        problems = tuple(dict.fromkeys(self.problems))[:MAX_BASES]
        if not documents or not self._merged:
            return ReadRecipe(None, 0, False, (), problems) if problems else None
        last = documents[-1]
        base = _value(last, "base_model")
        named = self._claims(base) if base is not None else []
        recipe = Recipe(
            method=one_line(_text(last, "merge_method"), 40) or None,
            base=named[0] if named else None,
            models=tuple(self._models.values())[:MAX_BASES],
            file=self.file,
            line=min(document[0].key.line for document in documents),
        )
        return ReadRecipe(recipe, len(self._merged), generated, tuple(self._tokenizers.values()), problems)

    def _documents(self, spans: list[tuple[int, int]]) -> list[tuple[Entry, ...]]:
        lines = Lines(self.text)
        found: list[tuple[Entry, ...]] = []
        left = MAX_RECIPE
        for start, end in spans:
            left -= end - start
            if left < 0:
                message = f"the merge recipe has more than {MAX_RECIPE // 1024} KiB and was not read to its end"
                self.problems.append(Problem(message, *lines.at(start), "note", file=self.file))
                break
            block = self.text[start:end]
            cuts = [(0, 0), *(mark.span() for mark in _NEXT.finditer(block)), (len(block), len(block))]
            for (_, begin), (until, _) in pairwise(cuts):
                if not block[begin:until].strip() or len(found) == MAX_DOCUMENTS:
                    continue
                dropped: list[Problem] = []
                try:
                    entries = read_yaml(block[begin:until], start + begin, lines, dropped, what="the merge recipe")
                except Refused as refused:
                    self.problems.append(replace(refused.problem, level="note", file=self.file))
                    continue
                if entries and _is_recipe(entries):
                    found.append(entries)
        return found

    def _walk(self, entries: tuple[Entry, ...]) -> None:
        """Take every model that is named below a mapping."""
        for entry in entries:
            key = entry.key.text
            if key == "tokenizer_source":
                self._tokenizers.update((c.id.lower(), c) for c in self._claims(entry.value, report=False))
            elif key in _NOT_MERGED:
                continue
            elif key in _MODELS:
                for claim in self._claims(entry.value):
                    self._models.setdefault(claim.id.lower(), claim)
                path = _path(entry.value)
                if path and path not in self._steps:
                    self._merged.add(path)
            else:
                self._below(entry.value)

    def _below(self, value: Located) -> None:
        if value.kind == "mapping":
            self._walk(value.entries)
        for item in value.items:
            self._below(item)

    def _claims(self, value: Located, *, report: bool = True) -> list[BaseClaim]:
        """Return the models of the Hub that a reference names: a model, and perhaps an adapter on it."""
        if value.kind == "list":
            return []
        if value.kind == "mapping":
            pinned = _text(value.entries, "revision")
            found: list[BaseClaim] = []
            for key in ("path", "model", "lora"):
                part = _value(value.entries, key)
                claims = self._claims(part, report=report) if part is not None else []
                if key == "path" and pinned:
                    claims = [replace(claim, revision=claim.revision or parse_revision(pinned)) for claim in claims]
                found += claims
            return found
        return [
            claim
            for name in (value.text or "").split("+")[:2]
            if (claim := self._claim(name.strip(), value, report)) is not None
        ]

    def _claim(self, name: str, at: Located, report: bool) -> BaseClaim | None:
        if not name or name in self._steps:
            return None
        reference = parse_reference(name)
        if not isinstance(reference, Rejection) and not looks_like_a_folder(reference.id):
            return BaseClaim(reference.id, reference.revision, self.file, at.line, at.column)
        if report and len(self.problems) < MAX_BASES:
            reason = reference.reason if isinstance(reference, Rejection) else "reads like a folder of the user's disk"
            message = f"the merge recipe names the model {quoted(name)}, which {reason}"
            self.problems.append(Problem(message, at.line, at.column, "note", file=self.file))
        return None


def _is_recipe(entries: tuple[Entry, ...]) -> bool:
    return any(entry.key.text in ("merge_method", "gate_mode", "experts") for entry in entries)


def _value(entries: tuple[Entry, ...], key: str) -> Located | None:
    """Return the value of a key, the last one if it is repeated."""
    return next((entry.value for entry in reversed(entries) if entry.key.text == key), None)


def _text(entries: tuple[Entry, ...], key: str) -> str:
    value = _value(entries, key)
    return ((value.text if value is not None else None) or "").strip()


def _path(value: Located) -> str:
    """Return a reference as one text, to count different ones."""
    if value.kind == "mapping":
        parts = [_path(part) for key in ("path", "model", "lora") if (part := _value(value.entries, key)) is not None]
        return "+".join(part for part in parts if part)
    return (value.text or "").strip()
