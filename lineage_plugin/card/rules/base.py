"""Rules about the declared base: LIN201, LIN205, and the finding of LIN202."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.located import Located
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["base_not_found", "base_not_pinned", "no_base_declared"]

_MOVING: Final = frozenset({"main", "master", "HEAD"})
_LINES_TO_ADD: Final = "`base_model: owner/name` and `base_model_relation: finetune` (or adapter, merge, quantized)"


@rule("LIN201")
def no_base_declared(card: Card) -> Iterator[Finding]:
    """Report a card that names no base model.

    Why: without a declared base there is nothing to hold the weights against, licence duties are lost, and the Hub's
    model tree ends here. A model trained from scratch has no base: switch the rule off for it.

    When adapter_config.json names the base instead, this is a note that says so. A card whose front matter cannot be
    read is left to LIN207, as is one whose only base is unusable.

    Example::

        ---
        license: mit
        ---

    Repair::

        ---
        license: mit
        base_model: owner/name
        base_model_relation: finetune
        ---
    """
    declaration = card.declaration
    entry = card.front_matter.entry("base_model")
    name = one_line(card.file)
    if declaration.bases:
        if declaration.file == card.file:
            return
        claim = declaration.bases[0]
        yield finding(
            "LIN201",
            f"{name} declares no usable base; {claim.id} from {one_line(claim.file)} is taken instead",
            file=card.file,
            line=_line(card),
            help=f"Add `base_model: {claim.id}` to the front matter.",
            level="note",
        )
        return
    if not card.front_matter.readable or (entry is not None and not _is_empty(entry.value)):
        return
    help_ = f"If the model derives from another, add {_LINES_TO_ADD}"
    if not card.present:
        message = f"there is no {name}, so no base model is declared"
        help_ += f" between two `---` lines at the top of a {name}."
    elif card.empty:
        message = f"{name} is empty, so no base model is declared"
        help_ += " between two `---` lines."
    elif card.front_matter.line is None:
        message = f"{name} has no front matter, so no base model is declared"
        help_ += " between two `---` lines at its very top."
    elif entry is not None:
        message = f"base_model is empty in {name}"
        help_ = f"If the model derives from another, write {_LINES_TO_ADD}; otherwise remove the key."
    else:
        message = f"{name} declares no base model"
        misspelt = _misspelt_key(card)
        if misspelt is not None:
            yield finding(
                "LIN201",
                f'{message}; the Hub does not read the key "{one_line(misspelt[0], 40)}"',
                file=card.file,
                line=misspelt[1],
                help="Rename it to base_model.",
            )
            return
        help_ += " to the front matter."
    yield finding("LIN201", message, file=card.file, line=_line(card), help=help_)


@rule("LIN205")
def base_not_pinned(card: Card) -> Iterator[Finding]:
    """Report declared bases that are not pinned to a revision.

    Why: a repository's main branch moves. Evidence against today's weights of the base says nothing about the weights
    that the model was made from.

    Example::

        base_model: owner/name

    Repair::

        base_model: owner/name
        base_model_revision: 5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9

    ``base_model_revision`` is read by this tool and kept, without meaning, by the Hub, whose ``base_model`` takes bare
    ids. For several bases it is a list in their order. adapter_config.json has ``revision`` for the purpose.
    """
    bases = card.declaration.bases
    if len(bases) == 1:
        help_ = "Add `base_model_revision: <commit hash>` below base_model."
    else:
        help_ = "Add `base_model_revision:` with a list of commit hashes in the order of base_model."
    for claim in bases:
        if claim.revision is None:
            message = f"base {claim.id} is not pinned to a revision"
        elif claim.revision in _MOVING:
            message = f"base {claim.id} is pinned to {claim.revision}, a branch that moves"
        else:
            continue
        if claim.file != card.file:
            help_ = f"Set `revision` in {one_line(claim.file)} to the commit hash of the base."
        yield finding("LIN205", message, file=claim.file, line=claim.line, help=help_)


def base_not_found(claim: BaseClaim, reason: str = "") -> Finding:
    """Make the finding LIN202 for a declared base that could not be opened.

    The rule itself needs the Hub, so whoever opens the base decides and calls this.

    Args:
        claim: The claim that names the base.
        reason: What went wrong, such as the message of a :class:`lineage_plugin.errors.HubError`; lower case, without a
            full stop.

    Returns:
        The finding, at the line that names the base.
    """
    name = claim.id if claim.revision is None else f"{claim.id}@{claim.revision}"
    because = f": {one_line(reason, 160)}" if reason else ""
    return finding(
        "LIN202",
        f"declared base {name} cannot be opened{because}",
        file=claim.file,
        line=claim.line,
        help="Check the id for a typing error or a renamed repository; for a gated or private one, set HF_TOKEN.",
    )


def _line(card: Card) -> int | None:
    """Return the line of ``base_model``, else that of the opening fence, else the first one there is."""
    entry = card.front_matter.entry("base_model")
    if entry is not None:
        return entry.key.line
    if card.front_matter.line is not None:
        return card.front_matter.line
    return None if card.empty or not card.present else 1


def _is_empty(value: Located) -> bool:
    """Tell whether a value names nothing at all, rather than something unusable."""
    if value.kind == "list":
        return all(_is_empty(item) for item in value.items)
    return value.kind == "null" or (value.kind == "string" and not (value.text or "").strip())


def _misspelt_key(card: Card) -> tuple[str, int] | None:
    """Return a top-level key that was meant to be ``base_model``, and its line."""
    for entry in card.front_matter.entries:
        key = entry.key.text or ""
        if len(key) < 40 and "".join(filter(str.isalpha, key)).lower() in ("basemodel", "basemodels"):
            return key, entry.key.line
    return None
