"""Rules about the declared base: LIN201, LIN205, and the finding of LIN202."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Final

from lineage_plugin.card.body import Row, read_body
from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.located import Entry, Located
from lineage_plugin.card.reference import Reference, parse_reference
from lineage_plugin.card.rules.kind_of_card import is_other_card
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.fixes import Change, Fix, RenameKey, SetKey
from lineage_plugin.text import letters, one_line

__all__ = ["base_not_found", "base_not_pinned", "no_base_declared"]

_MOVING: Final = frozenset({"main", "master", "HEAD"})
_LINES_TO_ADD: Final = "`base_model: owner/name` and `base_model_relation: finetune` (or adapter, merge, quantized)"
_IF_NONE: Final = "If it was trained from scratch, say so: `# lineage: ignore-file[LIN201] trained from scratch`."

_SCRATCH_TAGS: Final = frozenset({"fromscratch", "trainedfromscratch", "pretrainedfromscratch"})
_SCRATCH: Final = re.compile(r"\bfrom\s+scratch\b", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?<=[.!?:])\s+")
_STATED: Final = re.compile(
    r"(?:this model|(?P<name>[\w./-]+)) (?:(?:was|is|has been)|(?:is|was) an? [^\"\u201c,;]{0,160}?) ?"
    r"(?:\w+ly )?(?:pre-?)?trained (?:\w+ly )?from scratch\b(?! by (?!us\b|the authors\b))",
    re.IGNORECASE,
)
_OTHERWISE: Final = re.compile(
    r"\b(?:not|never|unlike|instead|than|would|heads?|layers?|tokenizer|adapter|lora|fine-?tun\w*|distil\w*|derived"
    r"|based)\b|n't\b",
    re.IGNORECASE,
)
_GENERATED: Final = "generated automatically according to the information"
"""In the cards that trainers write, which say "trained from scratch" of every model that was loaded from a folder."""
_MOST_SENTENCES: Final = 64
_HEADING: Final = re.compile(r" {0,3}# +(?P<title>[^\r\n]{1,200}?)[ #]*\Z")


@rule("LIN201")
def no_base_declared(card: Card) -> Iterator[Finding]:
    """Report a card that names no base model.

    Why: without a declared base there is nothing to hold the weights against, licence duties are lost, and the Hub's
    model tree ends here.

    A model trained from scratch has no base, and the Hub has no key to say so. Where the card says it, the finding is a
    note: by a tag (``trained-from-scratch``), or by a sentence of its text that begins with "This model was trained
    from scratch". The cards that ``transformers.Trainer`` writes hold that sentence whenever the model was loaded from
    a folder, so it does not count there. A comment of the front matter says it, too::

        # lineage: ignore-file[LIN201] trained from scratch

    All of this is the author's word. A policy with ``ignore-comments: deny`` takes none of it.

    When adapter_config.json or a merge recipe names the base instead, this is a note that says so. A card whose front
    matter cannot be read is left to LIN207, as is one whose only base is unusable; that of a dataset or a Space to
    LIN212.

    Fix: declares the base that adapter_config.json or a merge recipe names, with the relation that the files show, or
    gives a misspelt key its name.

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
    name = card.called
    if (declaration.bases and declaration.file == card.file) or is_other_card(card) is not None:
        return
    line, column = _place(card)
    if declaration.bases:
        claim = declaration.bases[0]
        yield finding(
            "LIN201",
            f"{name} declares no usable base; {claim.id} from {one_line(claim.file)} is taken instead",
            file=card.file,
            line=line,
            column=column,
            help=f"Add `base_model: {claim.id}` to the front matter.",
            level="note",
            fix=_declaring(card, (claim,), "adapter" if card.beside.files is None else None),
        )
        return
    if not card.front_matter.readable or (entry is not None and not entry.value.is_blank):
        return
    recipe = card.beside.recipe
    if recipe is not None and recipe.models:
        ids = [claim.id for claim in recipe.models]
        shown = ", ".join(ids[:3]) + (", ..." if ids[3:] else "")
        yield finding(
            "LIN201",
            f"{name} declares no base model; the merge recipe in {one_line(recipe.file)} names {shown}",
            file=card.file,
            line=line,
            column=column,
            help="Add them as `base_model` to the front matter, in a list, with `base_model_relation: merge`."
            if ids[1:]
            else f"Add `base_model: {ids[0]}` to the front matter.",
            level="note",
            fix=_declaring(card, recipe.models, None),
        )
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
            key = misspelt.key.text or ""
            yield finding(
                "LIN201",
                f'{message}; the Hub does not read the key "{one_line(key, 40)}"',
                file=card.file,
                line=misspelt.key.line,
                column=misspelt.key.column,
                help="Rename it to base_model.",
                fix=Fix(f"Rename {one_line(key, 40)} to base_model", (RenameKey(key, "base_model"),))
                if _names_models(misspelt.value)
                else None,
            )
            return
        help_ += " to the front matter."
    stated = _from_scratch(card)
    if stated is not None:
        # Like a comment that ignores the finding, it is the author's word: who does not take those does not take this.
        told = finding("LIN201", message, file=card.file, line=line, column=column, help=help_)
        reason = f"{stated} that it was trained from scratch"
        yield replace(told, level="note", ignored=reason, ignored_level=told.level)
        return
    yield finding("LIN201", message, file=card.file, line=line, column=column, help=f"{help_} {_IF_NONE}")


