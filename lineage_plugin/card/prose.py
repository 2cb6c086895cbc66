"""Bases that the text of a card names, in the sentences that well-known programs write.

A person may write anything about other models; only sentences whose wording a program made are taken for a claim:

======================================================================  =====================================
"This model is a fine-tuned version of [x](...)"                        transformers' ``Trainer``, TRL, others
"**Finetuned from model :** x", "... [optional]:** x"                   Unsloth, the template of the Hub
"... model finetuned from [x](...)"                                     sentence-transformers
"static quants of https://...", "weighted/imatrix quants of ..."        mradermacher's packager
"converted to GGUF format from [`x`](...)", "... to MLX format ..."     GGUF-my-repo, llama.cpp; mlx-lm, mlx-vlm
"Original model: [Name](...)", "Original model: https://..."            packagers of quantised copies
"merged using the [M](...) merge method using [x](...) as a base"       mergekit
"The following models were included in the merge:" and a list           mergekit
"extracted from [x](...) and uses [y](...) as a base"                   mergekit, for LoRA
======================================================================  =====================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lineage_plugin.card.body import Body, Row, read_body
from lineage_plugin.card.claims import looks_like_a_folder
from lineage_plugin.card.declaration import MAX_BASES, BaseClaim
from lineage_plugin.card.reference import Reference, parse_reference

__all__ = ["claims_of_text", "says_fine_tuned"]

# Each begins with a literal and bounds what follows, so that no line of whatever length is gone over twice.
_NAME: Final = (
    r"(?:\[`?(?P<text>[^\]\r\n]{1,200}?)`?\](?:\((?P<address>[^)\s]{0,300})\))?|<?(?P<bare>[^\s\[\]<>]{1,300}))"
)
_FINE_TUNED: Final = ("This model is a fine-tuned version of ", "Finetuned from model")
_SENTENCES: Final = tuple(
    (literal, re.compile(re.escape(literal) + rest + _NAME))
    for literal, rest in (
        (_FINE_TUNED[0], ""),
        (_FINE_TUNED[1], r"(?: \[optional\])? ?:\*\* {0,3}"),
        ("model finetuned from ", ""),
        (" quants of ", r"(?=https://huggingface\.co/)"),
        ("converted to GGUF format from ", ""),
        ("converted to MLX format from ", ""),
        ("merge method using ", ""),
        ("adapter was extracted from ", ""),
        (" and uses ", r"(?=[^\r\n]{1,600} as a base)"),
    )
)
_ORIGINAL: Final = re.compile(r"[ \t]{0,3}(?:[-*] )?(?:\*\*)?Original model:?(?:\*\*)?:? {0,3}" + _NAME, re.IGNORECASE)
_LIST: Final = "The following models were included in the merge:"
_BULLET: Final = re.compile(r" {0,3}[*-] {1,3}" + _NAME)
_MORE: Final = re.compile(r" \+ " + _NAME)
_NO_NAME: Final = ("is a placeholder", "is a local path")


def claims_of_text(text: str, file: str) -> tuple[BaseClaim, ...]:
    """Return the bases that generated sentences of a card's text name, each once, where it is named first.

    Args:
        text: The whole card; anything at all.
        file: Its name, for the claims.
    """
    found: dict[str, BaseClaim] = {}
    for claim in _claims(read_body(text), file):
        found.setdefault(claim.id.lower(), claim)
        if len(found) == MAX_BASES:
            break
    return tuple(found.values())


def says_fine_tuned(text: str) -> bool:
    """Say whether a generated sentence of a card's text calls the model a fine-tune."""
    return any(sentence in row.text for row in read_body(text).rows for sentence in _FINE_TUNED)


def _claims(body: Body, file: str) -> Iterator[BaseClaim]:
    listed = False
    for row in body.rows:
        if listed:
            found = _BULLET.match(row.text)
            listed = found is not None
            while found is not None:
                yield from _claim(found, row, file)
                found = _MORE.match(row.text, found.end())
            if listed:
                continue
        listed = row.text.strip() == _LIST
        original = _ORIGINAL.match(row.text)
        if original is not None:
            yield from _claim(original, row, file)
        for literal, sentence in _SENTENCES:
            at = row.text.find(literal)
            said = sentence.match(row.text, at) if at >= 0 else None
            if said is not None:
                yield from _claim(said, row, file)


def _claim(found: re.Match[str], row: Row, file: str) -> Iterator[BaseClaim]:
    """Yield the model that a sentence names, if it is one of the Hub."""
    group = "bare" if found["bare"] is not None else "text"
    shown = found[group].strip(" `*") if group == "text" else found[group].rstrip(".,;:)`*").lstrip("`*")
    reference = parse_reference(shown)
    if not isinstance(reference, Reference) and reference.reason.startswith(_NO_NAME):
        return
    linked = parse_reference(found["address"] or "") if group == "text" else None
    if isinstance(linked, Reference) and linked.address:
        # The text of a link is for readers: "Mixtral 8X7B Instruct v0.1". A canonical id has a link of the same name.
        reference = linked
    if not isinstance(reference, Reference) or looks_like_a_folder(reference.id):
        return
    yield BaseClaim(reference.id, reference.revision, file, row.number, found.start(group) + 1)
