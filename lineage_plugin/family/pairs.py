r"""All pairs of a tree, and the chance of any false link among them.

With :math:`m` pairs, each e-value :math:`E_i` is divided by :math:`m` before it is held against the bar
:math:`10^b`. Of a pair of independent models :math:`\mathrm{E}[E_i] \le 1`, so by Markov's inequality (Ville's, where
reading stops early)

.. math:: P(\text{any } E_i / m \ge 10^b) \le \sum_i P(E_i \ge m 10^b) \le m \cdot \frac{1}{m 10^b} = 10^{-b}.

That is the probability of claiming *any* dependence between independent models in the whole tree, not in one pair of
it. The sum over events needs nothing of how they depend on each other, which is why it may be used here: three models
make three pairs, and a unit of one of them enters two. It also does not need that *all* models are independent: the sum
over the pairs that are bounds the chance that any of *these* is claimed to be dependent, whatever the others are. The
number of pairs is that of the models that have a fingerprint, fixed before a coin is tossed.

That two dependent models are *derived* and have not only a common start is then told by a calibrated statistic
(``docs/method.md``), which the bound is not about. Equal files need no test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.family.members import Opened, same_files
from lineage_plugin.family.types import Link
from lineage_plugin.fingerprint.compare import NOT_SEARCHED, compare_fingerprints
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.assemble import compared
from lineage_plugin.judge.types import Evidence, Interval, ModelSummary
from lineage_plugin.options import Options, Progress

__all__ = ["all_links", "cosine_of", "test_pair"]

_OF_THE_BAR = "Dependence was to be claimed"
_UNNAMED = ModelSummary("", None, None, None, None)


def all_links(
    opened: Sequence[Opened], declared: Mapping[frozenset[int], int], options: Options, progress: Progress | None
) -> tuple[tuple[Link, ...], int]:
    """Compare every model that has a fingerprint with every other.

    Args:
        opened: The models.
        declared: Which of two models is declared as the base of the other.
        options: Bar and seed.
        progress: Called after each pair.

    Returns:
        The links, and the number of pairs that the e-values are divided by.
    """
    prints = {at: one.fingerprint for at, one in enumerate(opened) if one.fingerprint is not None}
    pairs = list(itertools.combinations(prints, 2))
    links = []
    for number, (one, other) in enumerate(pairs):
        # The declared base stands as the base, as in a check; else the model whose name comes first, whatever the
        # order they were given in.
        first = min((one, other), key=lambda at: (opened[at].member.name, at))
        base = declared.get(frozenset((one, other)), first)
        suspect = other if base == one else one
        if same_files(opened[one], opened[other]):
            links.append(_identical(suspect, base))
        else:
            links.append(test_pair((suspect, base), (prints[suspect], prints[base]), len(pairs), options))
        if progress is not None:
            progress("comparing pairs", number + 1, len(pairs))
    return tuple(links), len(pairs)


def test_pair(at: tuple[int, int], prints: tuple[Fingerprint, Fingerprint], pairs: int, options: Options) -> Link:
    """Weigh what two fingerprints say, as one of several pairs.

    Args:
        at: Numbers of the models, the one in the place of the suspect first.
        prints: Their fingerprints.
        pairs: Number of pairs that are tested in all.
        options: Bar and seed.

    Returns:
        The link; its ``log10_e`` is of the e-value divided by the number of pairs.
    """
    apart = math.log10(max(1, pairs))
    # To raise the bar is the same as to divide the value, but for "unrelated": coins that lean towards dependence do so
    # however many other pairs there are.
    bar = options.bar + apart
    evidence = compare_fingerprints(*prints, replace(options, bar=bar))
    found = compared(evidence, bar, _UNNAMED, (Cost(), Cost()))
    return Link(
        suspect=at[0],
        base=at[1],
        relation=found.relation,
        summary=found.summary,
        evidence=replace(found.evidence, log10_e=found.evidence.log10_e - apart),
        cosine=cosine_of(found.kept, Interval.of(evidence.reverse)),
        kept=found.kept,
        reverse=Interval.of(evidence.reverse),
        direction=found.direction.indication,
        kind=found.kind,
        changes=found.changes,
        # What holds for every pair is said once, for the whole tree.
        limits=tuple(limit for limit in found.limits if limit != NOT_SEARCHED and not limit.startswith(_OF_THE_BAR)),
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


def _identical(suspect: int, base: int) -> Link:
    whole = Interval(1.0, 1.0, 1.0)
    said = "the weight files have the same sha256 digests"
    return Link(suspect, base, "identical", said, Evidence(0.0, 0, 0, exact=True), 1.0, whole, whole)
