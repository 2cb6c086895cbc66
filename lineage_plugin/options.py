"""What the caller of a check may choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lineage_plugin.errors import UsageError

__all__ = ["DEFAULT_BAR", "Fingerprints", "Options", "Progress"]

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)`` while a stage runs; the stage is a short phrase: ``reading layers``."""


Fingerprints = Literal["auto", "only", "off"]
"""What is done with the fingerprint of a base; see :class:`Options`."""

DEFAULT_BAR = 9.0
"""One in a billion."""


@dataclass(frozen=True, slots=True)
class Options:
    """Choices of one run; immutable, with the documented defaults.

    Attributes:
        bar: Decimal logarithm of the e-value from which a relation is claimed. 9 bounds the chance of a false claim
            under the null by one in a billion (Ville's inequality).
        seed: Seed of every random draw (units, pairs, bootstrap).
        budget: Largest number of weight-file bytes read per model, or None for the plan's own default.
        exhaustive: Read every unit instead of a sample.
        offline: Never touch the network; ids of the Hub are refused unless they are local folders.
        token: Hub token, or None to use the environment's; sent to the Hub endpoint only.
        endpoint: Hub endpoint, or None for ``HF_ENDPOINT`` or the public Hub.
        fingerprints: ``auto``: a base on the Hub is first compared by its fingerprint, where one is at hand and the
            suspect is on this machine or has one at hand, too, and read where that does not show descent. ``only``: it
            is not read then. ``off``: weights are read.
    """

    bar: float = DEFAULT_BAR
    seed: int = 0
    budget: int | None = None
    exhaustive: bool = False
    offline: bool = False
    token: str | None = None
    endpoint: str | None = None
    fingerprints: Fingerprints = "auto"
    digests: bool = False

    def __post_init__(self) -> None:
        if not 2.0 <= self.bar < 1e6:
            raise UsageError(f"the evidence bar must be at least 2 (an e-value of 100), not {self.bar!r}")
        if self.budget is not None and self.budget <= 0:
            raise UsageError(f"the byte budget must be positive, not {self.budget!r}")

    def __repr__(self) -> str:
        token = "None" if self.token is None else "'***'"
        return (
            f"Options(bar={self.bar}, seed={self.seed}, budget={self.budget}, exhaustive={self.exhaustive}, "
            f"offline={self.offline}, token={token}, endpoint={self.endpoint!r}, fingerprints={self.fingerprints!r})"
        )
