"""The rule about the licence, and whether it goes with those of the models it is made from: LIN206."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final

from lineage_plugin.card.front_matter import find_block
from lineage_plugin.card.licensing import (
    Sort,
    Stated,
    chain_of,
    hands_out_terms,
    is_own,
    licence_files,
    made_out,
    mildest,
    sort_of,
    stated_licences,
)
from lineage_plugin.card.located import Located
from lineage_plugin.card.rules.kind_of_card import is_other_card
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.card.weight_names import weight_names
from lineage_plugin.findings import Finding, Level, finding
from lineage_plugin.fixes import Fix, RenameKey, SetItem, SetKey
from lineage_plugin.licences.facts import Fact, Licence, is_spdx, licences, stated
from lineage_plugin.licences.judge import Ancestor, Judgement
from lineage_plugin.licences.seen import begins_so, mentions, plain_text, sentences, shows
from lineage_plugin.text import one_line, quoted

__all__ = ["is_own", "licence_judgements", "licence_of_the_model"]

HUB_LIST: Final = "https://huggingface.co/docs/hub/repositories-licenses"
NO_ADVICE: Final = "This is no legal advice."

_OWNER: Final = " (the owner of the base has no such duty; --name tells whose model this is)"
_ASK_LITTLE: Final = ("permissive", "public domain")
"""Classes of licences that want nothing seen in a card."""
_MODEL_KEYS: Final = (
    "base_model",
    "library_name",
    "model-index",
    "model_name",
    "new_version",
    "pipeline_tag",
    "widget",
)
"""Keys that only the card of a model has."""


@rule("LIN206")
def licence_of_the_model(card: Card) -> Iterator[Finding]:
    """Report a licence that is missing, unknown, or does not go with that of a base.

    Why: a card without a licence gives nobody a permission to rely on, an id that the Hub does not know is not found by
    those who search for it, and who reads a licence that leaves out what a base's asks for does not learn of it. The
    licences of the bases are known from the Hub where it was asked, along the whole chain, else from the ids of
    well-known models. Whether the licences of several bases go with each other is not judged.

    It is an error where a clause leaves no doubt, such as a base for non-commercial use under a card that says
    apache-2.0; a warning where the text of the card names the base's licence, too, and for an adapter, since whether
    that is a derivative is open in law; a warning where the licence is missing or its id unknown, and where a licence
    wants words or a name that are not there (for words a note of quantised copies). It is a note where it takes a
    lawyer, and for what is used beside the base and holds nothing of it, such as a ControlNet, a textual inversion or
    a sparse autoencoder. A card that hands out terms itself, in `extra_gated_prompt`, has done what licences ask to be
    shown or shipped. None of it is legal advice. What is judged and how, with clause and source of each fact:
    [licences](licences.md).

    Fix: corrects the id where it is merely misspelt, such as ``Apache 2.0``, and the key where it is ``licence``.

    Example::

        license: apache-2.0
        base_model: meta-llama/Llama-3.1-8B

    Repair::

        license: llama3.1
        base_model: meta-llama/Llama-3.1-8B

    Llama 3.1 also wants "Built with Llama" in the card and a name that begins with Llama.
    """
    if not _is_to_judge(card):
        return
    values = stated_licences(card)
    chain = chain_of(card)
    for one in values:
        yield from _written(card, one)
    if not values:
        yield from _missing(card, chain)
    yield from _judged(card, values, chain)


def licence_judgements(card: Card) -> tuple[Judgement, ...] | None:
    """Judge the licence of a card against those of every model along its declared chain, the harmless ones too.

    Args:
        card: The card.

    Returns:
        One judgement for each ancestor of another owner whose licence is known, or which has none; nearest first. None
        for what is no card of a model.
    """
    if not _is_to_judge(card):
        return None
    values = made_out(stated_licences(card))
    return tuple(mildest(values, card, model) for model in chain_of(card))


def _is_to_judge(card: Card) -> bool:
    matter = card.front_matter
    return card.present and matter.readable and matter.line is not None and not is_other_card(card)


def _written(card: Card, one: Stated) -> Iterator[Finding]:
    """Check how one licence is written."""
    text, licence, at = one.text, one.licence, one.value
    folded = text.casefold()
    if one.is_other:
        yield from _other(card, at)
    elif folded == "unknown":
        help_ = "Find out the licence, or ask those who hold the rights: an unknown one states no permission."
        yield _at(card, at, "the card says that its licence is unknown", help_, "note")
    elif licence is not None and licence.hub:
        if text == licence.id:
            return
        # The SPDX list and the Hub differ in case; what SPDX knows is no alarm.
        mild = folded == licence.id or is_spdx(text)
        message = f"the Hub writes the licence {quoted(text)} as {licence.id}"
        # "or later" would be lost.
        fix = None if folded.endswith("-or-later") else _fix(card, at, licence.id)
        help_ = f"Write `license: {licence.id}`."
        yield _at(card, at, message, help_, "note" if mild else None, fix=fix)
    elif licence is not None:
        message = f"{quoted(text)} is not an id that the Hub takes as license"
        help_ = f"Write {_lines(licence)}."
        yield _at(card, at, message, help_, suggestion=licence.lines)
    elif is_spdx(text):
        message = f"the Hub has no id for the licence {quoted(text)} of the SPDX list"
        yield _at(card, at, message, "Write `license: other` with `license_name` and `license_link`.", "note")
    else:
        hub = [known.id for known in licences().values() if known.hub]
        close = get_close_matches(folded[:64], hub, n=1, cutoff=0.75)
        meant = f"Did you mean {close[0]}? " if close else ""
        help_ = f"{meant}Take an id of {HUB_LIST}, or `license: other` with `license_name` and `license_link`."
        yield _at(card, at, f"the licence {quoted(text)} is known neither to the Hub nor to SPDX", help_)


def _other(card: Card, at: Located) -> Iterator[Finding]:
    """Check that ``license: other`` says which."""
    lacks = [key for key in ("license_name", "license_link") if not card.front_matter.text(key)]
    # The Hub takes a LICENSE file in place of a link; where files were left aside there may be one.
    if "license_link" in lacks and (card.beside.is_partial or licence_files(card)):
        lacks.remove("license_link")
    if lacks:
        message = f"`license: other` without {' and '.join(lacks)}"
        help_ = f"Add the licence's name, and `license_link: LICENSE` or an address; see {HUB_LIST}."
        yield _at(card, at, message, help_)


def _missing(card: Card, chain: Sequence[Ancestor]) -> Iterator[Finding]:
    """Report that there is no licence, in what is the card of a model."""
    if not _is_of_a_model(card):
        return
    known = [(model, model.known) for model in chain if model.known is not None]
    known.sort(key=lambda one: one[1] is not None and one[1].kind in _ASK_LITTLE)  # those that want more first
    entry = card.front_matter.entry("license")
    line, column = (card.front_matter.line, 1) if entry is None else (entry.key.line, entry.key.column)
    message = f"{card.called} states no licence"
    help_ = f"Add `license:` with an id of {HUB_LIST}."
    british = card.front_matter.entry("licence")
    # TRL's cards have `licence: license`, which states none under any key.
    if entry is None and british is not None and stated(british.value.text) is not None:
        message += '; the Hub does not read the key "licence"'
        fix = Fix("Rename licence to license", (RenameKey("licence", "license"),))
        at = british.key
        yield finding(
            "LIN206", message, file=card.file, line=at.line, column=at.column, help="Rename it to license.", fix=fix
        )
        return
    suggestion: tuple[str, ...] = ()
    model, licence = known[0] if known else (None, None)
    if entry is not None and not entry.value.is_blank:
        # LIN207 has told that it is no text; that is enough where no base asks for anything.
        if licence is None or licence.kind in _ASK_LITTLE:
            return
        message += " that can be read"
    if model is not None and licence is not None:
        message += f"; {_who(model)} has {licence.id}"
        help_ = f"State one that goes with it, such as {_lines(licence)}. {NO_ADVICE}"
        suggestion = licence.lines
    yield finding("LIN206", message, file=card.file, line=line, column=column, help=help_, suggestion=suggestion)


def _judged(card: Card, values: Sequence[Stated], chain: Sequence[Ancestor]) -> Iterator[Finding]:
    """Hold the licence against those of the ancestors, and look for what they want seen."""
    if not chain:
        return
    wanting = any(model.known is not None and model.known.kind not in _ASK_LITTLE for model in chain)
    words = plain_text(card.text) if wanting else ""
    text = sentences(_below(card)) if wanting else ()
    at = values[0].value if values else None
    meant, sort, given = made_out(values), sort_of(card), hands_out_terms(card)
    told: set[object] = set()
    for model in chain:
        judgement = mildest(meant, card, model)
        base = model.known
        about = base.id if base is not None else model.licence
        if meant and about not in told:
            told.add(about)
            yield from _verdict(card, at, meant, judgement, base is not None and mentions(text, base))
        if base is None or given:
            continue
        for fact in judgement.duties:
            # Each licence has its own text to ship; words to show may be those of several.
            wanted = (fact.kind, fact.phrases or base.id, fact.prefix)
            if wanted not in told:
                told.add(wanted)
                yield from _duty(card, at, judgement, base, fact, words, sort)


def _verdict(
    card: Card, at: Located | None, values: Sequence[Stated], judgement: Judgement, named: bool
) -> Iterator[Finding]:
    """Report a licence that does not go with an ancestor's, or may not; ``named``: the text names the ancestor's."""
    model, base = judgement.ancestor, judgement.ancestor.known
    own = ", ".join(one_line((value.name or "other") if value.is_other else value.text, 40) for value in values)
    theirs = base.id if base is not None else quoted(model.licence_name or model.licence or "")
    said = "" if judgement.source is None else f"{judgement.source.says[:1].upper()}{judgement.source.says[1:]}. "
    source = "" if judgement.source is None else f" Source: {judgement.source.source}"
    # Where the card does not tell what it is, and the files that would are elsewhere, it may be an adapter.
    unknown = card.beside.is_partial and card.declaration.effective_relation is None
    adapter = sort_of(card) == "adapter" or unknown
    doubt = "Whether an adapter is a derivative of its base is open in law. " if adapter else ""
    if judgement.verdict == "incompatible" and base is not None and not named:
        message = f"licence {own} does not go with {theirs}, that of {_who(model)}: {judgement.reason}"
        if base.fact("no-derivatives") is not None:
            lines = "Ask the owner of the base"
        elif len(card.declaration.bases) > 1:
            lines = f"State a licence that goes with those of all bases; for this one {_lines(base)}"
        else:
            lines = f"Write {_lines(base)}"
        help_ = f"{lines}, or build on another base. {doubt}{said}{NO_ADVICE}{source}"
        yield _at(card, at, message, help_, "warning" if adapter else "error")
    elif judgement.verdict == "incompatible" and base is not None:
        message = f"licence {own} stands beside {theirs}, that of {_who(model)}, which only the text names"
        help_ = f"Programs read the front matter alone: {judgement.reason}. {doubt}{said}{NO_ADVICE}{source}"
        yield _at(card, at, message, help_)
    elif judgement.verdict == "ask a lawyer" and model.licence is None:
        message = f"{_who(model)} states no licence"
        yield _at(card, at, message, f"Ask its owner for one. {NO_ADVICE}", "note")
    elif judgement.verdict == "ask a lawyer":
        message = (
            f"whether licence {own} goes with {theirs}, that of {_who(model)}, is for a lawyer: {judgement.reason}"
        )
        source = source or (f" The text: {base.url}" if base is not None else "")
        yield _at(card, at, message, f"{said}{NO_ADVICE}{source}", "note")


def _below(card: Card) -> str:
    """Return what a card says to people: its text below the front matter, and the terms it hands out."""
    block = find_block(card.text.removeprefix("\ufeff"))
    prompt = card.front_matter.get("extra_gated_prompt")
    below = card.text if block is None else card.text.removeprefix("\ufeff")[block.closed :]
    return below if prompt is None else f"{prompt.text or ''}\n\n{below}"


def _lines(base: Licence) -> str:
    """Return the lines that state a licence, to stand in a sentence."""
    return " and ".join(f"`{line}`" for line in base.lines)


def _duty(
    card: Card, at: Located | None, judgement: Judgement, base: Licence, fact: Fact, words: str, sort: Sort
) -> Iterator[Finding]:
    """Report a duty that is not seen to be done."""
    asks = f"which {base.id}, the licence of {_who(judgement.ancestor)}, asks for"
    # Conversions come by the thousand and name their licence: it is those who change the model that have to act.
    level: Level | None = "note" if sort in ("apart", "copy") else None
    whose = "" if "/" in (card.name or "") else _OWNER
    if fact.kind == "display" and not shows(words, fact):
        phrases = " or ".join(quoted(phrase) for phrase in fact.phrases)
        message = f"{card.called} does not show {phrases}, {asks}"
        help_ = f"Write it into the text of the card; the licence lets it stand elsewhere, too{whose}."
        yield _at(card, at, message, f"{help_} {NO_ADVICE} Source: {fact.source}", level)
    elif fact.kind == "name" and fact.prefix and card.name and not begins_so(card.name, fact.prefix):
        message = f"the name {quoted(card.name)} does not begin with {quoted(fact.prefix)}, {asks}"
        help_ = f"Rename the model{whose}. {NO_ADVICE} Source: {fact.source}"
        yield _at(card, at, message, help_, "note" if sort == "apart" else None)
    elif fact.kind == "copy" and card.beside.files is not None and base.kind not in _ASK_LITTLE:
        if judgement.verdict == "incompatible":
            return  # which text to ship comes after which licence to state
        yield from _left_out(card, at, base, fact, asks, level, words)


def _left_out(
    card: Card, at: Located | None, base: Licence, copy: Fact, asks: str, level: Level | None, words: str
) -> Iterator[Finding]:
    """Report that neither a licence nor a notice lies beside the card; the first is only advice."""
    if licence_files(card):
        return
    whose = "" if "/" in (card.name or "") else _OWNER
    notice = base.fact("notice")
    if notice is not None and notice.derivatives and not shows(words, notice):
        message = f"neither a Notice file nor the card has {quoted(notice.phrases[0], 160)}, {asks}"
        help_ = f"Put it into a file NOTICE beside the card{whose}. {NO_ADVICE} Source: {notice.source}"
        yield _at(card, at, message, help_, level)
    elif copy.url not in card.text:
        message = f"no copy of the licence lies beside {card.called}, {asks}"
        help_ = f"Put the text beside the card, as LICENSE{whose}. {NO_ADVICE} Source: {copy.source}"
        yield _at(card, at, message, help_, "note")


def _who(model: Ancestor) -> str:
    what = "the base" if model.via is None else f"a base of {one_line(model.via, 100)}, namely"
    how = "" if model.licence is None else f" (known from {model.known_by})"
    return f"{what} {one_line(model.id, 100)}{how}"


def _at(
    card: Card,
    value: Located | None,
    message: str,
    help_: str,
    level: Level | None = None,
    *,
    fix: Fix | None = None,
    suggestion: tuple[str, ...] = (),
) -> Finding:
    """Make a finding at a value, else at the declared base, else at the front matter."""
    line, column = (value.line, value.column) if value is not None else (card.front_matter.line, None)
    claim = card.declaration.bases[0] if value is None and card.declaration.bases else None
    if claim is not None and claim.file == card.file:
        line, column = claim.line, claim.column
    return finding(
        "LIN206",
        message,
        file=card.file,
        line=line,
        column=column,
        help=help_,
        level=level,
        fix=fix,
        suggestion=suggestion,
    )


def _fix(card: Card, at: Located, id: str) -> Fix:
    """Return the repair of a misspelt id."""
    value = card.front_matter.get("license")
    title = f"Set license to {id}"
    if value is not None and value.kind == "list":
        return Fix(title, (SetItem("license", value.items.index(at), id),))
    return Fix(title, (SetKey("license", id),))


def _is_of_a_model(card: Card) -> bool:
    """Tell whether a card is, beyond doubt, that of a model; an empty block states nothing yet."""
    if not card.front_matter.entries:
        return False
    if card.declaration.bases or any(card.front_matter.entry(key) for key in _MODEL_KEYS):
        return True
    return card.beside.files is not None and weight_names(card.beside.files).any
