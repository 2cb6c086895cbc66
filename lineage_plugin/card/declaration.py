"""What a model card declares about where its model comes from.

Two files make claims. The card's front matter names the base::

    base_model: owner/name              # or a list of ids
    base_model_revision: <commit>       # or a list, in the order of base_model
    base_model_relation: finetune       # adapter | merge | quantized | finetune

and ``adapter_config.json`` names the model that an adapter was trained on (``base_model_name_or_path``, ``revision``).
The adapter's claim stands in where the card names no base, and its revision pins a base that both name.

``base_model_revision`` is a key of this tool. The Hub's own metadata has no place for the base's revision; it keeps
unknown keys as they are, so the key does no harm there. ``base_model: owner/name@revision`` is read too, but
huggingface_hub does not take that for an id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from lineage_plugin.card.front_matter import FrontMatter
from lineage_plugin.card.located import Located, Problem, json_position
from lineage_plugin.card.reference import Reference, Rejection, parse_reference, parse_revision
from lineage_plugin.card.repairs import address_to_id, entry_removed, ids_to_list
from lineage_plugin.findings import Level
from lineage_plugin.fixes import Fix
from lineage_plugin.text import one_line, quoted

__all__ = ["RELATIONS", "BaseClaim", "Declaration", "declare"]

RELATIONS: Final = ("adapter", "finetune", "merge", "quantized")
"""Values of ``base_model_relation`` that the Hub knows; case matters."""

MAX_BASES: Final = 64
"""Most bases read of one card."""
MAX_ADAPTER_CONFIG: Final = 1 << 20
"""Largest adapter_config.json read, in characters."""


@dataclass(frozen=True, slots=True)
class BaseClaim:
    """One base model that a file names.

    Attributes:
        id: ``owner/name``, or ``name`` for a canonical model.
        revision: Branch, tag or commit that the file gives for it, or None.
        file: The file that names it.
        line: Line in that file, from 1, or None when it is not known.
        column: Character in that line, from 1, or None.
    """

    id: str
    revision: str | None
    file: str
    line: int | None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a model declares about its origin.

    Attributes:
        bases: The declared bases, in the card's order and without repetitions; the adapter's when the card names none.
        relation: The declared relation, one of :data:`RELATIONS`, or None when none or an unknown one is declared.
        relation_line: Line of ``base_model_relation``, whatever its value, or None.
        license: The declared licence; several are joined by commas.
        library_name: The declared library.
        new_version: Id of the model that supersedes this one.
        file: The file that declares the bases, or None when there are no bases.
        line: Line of ``base_model`` in that file, or None.
        adapter: The base named by adapter_config.json, or None.
        stated: Bases named by the weight files themselves.
        is_adapter: Whether there is an adapter_config.json.
        problems: Values that could not be used, and why.
    """

    bases: tuple[BaseClaim, ...] = ()
    relation: str | None = None
    relation_line: int | None = None
    license: str | None = None
    library_name: str | None = None
    new_version: str | None = None
    file: str | None = None
    line: int | None = None
    adapter: BaseClaim | None = None
    stated: tuple[BaseClaim, ...] = ()
    is_adapter: bool = False
    problems: tuple[Problem, ...] = field(default=())

    @property
    def effective_relation(self) -> str | None:
        """The declared relation, or what the Hub infers without one.

        Adapter files make an adapter, two or more bases a merge. A single base is left open: whether the weights are
        a fine-tune or a quantisation of it is for the weights to say.
        """
        if self.relation is not None:
            return self.relation
        if self.is_adapter and self.bases:
            return "adapter"
        return "merge" if len(self.bases) > 1 else None


