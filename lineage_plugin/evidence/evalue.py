r"""The e-value of ``heads`` in ``coins`` fair coins.

An e-value is a non-negative statistic whose expectation under the null is at most one. Ours is the likelihood ratio of
a coin with unknown bias :math:`t`, uniform on :math:`(1/2, 1)`, against a fair one:

.. math::

    E = 2\int_{1/2}^{1} (2t)^k\,(2(1-t))^{n-k}\,dt
      = 2^{n+1} B(k+1, n-k+1)\,\bigl[1 - I_{1/2}(k+1, n-k+1)\bigr].

As a mixture of likelihood ratios it is a non-negative martingale in the number of coins, so by Ville's inequality
:math:`P(\sup_n E_n \ge 1/\alpha) \le \alpha`: reading may stop whenever it likes (Ville 1939; Robbins 1970,
doi:10.1214/aoms/1177696786; Ramdas et al. 2023, doi:10.1214/23-STS894).

Writing the beta functions for integers turns it into a ratio of binomial sums that needs no special function,

.. math::

    E = \sum_{j=0}^{k}\binom{n+1}{j} \Big/ \Bigl[(n+1)\binom{n}{k}\Bigr],

which is what is computed here, in logarithms, without a cap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["log10_e_value", "log10_mean"]


def log10_e_value(heads: int, coins: int) -> float:
    """Return the decimal logarithm of the e-value.

    Args:
        heads: Number of heads, at least 0.
        coins: Number of coins, at least ``heads``.

    Returns:
        ``log10 E``; 0 for no coins, negative when the coins speak for the null; always finite.

    Raises:
        ValueError: If the counts are negative or contradict each other.
    """
    if not 0 <= heads <= coins:
        raise ValueError(f"{heads} heads of {coins} coins")
    j = np.arange(1, heads + 1, dtype=np.float64)
    # log C(n+1, j) for j = 0..k by its ratio to the term before.
    log_terms = np.concatenate(([0.0], np.cumsum(np.log((coins + 2 - j) / j))))
    peak = float(log_terms.max())
    log_sum = peak + math.log(float(np.exp(log_terms - peak).sum()))
    log_choose = math.lgamma(coins + 1) - math.lgamma(heads + 1) - math.lgamma(coins - heads + 1)
    return (log_sum - math.log(coins + 1) - log_choose) / math.log(10)


def log10_mean(log10_values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the decimal logarithm of the arithmetic mean of e-values given as logarithms.

    The mean of e-values is an e-value under any dependence between them (Vovk & Wang 2021, doi:10.1214/20-AOS2020),
    which is how tensors of an unknown graph are combined.

    Args:
        log10_values: Decimal logarithms, at least one.
        weights: Positive weights, fixed before the values were seen; None: equal ones. They sum to one, or to less
            where further e-values are counted as zero.

    Returns:
        ``log10`` of the mean.

    Raises:
        ValueError: If there is nothing to average.
    """
    if not log10_values:
        raise ValueError("no e-values to average")
    values = np.asarray(log10_values, dtype=np.float64)
    shares = np.full(values.shape, 1.0 / values.shape[0]) if weights is None else np.asarray(weights, dtype=np.float64)
    peak = float(values.max())
    return peak + math.log10(float(shares @ np.power(10.0, values - peak)))
