"""The zoo of real trained weights, where it is at hand: ``LINEAGE_ZOO=folder`` or ``../shared/zoo``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lineage_plugin import check, compare
from tests.hub import LocalHub

ZOO = Path(os.environ.get("LINEAGE_ZOO", Path(__file__).parents[2] / "shared" / "zoo"))
PAIRS = json.loads((ZOO / "zoo.json").read_text())["pairs"] if (ZOO / "zoo.json").is_file() else []
pytestmark = pytest.mark.skipif(not PAIRS, reason="the zoo is not here")


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p['suspect']}:{p['base']}")
def test_pair(pair: dict[str, str]) -> None:
    suspect, base = (ZOO / pair[side].removeprefix("zoo/") for side in ("suspect", "base"))
    comparison = compare(str(suspect), str(base)).comparisons[0]
    assert (comparison.relation, comparison.kind) == (pair["relation"], pair["kind"])
    if pair["relation"] == "unrelated":
        assert comparison.evidence.log10_e < 3
    # Coins are symmetric: with the roles exchanged the relation is the same.
    assert compare(str(base), str(suspect)).comparisons[0].relation == pair["relation"]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p['suspect']}:{p['base']}")
def test_pair_over_the_hub(pair: dict[str, str]) -> None:
    from lineage_plugin import Options

    mounts = {pair[side]: ZOO / pair[side].removeprefix("zoo/") for side in ("suspect", "base")}
    with LocalHub(ZOO, mounts=mounts) as hub:
        report = compare(pair["suspect"], pair["base"], options=Options(endpoint=hub.endpoint))
    assert report.comparisons[0].relation == pair["relation"]


@pytest.mark.parametrize(("model", "code"), [("atlas-twin", "LIN107"), ("draco", "LIN101"), ("atlas-docs", None)])
def test_cards_that_lie(model: str, code: str | None) -> None:
    base = "cygnus" if model == "draco" else "atlas"
    report = check(str(ZOO / model), bases=[str(ZOO / base)])
    assert [f.code for f in report.findings if f.level == "error"] == ([code] if code else [])