def declare(
    front_matter: FrontMatter,
    *,
    file: str = "README.md",
    adapter_config: str | bytes | None = None,
    adapter_file: str = "adapter_config.json",
) -> Declaration:
    """Read what front matter and adapter configuration declare.

    Args:
        front_matter: The card's front matter.
        file: Name of the card, for the claims' ``file``.
        adapter_config: Content of adapter_config.json, or None when the model has none.
        adapter_file: Its name.

    Returns:
        The declaration. Values that cannot be used are left out and explained in its ``problems``.
    """
    problems: list[Problem] = []
    adapter = None if adapter_config is None else _adapter_claim(adapter_config, adapter_file, problems)
    entry = front_matter.entry("base_model")
    claims = _card_claims(front_matter, file, problems)
    if adapter is not None:
        same = (adapter.id, None)
        claims = [replace(c, revision=adapter.revision) if (c.id, c.revision) == same else c for c in claims]
    bases = tuple(claims) or ((adapter,) if adapter is not None else ())

    source, line = (file, entry.key.line) if claims and entry else (None, None)
    if not claims and adapter is not None:
        source, line = adapter.file, adapter.line
    relation = front_matter.get("base_model_relation")
    relation_text = None if relation is None else (relation.text or "").strip()
    return Declaration(
        bases=bases,
        relation=relation_text if relation_text in RELATIONS else None,
        relation_line=None if relation is None else relation.line,
        license=_strings(front_matter, "license", problems),
        library_name=_strings(front_matter, "library_name", problems),
        new_version=_new_version(front_matter, problems),
        file=source,
        line=line,
        adapter=adapter,
        is_adapter=adapter_config is not None,
        problems=tuple(problems),
    )


def _card_claims(front_matter: FrontMatter, file: str, problems: list[Problem]) -> list[BaseClaim]:
    """Read ``base_model``, an id or a list of ids, and the revisions given for them."""
    value = front_matter.get("base_model")
    if value is None or value.kind == "null" or (value.kind == "string" and not (value.text or "").strip()):
        items: tuple[Located, ...] = ()
    elif value.kind in ("string", "list"):
        items = value.each
    else:
        problems.append(_wrong_kind("base_model", value))
        return []
    revision = front_matter.get("base_model_revision")
    pins = _pins(revision, len(items), problems)
    if value is not None and len(items) > MAX_BASES:
        message = f"base_model lists {len(items):,} models; only the first {MAX_BASES} are read"
        problems.append(Problem(message, value.line, value.column))
    claims: dict[tuple[str, str | None], BaseClaim] = {}
    for index, pin in enumerate(pins[:MAX_BASES]):
        item = items[index]
        claim = _claim(items, index, revision, pin, file, problems)
        if claim is None:
            continue
        if pin is not None:
            claim = _pinned(claim, pin, problems)
        first = claims.setdefault((claim.id, claim.revision), claim)
        if first is not claim:
            message = f"base_model lists {claim.id} twice (first on line {first.line})"
            fix = entry_removed(index, items, revision, "repeated entry")
            problems.append(Problem(message, item.line, item.column, "warning", "Keep one of them.", fix=fix))
    return list(claims.values())


def _claim(
    items: Sequence[Located],
    index: int,
    revision: Located | None,
    pin: Located | None,
    file: str,
    problems: list[Problem],
) -> BaseClaim | None:
    """Read one entry of ``base_model``."""
    item = items[index]
    text = (item.text or "").strip()

    def report(message: str, level: Level, help_: str, fix: Fix | None) -> None:
        problems.append(Problem(message, item.line, item.column, level, help_, fix=fix))

    if item.kind == "null" or (item.kind == "string" and not text):
        fix = entry_removed(index, items, revision, "empty entry")
        report("base_model has an empty entry", "warning", "Remove it or write an id.", fix)
        return None
    if item.kind != "string":
        problems.append(_wrong_kind("an entry of base_model", item))
        return None
    reference = parse_reference(text)
    if isinstance(reference, Rejection):
        fix = ids_to_list(reference, len(items), revision)
        report(f"base_model: {quoted(text)} {reference.reason}", reference.level, reference.help, fix)
        return None
    if reference.address:
        fix = address_to_id(index, len(items), reference, revision, pin)
        help_ = f"Write {reference.id}: the Hub expects an id."
        report(f"base_model is a web address; read as {reference.id}", "note", help_, fix)
    return BaseClaim(reference.id, reference.revision, file, item.line, item.column)


def _wrong_kind(what: str, value: Located) -> Problem:
    article = "an" if value.kind[0] in "aeiou" else "a"
    shown = f" ({one_line(value.text, 40)})" if value.text else ""
    return Problem(
        f"{what} is {article} {value.kind}{shown}, not a model id",
        value.line,
        value.column,
        help="Write the id as owner/name, in quotes if YAML takes it for something else.",
    )