@rule("LIN205")
def base_not_pinned(card: Card) -> Iterator[Finding]:
    """Report declared bases that are not pinned to a revision.

    Why: a repository's main branch moves. Evidence against today's weights of the base says nothing about the weights
    that the model was made from.

    Fix: where the Hub was asked, pins each base to the commit that it is at today. That is the one that the model was
    made from only if the base has not changed since: check it.

    Example::

        base_model: owner/name

    Repair::

        base_model: owner/name
        base_model_revision: 5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9

    ``lineage check`` reads the base at that commit.

    ``base_model_revision`` is read by this tool and kept, without meaning, by the Hub, whose ``base_model`` takes bare
    ids. For several bases it is a list in their order. adapter_config.json has ``revision`` for the purpose.
    """
    bases = card.declaration.bases
    fix = _pinning(card)
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
        said = help_ if claim.revision is None else f"Write the commit hash in place of {claim.revision}."
        if claim.file != card.file:
            said = f"Set `revision` in {one_line(claim.file)} to the commit hash of the base."
        today = _commit_today(card, claim)
        if today is not None:
            said += f" The base is at {today} today; check that this is the one that the model was made from."
        yield finding("LIN205", message, file=claim.file, line=claim.line, column=claim.column, help=said, fix=fix)


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
        column=claim.column,
        help="Check the id for a typing error or a renamed repository; for a gated or private one, set HF_TOKEN.",
    )


def _declaring(card: Card, claims: tuple[BaseClaim, ...], relation: str | None) -> Fix | None:
    """Return the repair that declares bases which other files name; None where the card says something itself.

    Args:
        card: The card.
        claims: The bases.
        relation: The relation, where the files beside the card do not tell it.
    """
    entry = card.front_matter.entry("base_model")
    unusable = entry is not None and not entry.value.is_blank
    if not card.present or not card.front_matter.readable or unusable:
        return None
    ids = tuple(claim.id for claim in claims)
    changes: list[Change] = [SetKey("base_model", ids if ids[1:] else ids[0])]
    relation = card.beside.relation or relation
    if relation is not None and card.front_matter.entry("base_model_relation") is None:
        changes.append(SetKey("base_model_relation", relation, after="base_model"))
    shown = ", ".join(ids[:3]) + (", ..." if ids[3:] else "")
    return Fix(f"Declare {shown} from {one_line(claims[0].file)}", tuple(changes))


def _commit_today(card: Card, claim: BaseClaim) -> str | None:
    """Return the commit that a base is at, where the Hub told it."""
    model = None if card.hub is None else card.hub.get(claim.id)
    return None if model is None or model.state != "found" else model.commit


