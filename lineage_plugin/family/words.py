"""Sentences about a family; every format of the report says the same in these words.

The rules of :mod:`lineage_plugin.report.phrases` hold. Names of models pass through
:func:`~lineage_plugin.text.one_line` here; each format escapes them for its own.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence

from lineage_plugin.family.claims import reversed_by
from lineage_plugin.family.types import Branch, Claim, Family, Link
from lineage_plugin.report import cautions, outline, phrases, repeat
from lineage_plugin.text import one_line

__all__ = [
    "ALONE",
    "CALIBRATED",
    "RELATIONS",
    "SAME_START",
    "bound",
    "branch",
    "caution",
    "claim",
    "command",
    "cost",
    "counted",
    "dashed",
    "details",
    "heading",
    "is_open",
    "label",
    "not_comparable",
    "notes",
    "open_pairs",
    "others",
    "root",
    "shortened",
    "start",
    "summary",
    "undecided",
    "value",
]

RELATIONS = {
    "identical": "same files",
    "derived": "shared learned weights",
    "shared-init": "common random start only",
    "unrelated": "no trace of each other",
    "inconclusive": "not decided",
}
"""What each relation is called here."""

ALONE = "In no family"
CALIBRATED = "calibrated evidence"
SAME_START = "no descent is shown; that one is an early checkpoint of the other is not ruled out"
_COMMIT = re.compile(r"@([0-9a-f]{12})[0-9a-f]{28}(?![0-9A-Za-z])")
_LINE = (
    "A line joins models that are nearest by weights; it does not say which came from which. That a model comes from "
    "another is no wrong."
)
_STANDINGS = {
    "supported": "supported by the weights",
    "contradicted": "contradicted by the weights",
    "undecided": "not decided by the weights",
    "not tested": "declared, not tested",
}
_MOST_REASONS = 8
_MOST_BASES = 4
_MOST_NAMED = 3


def label(family: Family, at: int, limit: int = 120) -> str:
    """Return the name of a model as it was given; a commit only where it tells two models apart, in twelve digits."""
    name = family.models[at].name
    bare = _COMMIT.sub("", name)
    if bare != name and any(_COMMIT.sub("", one.name) == bare for one in family.models if one.name != name):
        bare = _COMMIT.sub(r"@\1", name)
    return one_line(bare, limit) or "unnamed"


def shortened(family: Family, text: str) -> str:
    """Return a text in which no commit stands behind a name; of twelve digits where two models have one name."""
    bare = {_COMMIT.sub("", one.name) for one in family.models}
    return _COMMIT.sub("" if len(bare) == len(family.models) else r"@\1", text)


def caution(family: Family) -> str:
    """Say in a few sentences what a tree must not be taken for."""
    said = [_LINE if family.trees else cautions.UNTRACED]
    if any(one.standing == "contradicted" for one in family.claims):
        said.append(f"A declared base is contradicted. {cautions.HONEST_MISTAKE}")
    return " ".join(said)


def summary(family: Family) -> str:
    """Say in one sentence what was found."""
    said = [phrases.plural(len(family.models), "model")]
    sizes = [str(len(tree.members)) for tree in family.trees]
    if family.trees:
        many = f"{len(sizes)} families, of {', '.join(sizes[:-1])} and {sizes[-1]}"
        said.append(many if len(sizes) > 1 else f"one family of {sizes[0]}")
    alone = [at for at in others(family) if family.models[at].state == "tested"]
    if alone:
        said.append(f"{len(alone)} in no family" if family.trees else "no family")
    joined = {at for start in family.starts for at in start}
    if joined.intersection(alone):
        # Of those alone: members of families are counted already.
        count = len(joined.intersection(alone))
        said[-1] += f", {count} of them {'shares' if count == 1 else 'share'} a random start with others"
    elif joined:
        said.append("families share a random start")
    for state, word in (("adapter", "adapter"), ("not read", "model")):
        count = sum(member.state == state for member in family.models)
        if count:
            said.append(f"{phrases.plural(count, word)} not {'tested' if state == 'adapter' else 'read'}")
    unsettled = sum(one.standing == "undecided" for one in family.claims)
    if unsettled:
        said.append(f"{phrases.plural(unsettled, 'declared base')} not decided")
    open_ones = _open_beside_claims(family)
    beyond = sum(map(not_comparable, open_ones))
    if len(open_ones) > beyond:
        said.append(f"{phrases.plural(len(open_ones) - beyond, 'pair')} not decided")
    if beyond:
        said.append(f"{phrases.plural(beyond, 'pair')} that cannot be compared")
    counts = f"{said[0]}: {'; '.join(said[1:])}." if said[1:] else f"{said[0]}."
    return " ".join(filter(None, [_contradicted(family), counts]))


def _contradicted(family: Family) -> str:
    """Name the cards that the weights do not support; empty without any."""
    found = [one for one in family.claims if one.standing == "contradicted"]
    named = [f"the card of {label(family, one.model)} names {label(family, one.base)}" for one in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        left = len(found) - _MOST_NAMED
        named.append("another card names another model" if left == 1 else f"{left} further cards name other models")
    if not named:
        return ""
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return f"{listed[0].upper()}{listed[1:]}; the weights do not support {'that' if len(found) == 1 else 'these'}."


def _open_beside_claims(family: Family) -> list[Link]:
    """Return the open pairs in which no card names the base: those are told as declared bases."""
    declared = {frozenset((one.model, one.base)) for one in family.claims}
    return [
        link for _, links in undecided(family) for link in links if frozenset((link.suspect, link.base)) not in declared
    ]


def not_comparable(link: Link) -> bool:
    """Return whether nothing of two models could be set against each other, for their layouts or sizes."""
    coins = link.evidence
    return link.relation == "inconclusive" and not coins.coins and not any(stage.coins for stage in coins.stages)


def is_open(family: Family) -> bool:
    """Return whether a declared base is not decided, or it is open whether compared models are of one family."""
    return any(one.standing == "undecided" for one in family.claims) or any(
        not not_comparable(link) for link in _open_beside_claims(family)
    )


def command(family: Family) -> str:
    """Return the command that grows the tree again; empty where a name means nothing elsewhere."""
    models = []
    for one in family.models:
        by_commit = one.origin != "file" and one.model.revision
        models.append(f"{one.model.id}@{one.model.revision}" if by_commit else one.name)
        if repeat.is_elsewhere(models[-1]):
            return ""
    settings = family.settings
    options = ["--seed", str(settings.seed), "--bar", f"{settings.bar:g}"]
    options += [] if settings.fingerprints == "auto" else ["--fingerprints", settings.fingerprints]
    options += [] if settings.budget is None else ["--budget", str(settings.budget)]
    return " ".join(["lineage", "tree", *(shlex.quote(one_line(word, 300)) for word in (*models, *options))])


def others(family: Family) -> list[int]:
    """Return the models that are in no family, in the order given."""
    inside = {at for tree in family.trees for at in tree.members}
    return [at for at in range(len(family.models)) if at not in inside]


def heading(family: Family, number: int) -> str:
    """Return what a family is called."""
    return f"Family {number + 1}" if len(family.trees) > 1 else "Family"


def root(family: Family, number: int) -> str:
    """Say why the drawing of a family begins where it does."""
    tree = family.trees[number]
    name = label(family, tree.start)
    if tree.rooted is None:
        return f"No root: {tree.reason}. The drawing begins in the middle, at {name}."
    how = "by what is declared" if tree.rooted == "declared" else "by an indication"
    return f"Root {how}: {name}; {tree.reason}."


def branch(family: Family, one: Branch) -> str:
    """Say what joins the outer end of a branch to the inner one."""
    link = family.link(one.outer, one.inner)
    if link is None or link.relation == "identical":
        return RELATIONS["identical"]
    said = value(family, link)
    return f"cosine {one.cosine:.3f}, {said if said == CALIBRATED else f'e-value {said}'}"


def value(family: Family, link: Link) -> str:
    """Return the e-value of a link; of one that is claimed without it what the claim rests on; empty without coins."""
    if link.relation in ("derived", "shared-init") and link.evidence.log10_e < family.settings.bar:
        return CALIBRATED
    return phrases.e_value(link.evidence.log10_e) if link.evidence.coins else ""


def start(family: Family, link: Link) -> str:
    """Say which two models a common random start joins, and how near they are."""
    near = "" if link.cosine is None else f" (cosine {link.cosine:.3f})"
    return f"{label(family, link.suspect)} and {label(family, link.base)}{near}"


def notes(family: Family, at: int, inner: int | None = None) -> list[str]:
    """Return what is to be said below a model: why it was not tested, what it declares, what direction is indicated.

    Args:
        family: The family.
        at: The model.
        inner: The model at the inner end of its branch; None without one.
    """
    member = family.models[at]
    said = []
    if member.state != "tested":
        said.append(f"not read: {member.reason}" if member.state == "not read" else f"adapter: {member.reason}")
    if member.origin == "file":
        said.append("by its fingerprint file")
    claims = [one for one in family.claims if one.model == at]
    said += [claim(family, one) for one in claims]
    absent = [base for base in member.declares if base not in {one.id for one in claims}]
    if absent:
        named = ", ".join(one_line(base, 100) for base in absent[:_MOST_BASES])
        more = f" and {len(absent) - _MOST_BASES} more" if len(absent) > _MOST_BASES else ""
        said.append(f"declares {named}{more}: not among these models")
    link = None if inner is None else family.link(at, inner)
    if link is not None and inner is not None:
        said += filter(None, [_direction(link, at, label(family, inner))])
    if link is not None and inner is not None and link.relation == "identical":
        # Either of the two may be the inner end.
        said += [change.replace("the base's", f"that of {label(family, inner)}", 1) for change in link.changes]
    return [one_line(text, 500) for text in said]


def claim(family: Family, one: Claim) -> str:
    """Say what a model declares of another, and what the weights say to it."""
    taken = label(family, one.base)
    named = one_line(one.id, 120)
    as_ = "" if taken.partition("@")[0] == named else f", here {taken}"
    commit = "" if one.other_commit is None else f" at another commit ({one_line(one.other_commit, 12)})"
    standing = _STANDINGS[one.standing]
    if one.standing == "not tested" and family.models[one.model].state == "adapter":
        return f"declares {named}{commit}{as_}: {standing}"
    if one.standing == "supported":
        link = family.link(one.model, one.base)
        against = link is not None and reversed_by(link, one.model)
        return f"declares {named}{commit}{as_}: {standing}{', which indicate the other direction' if against else ''}"
    return f"declares {named}{commit}{as_}: {standing} ({one_line(one.reason, 300)})"


def _direction(link: Link, at: int, inner: str) -> str:
    """Say what the weights indicate of who came first; empty where they indicate nothing."""
    if link.direction == "unclear":
        return ""
    if link.direction == "siblings":
        return f"indication: neither it nor {inner} contains the other whole, like two that come from a third"
    descends = (link.direction == "suspect-from-base") == (link.suspect == at)
    return f"indication, no evidence: {'comes from' if descends else 'came before'} {inner}"


def dashed(family: Family) -> list[Link]:
    """Return the links by which a common random start joins families and models: the nearest ones that join them."""
    group = {at: at for at in range(len(family.models))}
    for tree in family.trees:
        group.update(dict.fromkeys(tree.members, tree.start))
    kept = []
    for link in sorted(
        (link for link in family.links if link.relation == "shared-init"),
        key=lambda link: (-(link.cosine or 0.0), link.base, link.suspect),
    ):
        one, other = group[link.suspect], group[link.base]
        if one != other:
            kept.append(link)
            group = {at: one if of == other else of for at, of in group.items()}
    return kept


def undecided(family: Family) -> list[tuple[str, list[Link]]]:
    """Return the pairs that are open and that no family joins, by their reasons, the most frequent first."""
    found: dict[str, list[Link]] = {}
    for link in family.links:
        tree = family.tree_of(link.suspect)
        if link.relation == "inconclusive" and (tree is None or tree != family.tree_of(link.base)):
            found.setdefault(link.summary, []).append(link)
    return sorted(found.items(), key=lambda one: -len(one[1]))


def open_pairs(family: Family) -> list[str]:
    """Say which pairs are open, and why."""
    said = []
    listed = undecided(family)
    for reason, links in listed[:_MOST_REASONS]:
        link = links[0]
        pair = f"{label(family, link.suspect)} and {label(family, link.base)}"
        more = f", and {phrases.plural(len(links) - 1, 'further pair')}" if len(links) > 1 else ""
        said.append(f"{pair}{more}: {one_line(reason, 300)}.")
    left = sum(len(links) for _, links in listed[_MOST_REASONS:])
    return [*said, *([f"{phrases.plural(left, 'further pair')}; the JSON report has all."] if left else [])]


def bound(family: Family) -> str:
    """Say what the bar means for the whole tree."""
    if not family.pairs:
        return "No pair was compared."
    twice = family.tests - family.pairs
    number = "that number"
    again = ""
    if twice > 0:
        which = (
            f", {twice} of them, where a card names the base," if family.pairs > 1 else ", as a card names the base,"
        )
        again = f"{which} by the weights if fingerprints do not show descent"
        number = f"{family.tests}, the number of tests that there may be"
    return (
        f"{phrases.plural(family.pairs, 'pair')} compared{again}; every e-value is divided by {number}. A link is "
        f"claimed from 10^{family.settings.bar:g} on: were the models independent, the probability of any false link "
        f"in the whole tree would be at most 10^-{family.settings.bar:g}."
    )


def cost(family: Family) -> str:
    """Say what was read."""
    spent = family.cost
    asked = f", {phrases.plural(spent.requests, 'request')}" if spent.requests else ""
    again = ", parts of them more than once" if spent.bytes_read > spent.bytes_total else ""
    return f"{phrases.size(spent.bytes_read)} of {phrases.size(spent.bytes_total)} of weight files{again}{asked}."


def details(family: Family, at: int) -> str:
    """Return size, architecture and format of a model, and the commit that its name leaves out; empty without any."""
    model = family.models[at].model
    commit = (model.revision or "")[:12]
    left_out = commit and commit not in label(family, at, 400)
    return ", ".join([*outline.details(model), *([f"commit {one_line(commit, 12)}"] if left_out else [])])


def counted(links: Sequence[Link]) -> str:
    """Return how many pairs have each relation."""
    found = Counter[str](link.relation for link in links)
    return ", ".join(f"{found[kind]} {word}" for kind, word in RELATIONS.items() if found[kind])