def _pins(value: Located | None, bases: int, problems: list[Problem]) -> Sequence[Located | None]:
    """Read ``base_model_revision`` as one value or None for each entry of ``base_model``."""
    none = [None] * bases
    if value is None or value.kind == "null":
        return none
    items = value.each
    if value.kind == "mapping":
        what, help_ = "is a mapping", "Write a commit hash, or a list in the order of base_model."
    elif len(items) != bases:
        what = f"does not match base_model ({len(items)} for {bases} base{'' if bases == 1 else 's'})"
        help_ = "Give one revision for each base, in their order."
    else:
        return [None if item.kind == "null" or item.text == "" else item for item in items]
    message = f"base_model_revision {what} and is not used"
    problems.append(Problem(message, value.line, value.column, "warning", help_))
    return none


def _pinned(claim: BaseClaim, pin: Located, problems: list[Problem]) -> BaseClaim:
    """Return the claim with the revision that the card gives for it apart."""
    # A hash of digits alone, or of digits and one e, is a number to YAML; its text is the hash.
    revision = parse_revision(pin.text or "") if pin.kind in ("string", "number") else None
    if revision is None:
        message = f"base_model_revision: {quoted(pin.text or pin.kind)} is no revision and is not used"
        problems.append(Problem(message, pin.line, pin.column, "warning", "Write a commit hash."))
        return claim
    if claim.revision is None:
        return replace(claim, revision=revision)
    if claim.revision != revision:
        message = f"base_model_revision contradicts base_model, which pins {claim.id} to {claim.revision} and is used"
        problems.append(Problem(message, pin.line, pin.column, "warning", "Keep one of the two."))
    return claim


def _strings(front_matter: FrontMatter, key: str, problems: list[Problem]) -> str | None:
    """Read a value that is a string, or strings in a list; fit to print."""
    value = front_matter.get(key)
    if value is None or value.kind == "null":
        return None
    items = value.each
    texts = []
    for item in items[:MAX_BASES]:
        if item.kind == "string":
            texts.append(one_line(item.text, 120))
        else:
            message = f"{key} is not text but a {item.kind}"
            problems.append(Problem(message, item.line, item.column, "warning", "Write it in quotes."))
    return ", ".join(text for text in texts if text) or None


def _new_version(front_matter: FrontMatter, problems: list[Problem]) -> str | None:
    value = front_matter.get("new_version")
    if value is None or not (value.text or "").strip():
        return None
    reference = parse_reference(value.text or "") if value.kind == "string" else Rejection(f"is a {value.kind}")
    if isinstance(reference, Reference):
        return reference.id
    message = f"new_version: {quoted(value.text or '')} {reference.reason}"
    problems.append(Problem(message, value.line, value.column, "warning", reference.help))
    return None


def _adapter_claim(content: str | bytes, file: str, problems: list[Problem]) -> BaseClaim | None:
    """Read the base model out of adapter_config.json."""

    def report(message: str, help_: str = "", level: Level = "warning") -> None:
        problems.append(Problem(f"{one_line(file)} {message}", line, column, level, help_, file))

    line: int | None = None
    column: int | None = None
    if len(content) > MAX_ADAPTER_CONFIG:
        report("is too large to be an adapter configuration")
        return None
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content.removeprefix("\ufeff")
        # No number is needed, and Python refuses or takes long over integers of very many digits.
        config = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        report("is not valid JSON")
        return None
    if not isinstance(config, dict):
        report("is not a JSON object")
        return None
    name = cast("object", config.get("base_model_name_or_path"))
    line, column = json_position(text, '"base_model_name_or_path"')
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        report("names a base model that is not text")
        return None
    reference = parse_reference(name)
    if isinstance(reference, Rejection):
        report(f"names the base model {quoted(name)}, which {reference.reason}", reference.help, "note")
        return None
    revision = cast("object", config.get("revision"))
    pinned = parse_revision(revision) if isinstance(revision, str) and revision.strip() else None
    return BaseClaim(reference.id, reference.revision or pinned, file, line, column)