def _pinning(card: Card) -> Fix | None:
    """Return the repair that pins every base of a card; None unless a commit is known for each of them."""
    value = card.front_matter.get("base_model")
    bases = card.declaration.bases
    if value is None or card.hub is None or card.declaration.file != card.file:
        return None
    entries = value.each
    given = card.front_matter.get("base_model_revision")
    pins = () if given is None or given.is_blank else given.each
    # Revisions are given in the order of the entries: one that is no base has none.
    if len(bases) != len(entries) or (pins and len(pins) != len(bases)):
        return None
    commits: list[str] = []
    for claim, item, pin in zip_longest(bases, entries, pins):
        written = parse_reference(item.text or "")
        inline = written.revision if isinstance(written, Reference) else None
        if inline in _MOVING or (claim.revision is None and pin is not None and not pin.is_blank):
            return None  # what is written there contradicts it, or is for its author to mend
        moves = claim.revision is None or claim.revision in _MOVING
        commit = _commit_today(card, claim) if moves else claim.revision
        if commit is None:
            return None
        commits.append(commit)
    title = f"Pin {bases[0].id} to its commit of today, {commits[0][:7]}; check that the model was made from it"
    if commits[1:]:
        title = "Pin each base to its commit of today; check that the model was made from those"
    revisions = tuple(commits) if commits[1:] or value.kind == "list" else commits[0]
    return Fix(title, (SetKey("base_model_revision", revisions, after="base_model"),))


def _from_scratch(card: Card) -> str | None:
    """Return where a card says that the model was trained from scratch, to begin a clause; None where it does not."""
    if card.beside.claims or card.declaration.stated:
        return None
    tags = card.front_matter.get("tags")
    for tag in () if tags is None else (*tags.items, tags):
        if letters(tag.text or "") in _SCRATCH_TAGS:
            return f"the tag in line {tag.line} says"
    if _GENERATED in card.text:
        return None
    rows = read_body(card.text).rows
    own = _names(card, rows)
    about = [index for index, row in enumerate(rows) if _SCRATCH.search(row.text)]
    for index in about[:_MOST_SENTENCES]:
        # A sentence may begin in the line above and end in the one below.
        around = [row for row in rows[max(index - 1, 0) : index + 2] if abs(row.number - rows[index].number) <= 1]
        for sentence in _SENTENCE.split(" ".join(row.text[:2000].replace("*", "").strip(" _>-") for row in around)):
            stated = _STATED.match(sentence)
            named = stated is not None and (stated["name"] is None or stated["name"].casefold() in own)
            if named and not _OTHERWISE.search(sentence):
                return f"line {rows[index].number} says"
    return None


def _names(card: Card, rows: Sequence[Row]) -> frozenset[str]:
    """Return what the text may call the model itself, in lower case: its id, and the title of the card."""
    title = next((found["title"] for row in rows[:50] if (found := _HEADING.match(row.text))), "")
    names = [name.casefold() for name in (card.name or "", title) if name]
    return frozenset(part for name in names for part in (name, name.rpartition("/")[2]))


def _place(card: Card) -> tuple[int | None, int | None]:
    """Return line and column of ``base_model``, else those of the opening fence, else the first ones there are."""
    entry = card.front_matter.entry("base_model")
    if entry is not None:
        return entry.key.line, entry.key.column
    if card.front_matter.line is not None:
        return card.front_matter.line, 1
    return (None, None) if card.empty or not card.present else (1, 1)


def _names_models(value: Located) -> bool:
    """Tell whether a value would do as ``base_model``."""
    return bool(value.each) and all(
        item.kind == "string" and isinstance(parse_reference(item.text or ""), Reference) for item in value.each
    )


def _misspelt_key(card: Card) -> Entry | None:
    """Return the entry of a top-level key that was meant to be ``base_model``."""
    for entry in card.front_matter.entries:
        key = entry.key.text or ""
        if len(key) < 40 and letters(key) in ("basemodel", "basemodels"):
            return entry
    return None
