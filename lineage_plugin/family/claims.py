"""What the models declare of each other, held against the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lineage_plugin.card import BaseClaim
from lineage_plugin.family.members import Opened
from lineage_plugin.family.types import Claim, Link, Standing
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["Named", "claims_among", "declared_bases", "findings_of", "reversed_by"]

_COMMIT = re.compile(r"[0-9a-f]{40}")

_ONLY_PRINTS = "only fingerprints are at hand; weights may show more"

Named = tuple[int, int, BaseClaim]
"""A model, the model that is taken for its base, and the claim."""


def declared_bases(opened: Sequence[Opened]) -> list[Named]:
    """Find the declared bases that are among the models.

    An id of the Hub is that of a model read from there or, where none has it, of a local folder or fingerprint of that
    name (``owner/name``). Of several commits of one id the declared one is taken, else the one given first. An id that
    the Hub has renamed is found by the name that was given only.
    """
    named = []
    for at, one in enumerate(opened):
        for claim in one.bases:
            base = _base(opened, at, claim)
            if base is not None:
                named.append((at, base, claim))
    return named


def _base(opened: Sequence[Opened], model: int, claim: BaseClaim) -> int | None:
    others = [at for at in range(len(opened)) if at != model]
    of_hub = [at for at in others if not _is_here(opened[at]) and opened[at].member.model.id == claim.id]
    pinned = [at for at in of_hub if claim.revision and opened[at].member.model.revision == claim.revision]
    here = [at for at in others if _is_here(opened[at]) and _is_called(opened[at], claim.id)]
    return next(iter(pinned or of_hub or here), None)


def _is_here(one: Opened) -> bool:
    return one.checkpoint.local if one.checkpoint is not None else one.fingerprint is not None


def _is_called(one: Opened, id: str) -> bool:
    """Return whether a folder or file of this machine has the name of an id: both parts of it, where it has two."""
    if one.checkpoint is None:
        return one.fingerprint is not None and one.fingerprint.source.id == id
    path = Path(one.checkpoint.id).expanduser().resolve()
    folder = path if path.is_dir() else path.parent
    return "/" in id and "/".join(folder.parts[-2:]) == id


def claims_among(
    opened: Sequence[Opened], named: Sequence[Named], links: Sequence[Link], unread: Mapping[frozenset[int], str]
) -> tuple[Claim, ...]:
    """Hold the declared bases against the weights.

    Args:
        opened: The models.
        named: What :func:`declared_bases` has found.
        links: All pairs.
        unread: Why the weights of a declared pair could not be compared.

    Returns:
        A claim each, in the order of the models.
    """
    by_pair = {frozenset((link.suspect, link.base)): link for link in links}
    return tuple(_claim(opened, *one, by_pair, unread) for one in named)


def _claim(
    opened: Sequence[Opened],
    model: int,
    base: int,
    claim: BaseClaim,
    links: Mapping[frozenset[int], Link],
    unread: Mapping[frozenset[int], str],
) -> Claim:
    pair = frozenset((model, base))
    other = None
    revision = opened[base].member.model.revision
    if claim.revision is not None and _COMMIT.fullmatch(claim.revision) and claim.revision != revision:
        other = claim.revision
    standing, reason = _standing(opened, model, base, links.get(pair), unread.get(pair))
    if other is not None and standing == "contradicted":
        standing, reason = "undecided", f"another commit than the declared one was compared: {reason}"
    return Claim(model, base, claim.id, claim.file, claim.line, _is_here(opened[base]), other, standing, reason)


def _standing(
    opened: Sequence[Opened], model: int, base: int, link: Link | None, unread: str | None
) -> tuple[Standing, str]:
    if link is None:
        for at in (model, base):
            if opened[at].member.state == "not read":
                return "not tested", "one of the two could not be read"
        return "not tested", "an adapter is not tested here; lineage check says whether it fits its base"
    if link.relation in ("identical", "derived"):
        return "supported", link.summary
    if link.by != "weights":
        # Fingerprints do not see units in another order: what they do not find refutes nobody.
        return "undecided", _ONLY_PRINTS if unread is None else f"the weights could not be compared: {unread}"
    return "undecided" if link.relation == "inconclusive" else "contradicted", link.summary


def reversed_by(link: Link, model: int) -> bool:
    """Return whether a link indicates that a model is the ancestor of the other one."""
    return link.direction == ("base-from-suspect" if link.suspect == model else "suspect-from-base")


def findings_of(opened: Sequence[Opened], claims: Sequence[Claim], links: Sequence[Link]) -> tuple[Finding, ...]:
    """Return what the weights say against what is declared: the codes and levels of ``lineage check``."""
    by_pair = {frozenset((link.suspect, link.base)): link for link in links}
    found = []
    for claim in claims:
        link = by_pair.get(frozenset((claim.model, claim.base)))
        if link is None:
            continue
        name, base = (one_line(opened[at].member.name, 200) for at in (claim.model, claim.base))
        where = {"file": f"{_folder(opened[claim.model])}/{claim.file}", "line": claim.line}
        if claim.standing == "contradicted" and link.relation == "unrelated":
            said = f"{name}: the weights do not support {base} as the base: {link.summary}"
            help_ = "Correct base_model, or remove it if the model was trained from scratch."
            found.append(finding("LIN101", said, help=help_, **where))  # type: ignore[arg-type]
        elif claim.standing == "contradicted":
            said = f"{name}: shares a common start with {base}, but not what {base} learned"
            help_ = "Two runs from the same initial weights look like this, and so does an early checkpoint."
            found.append(finding("LIN107", said, help=help_, **where))  # type: ignore[arg-type]
        elif claim.standing == "supported" and reversed_by(link, claim.model):
            said = f"{name}: {base} looks like the descendant, not the ancestor (an indication, not evidence)"
            help_ = "Check dates and commit history: which of the two was there first?"
            found.append(finding("LIN103", said, level="note", help=help_, **where))  # type: ignore[arg-type]
    return tuple(found)


def _folder(one: Opened) -> str:
    """Return what the files beside a model are named by: its folder, or its id."""
    if one.checkpoint is not None and one.checkpoint.local:
        path = Path(one.member.name)
        return str(path if path.is_dir() else path.parent)
    return one.member.model.id
