r"""All pairs of a tree, and the chance of any false link among them.

Every pair is tested by fingerprints. A pair in which a card names one of the two models as the base of the other may be
tested a second time, by the weights as in a check, since fingerprints do not see units in another order and no model
should be accused for those. With :math:`m` pairs, :math:`d` of them such declared pairs whose weights are at hand,
there are at most :math:`t = m + d` tests. Each e-value :math:`E_i` is divided by :math:`t` before it is held against
the bar :math:`10^b`. Of independent models :math:`\mathrm{E}[E_i] \le 1` for either test, so by Markov's inequality
(Ville's, where reading stops early)

.. math:: P(\text{any } E_i / t \ge 10^b) \le \sum_i P(E_i \ge t 10^b) \le t \cdot \frac{1}{t 10^b} = 10^{-b}.

That is the probability of claiming *any* dependence between independent models in the whole tree, not in one pair of
it. The sum over events needs nothing of how they depend on each other, which is why it may be used here: three models
make three pairs, a unit of one of them enters two, and both tests of a declared pair look at the same weights. Nor does
it matter that the second test is made only where the first one shows no descent: a test that is not made claims
nothing. The sum also does not need that *all* models are independent: over the pairs that are it bounds the chance that
any of *these* is claimed to be dependent, whatever the others are. The number of tests is that of the models that have
a fingerprint and of what their cards declare, fixed before a coin is tossed.

That two dependent models are *derived* and have not only a common start is then told by a calibrated statistic
(``docs/method.md``), which the bound is not about. Equal files need no test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lineage_plugin.checkpoint import Checkpoint
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.checkpoint.wrapped import Wrapped
from lineage_plugin.errors import HubError, InputError
from lineage_plugin.family.members import Opened, same_files
from lineage_plugin.family.types import By, Link
from lineage_plugin.fingerprint.compare import NOT_SEARCHED, compare_fingerprints
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.assemble import compared, identical
from lineage_plugin.judge.types import Comparison, Interval, ModelSummary
from lineage_plugin.options import Options, Progress
from lineage_plugin.subject import Subject
from lineage_plugin.text import one_line

__all__ = ["Compared", "all_links", "cosine_of", "link_by_weights", "test_pair"]

_OF_THE_BAR = "Dependence was to be claimed"
_TOO_MANY = "the calibrated evidence reaches the bar for one pair, but not among all tests of the tree"
_UNNAMED = ModelSummary("", None, None, None, None)
_SHOWS_DESCENT = ("identical", "derived")


@dataclass(frozen=True, slots=True)
class Compared:
    """What all comparisons of a tree have found.

    Attributes:
        links: All pairs of models that have a fingerprint.
        tests: Number of tests that the e-values are divided by.
        unread: Of declared pairs whose weights were to be compared and could not be read: why.
    """

    links: tuple[Link, ...]
    tests: int
    unread: Mapping[frozenset[int], str]


def all_links(
    opened: Sequence[Opened], declared: Mapping[frozenset[int], int], options: Options, progress: Progress | None
) -> Compared:
    """Compare every model that has a fingerprint with every other, and by the weights what needs it.

    Args:
        opened: The models.
        declared: Which of two models is declared as the base of the other.
        options: Bar, seed and budget.
        progress: Called after each pair, and while weights are read.

    Returns:
        The links. Weights that cannot be read, or not within the budget, leave the link of the fingerprints.
    """
    prints = {at: one.fingerprint for at, one in enumerate(opened) if one.fingerprint is not None}
    pairs = list(itertools.combinations(prints, 2))
    models = {at: one.checkpoint for at, one in enumerate(opened) if one.checkpoint is not None}
    twice = {frozenset(pair) for pair in pairs if frozenset(pair) in declared and models.keys() >= {*pair}}
    tests = len(pairs) + len(twice)
    links = []
    for number, (one, other) in enumerate(pairs):
        # The declared base stands as the base, as in a check; else the model whose name comes first, whatever the
        # order they were given in.
        first = min((one, other), key=lambda at: (opened[at].member.name, at))
        base = declared.get(frozenset((one, other)), first)
        suspect = other if base == one else one
        if same_files(opened[one], opened[other]):
            links.append(_identical((suspect, base), models, options))
        else:
            links.append(test_pair((suspect, base), (prints[suspect], prints[base]), tests, options))
        if progress is not None:
            progress("comparing pairs", number + 1, len(pairs))
    open_ones = [
        number
        for number, link in enumerate(links)
        if frozenset((link.suspect, link.base)) in twice and link.relation not in _SHOWS_DESCENT
    ]
    unread: dict[frozenset[int], str] = {}
    for done, number in enumerate(open_ones):
        if progress is not None:
            progress("comparing declared bases by their weights", done, len(open_ones))
        at = links[number].suspect, links[number].base
        try:
            links[number] = link_by_weights(at, (models[at[0]], models[at[1]]), tests, options, progress)
        except (InputError, HubError) as error:
            unread[frozenset(at)] = _reason(error, (opened[at[0]], opened[at[1]]))
    if progress is not None and open_ones:
        progress("comparing declared bases by their weights", len(open_ones), len(open_ones))
    return Compared(tuple(links), tests, unread)


def test_pair(at: tuple[int, int], prints: tuple[Fingerprint, Fingerprint], tests: int, options: Options) -> Link:
    """Weigh what two fingerprints say, as one of several tests.

    Args:
        at: Numbers of the models, the one in the place of the suspect first.
        prints: Their fingerprints.
        tests: Number of tests that there may be in all.
        options: Bar and seed.

    Returns:
        The link; its ``log10_e`` is of the e-value divided by the number of tests.
    """
    raised = _raised(options, tests)
    evidence = compare_fingerprints(*prints, raised)
    found = compared(evidence, raised.bar, _UNNAMED, (Cost(), Cost()))
    return _link(at, found, Interval.of(evidence.reverse), tests, "fingerprints")


def link_by_weights(
    at: tuple[int, int],
    models: tuple[Checkpoint, Checkpoint],
    tests: int,
    options: Options,
    progress: Progress | None = None,
) -> Link:
    """Weigh what the weights of two models say, as a check does, as one of several tests.

    Args:
        at: Numbers of the models, the one in the place of the suspect first.
        models: The models.
        tests: Number of tests that there may be in all.
        options: Bar, seed and budget.
        progress: Called while reading.

    Returns:
        The link; its ``log10_e`` is of the e-value divided by the number of tests.

    Raises:
        InputError: When a file cannot be read or decoded, or not within the budget.
        HubError: When the Hub does not deliver.
    """
    raised = replace(_raised(options, tests), fingerprints="off", exhaustive=False, digests=False)
    # A budget that was given is for all that is read of a model. That of the plan is for one comparison, which is to
    # see as much as a check, whatever the fingerprint cost.
    suspect, base = models if options.budget is not None else (_Anew(models[0]), _Anew(models[1]))
    found = Subject(suspect, raised, progress).against(base)
    known = found.calibrated
    if found.relation == "unrelated" and known is not None and known.log10_value >= options.bar:
        # A check, of one pair, would claim dependence: then the many tests of a tree are no reason for the contrary.
        found = replace(found, relation="inconclusive", summary=_TOO_MANY)
    reverse = Interval(found.direction.base_on_suspect, None, None)
    return _link(at, found, reverse, tests, "digests" if found.relation == "identical" else "weights")


def _raised(options: Options, tests: int) -> Options:
    # To raise the bar is the same as to divide the value, but for "unrelated": coins that lean towards dependence do so
    # however many other tests there are.
    return replace(options, bar=options.bar + _apart(tests))


def _apart(tests: int) -> float:
    return math.log10(max(1, tests))


def _link(at: tuple[int, int], found: Comparison, reverse: Interval, tests: int, by: By) -> Link:
    # Equal files have no e-value that could be divided.
    apart = 0.0 if by == "digests" else _apart(tests)
    return Link(
        suspect=at[0],
        base=at[1],
        relation=found.relation,
        summary=found.summary,
        evidence=replace(found.evidence, log10_e=found.evidence.log10_e - apart),
        cosine=cosine_of(found.kept, reverse),
        kept=found.kept,
        reverse=found.kept if by == "digests" else reverse,
        direction=found.direction.indication,
        kind=found.kind,
        changes=found.changes,
        # What holds for every pair is said once, for the whole tree.
        limits=tuple(limit for limit in found.limits if limit != NOT_SEARCHED and not limit.startswith(_OF_THE_BAR)),
        by=by,
    )


def cosine_of(kept: Interval, reverse: Interval) -> float | None:
    """Return the cosine of two models: the geometric mean of the coefficients of each on the other.

    The coefficients are :math:`ab/b^2` and :math:`ab/a^2`, so that their product is the square of the cosine.

    Args:
        kept: Coefficient of one on the other.
        reverse: The other way round.

    Returns:
        The cosine within -1 and 1; None when a coefficient is not known.
    """
    one, other = kept.estimate, reverse.estimate
    if one is None or other is None or not math.isfinite(one * other):
        return None
    return math.copysign(min(1.0, math.sqrt(max(0.0, one * other))), one)


def _identical(at: tuple[int, int], models: Mapping[int, Checkpoint], options: Options) -> Link:
    """Return the link of equal files; the digests are known, so that no weight is read for it."""
    if models.keys() >= {*at}:
        try:
            return link_by_weights(at, (models[at[0]], models[at[1]]), 1, options)
        except (InputError, HubError):
            # The files are equal whether or not the configurations beside them can be read.
            pass
    found = identical(_UNNAMED, (Cost(), Cost()))
    return _link(at, found, found.kept, 1, "digests")


def _reason(error: InputError | HubError, models: tuple[Opened, Opened]) -> str:
    said = str(error)
    for one in models:
        said = said.removeprefix(f"{one.member.name}: ")
    return one_line(said, 300)


class _Anew(Wrapped):
    """A checkpoint whose cost begins with this comparison."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._before = checkpoint.cost()

    def cost(self) -> Cost:
        """Return what has been spent since."""
        return self._checkpoint.cost().since(self._before)
