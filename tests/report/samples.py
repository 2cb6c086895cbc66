"""Report values made by hand, with the numbers that real runs of each kind give."""

from __future__ import annotations

from dataclasses import replace

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import finding
from lineage_plugin.fixes import Fix, SetKey
from lineage_plugin.judge.types import (
    CalibratedEvidence,
    CalibratedStatistic,
    Candidate,
    ChainLink,
    Closest,
    Comparison,
    Declared,
    Direction,
    Evidence,
    GroupEvidence,
    Inheritance,
    Interval,
    LayerEvidence,
    LicenceOutcome,
    Merge,
    MergeParent,
    ModelSummary,
    Report,
    Scrubbed,
    StageEvidence,
)

CREATED = "2026-11-21T18:32:07+00:00"
NOT_ESTIMATED = Interval(None, None, None)

HOSTILE = (
    "\x1b[31mred\x1b[0m\x1b]0;title\x07 [bold]rich[/bold] [link=http://x]y[/link] "
    "\u202eevil\u202c \u200bzero\x9b2J\x00\x7f\r\n::error file=x::gotcha ##[group]z :smile:"
)


def model(name: str, **fields: object) -> ModelSummary:
    values: dict[str, object] = {
        "id": name,
        "revision": None,
        "format": "safetensors",
        "parameters": 3_184_640,
        "architecture": "llama",
        "sha256": {"model.safetensors": "ab" * 32},
        **fields,
    }
    return ModelSummary(**values)  # type: ignore[arg-type]


def layers(shares: list[float], coins: int = 256, cosine: float = 0.97) -> tuple[LayerEvidence, ...]:
    return tuple(
        LayerEvidence(str(i), str(i), coins, round(share * coins), cosine if share > 0.9 else 0.01)
        for i, share in enumerate(shares)
    )


def comparison(**fields: object) -> Comparison:
    """A derived model; fields override."""
    values: dict[str, object] = {
        "base": model("zoo/atlas"),
        "relation": "derived",
        "kind": "finetune",
        "summary": "",
        "evidence": Evidence(
            459.83,
            1536,
            1536,
            True,
            (
                GroupEvidence("mlp swap", 768, 768, 229.6),
                GroupEvidence("mlp sign", 384, 384, 114.2),
                GroupEvidence("value sign", 384, 384, 114.2),
            ),
        ),
        "kept": Interval(0.9812, 0.9794, 0.9829),
        "inheritance": Inheritance(0.964, 0.941, 0.987, ((0.1, 1.01), (0.5, 0.97), (1.0, 0.93))),
        "direction": Direction("suspect-from-base", 0.98, 0.86),
        "layers": layers([1.0] * 6),
        "limits": ("Token embeddings and the language-model head were not compared.",),
        "suspect_cost": Cost(930_112, 917_504, 6_372_160, 0, 0.21),
        "base_cost": Cost(930_112, 917_504, 6_372_160, 0, 0.19),
        **fields,
    }
    return Comparison(**values)  # type: ignore[arg-type]


def report(*comparisons: Comparison, **fields: object) -> Report:
    values: dict[str, object] = {
        "created": CREATED,
        "suspect": model("zoo/atlas-docs"),
        "declared": Declared(("zoo/atlas",), "finetune", "apache-2.0", "README.md", 3),
        "comparisons": comparisons,
        "findings": (),
        "verdict": "pass",
        "summary": "zoo/atlas-docs is consistent with its declared base zoo/atlas",
        "cost": Cost(1_860_224, 1_835_008, 12_744_320, 0, 0.44),
        **fields,
    }
    return Report(**values)  # type: ignore[arg-type]


def derived() -> Report:
    return report(comparison())


def unrelated() -> Report:
    return report(
        comparison(
            relation="unrelated",
            kind=None,
            evidence=Evidence(-1.43, 3072, 1520, True, (GroupEvidence("mlp swap", 3072, 1520, -1.43),)),
            kept=Interval(0.0004, -0.011, 0.0118),
            inheritance=Inheritance(0.01, -0.03, 0.05),
            direction=Direction("unclear", 0.0, -0.001),
            layers=layers([0.51, 0.48, 0.5, 0.47, 0.52, 0.49], 512),
        ),
        suspect=model("zoo/draco"),
        findings=(
            finding(
                "LIN101",
                "The declared base zoo/atlas is not supported by the weights: 1,520 of 3,072 coins came up heads",
                file="README.md",
                line=5,
                help="Correct base_model, or pass the base that was really used with --base.",
            ),
            finding("LIN205", "The base zoo/atlas is not pinned to a revision", file="README.md", line=5),
        ),
        verdict="fail",
        summary="zoo/draco declares zoo/atlas as its base, but the weights show no trace of it",
    )


def twin() -> Report:
    return report(
        comparison(
            relation="shared-init",
            kind=None,
            kept=Interval(0.41, 0.39, 0.43),
            inheritance=Inheritance(0.21, 0.15, 0.28, ((0.1, 0.18), (1.0, 0.71))),
            direction=Direction("siblings", 0.41, 0.42),
        ),
        suspect=model("zoo/atlas-twin"),
        findings=(
            finding(
                "LIN107", "zoo/atlas-twin shares only its initial weights with zoo/atlas", file="README.md", line=4
            ),
        ),
        verdict="fail",
        summary="zoo/atlas-twin and zoo/atlas started from the same initial weights; neither descends from the other",
    )


def inconclusive() -> Report:
    return report(
        comparison(
            relation="inconclusive",
            kind=None,
            summary="inconclusive: the depths differ (6 and 8 layers), which is not compared yet",
            evidence=Evidence(0.0, 0, 0, True),
            kept=NOT_ESTIMATED,
            inheritance=Inheritance(None, None, None),
            direction=Direction("unclear", None, None),
            layers=(),
            limits=(),
            suspect_cost=Cost(2048, 0, 6_372_160, 0, 0.01),
            base_cost=Cost(2048, 0, 8_372_160, 0, 0.01),
        ),
        verdict="undecided",
        summary="zoo/atlas-docs cannot be compared with zoo/atlas: the depths differ",
    )


def identical() -> Report:
    return report(
        comparison(
            relation="identical",
            kind=None,
            evidence=Evidence(0.0, 0, 0, True),
            kept=Interval(1.0, 1.0, 1.0),
            inheritance=Inheritance(None, None, None),
            direction=Direction("unclear", None, None),
            layers=(),
            limits=(),
            suspect_cost=Cost(0, 0, 6_372_160, 2, 0.01),
            base_cost=Cost(0, 0, 6_372_160, 2, 0.01),
        ),
        findings=(finding("LIN104", "The weight files are those of zoo/atlas", file="README.md", line=3),),
    )


def no_base() -> Report:
    return report(
        declared=Declared((), None, None, "README.md", None),
        findings=(finding("LIN201", "No base is declared", file="README.md", line=1, help="Add base_model."),),
        verdict="undecided",
        summary="zoo/atlas-docs declares no base, so there is nothing to compare it with",
        cost=Cost(),
    )


def linted() -> Report:
    """What ``lint`` gives for a card with something to repair and something that its author accepts."""
    pin = Fix("Set base_model_revision", (SetKey("base_model_revision", "0" * 40),))
    accepted = finding("LIN210", "It reads like an adapter", file="README.md", line=9, level="note")
    return report(
        folder="models/mine",
        findings=(
            finding("LIN205", "base zoo/atlas is not pinned", file="README.md", line=7, column=13, fix=pin),
            finding("LIN203", "fine-tuned is not known", file="README.md", line=8, column=22, help="Use finetune."),
            replace(accepted, fix=pin, ignored="our own words", ignored_level="warning"),
        ),
        command="lint",
        summary="models/mine: the card was read",
        cost=Cost(),
        licences=(
            LicenceOutcome(
                "zoo/atlas",
                None,
                "cc-by-nc-4.0",
                "the Hub",
                "incompatible",
                "no commercial use",
                "section 2 of https://creativecommons.org/licenses/by-nc/4.0/",
                ("Names the author: section 3",),
            ),
            LicenceOutcome("zoo/root", "zoo/atlas", None, None, "ask a lawyer", "its licence is not known", None),
        ),
        chain=(ChainLink("zoo/atlas", ("zoo/root",)), ChainLink("zoo/root", ())),
    )


def pair() -> Report:
    """What ``compare`` gives: no card, one comparison."""
    return replace(derived(), declared=Declared((), None, None, None, None), summary="")


def upscaled() -> Report:
    """Six layers became ten: a block repeated, one layer inserted, one dropped."""
    rows = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 1), (5, 2), (6, 3), (7, None), (8, 5)]
    return report(
        comparison(
            kind="upscaled",
            evidence=Evidence(
                304.2,
                1020,
                1020,
                True,
                (GroupEvidence("mlp swap", 510, 510, 152.5), GroupEvidence("mlp sign", 510, 510, 152.5)),
                (StageEvidence("identity", 0.9, 1536, 812, -0.62), StageEvidence("layers", 0.04, 1020, 1020, 305.6)),
            ),
            layers=mapped(rows),
            changes=("layers 1-3 appear twice", "1 layer inserted: 7", "1 layer dropped: 4"),
        ),
        summary="zoo/atlas-nine is consistent with its declared base zoo/atlas",
    )


def mapped(rows: list[tuple[int, int | None]], coins: int = 204) -> tuple[LayerEvidence, ...]:
    """Layers of a map: the first that a base layer became has its coins."""
    seen: set[int] = set()
    found = []
    for mine, base in rows:
        fresh = base is not None and base not in seen
        seen |= set() if base is None else {base}
        heads = coins if fresh else 0
        name = None if base is None else str(base)
        found.append(LayerEvidence(str(mine), name, heads, heads, 0.0 if base is None else 0.96))
    return tuple(found)


def deep() -> Report:
    """80 layers up-scaled to 120: the last 60 behind the first 60."""
    rows: list[tuple[int, int | None]] = [(i, i if i < 60 else i - 40) for i in range(120)]
    return report(comparison(kind="upscaled", layers=mapped(rows, 64), changes=("layers 20-59 appear twice",)))


def relabelled() -> Report:
    """Units and channels in another order: exact sign coins after matching."""
    return report(
        comparison(
            evidence=Evidence(
                1384.1,
                4608,
                4608,
                True,
                (GroupEvidence("mlp sign", 3072, 3072, 924.4), GroupEvidence("value sign", 1536, 1536, 462.1)),
                (
                    StageEvidence("identity", 0.9, 3072, 1529, -1.31),
                    StageEvidence("layers", 0.04, 0, 0, 0.0),
                    StageEvidence("channels", 0.02, 192, 97, -0.42),
                    StageEvidence("units", 0.02, 0, 0, 0.0),
                    StageEvidence("basis", 0.01, 1536, 770, -0.98),
                    StageEvidence("basis", 0.01, 4608, 4608, 1386.1),
                ),
            ),
            scrubbed=Scrubbed(("the residual stream was permuted", "MLP units stand in another order")),
        )
    )


def measured(**fields: object) -> CalibratedEvidence:
    """Calibrated evidence; fields override."""
    values: dict[str, object] = {
        "log10_value": 168.35,
        "statistics": (
            CalibratedStatistic("cross-role", 768, 768, 134.1),
            CalibratedStatistic("sign product", 1533, 1536, 168.6),
        ),
        "rate": 2 / 3,
        "worst_share": 0.5811,
        "pairs": 276,
        "models": 24,
        "families": ("gpt2", "llama", "qwen2"),
        "width": (64, 768),
        "parameters": (901_120, 124_439_808),
        **fields,
    }
    return CalibratedEvidence(**values)  # type: ignore[arg-type]


SILENT_STAGES = (
    StageEvidence("identity", 0.9, 3072, 1520, -1.43),
    StageEvidence("layers", 0.04, 0, 0, 0.0),
    StageEvidence("channels", 0.02, 192, 97, -0.42),
    StageEvidence("units", 0.02, 512, 251, -1.18),
)


def disguised() -> Report:
    """Every label redrawn: no coin sees anything, the calibrated evidence does."""
    how = (
        "the residual stream was rotated",
        "MLP units stand in another order",
        "the signs of MLP units were flipped",
    )
    return report(
        comparison(
            evidence=Evidence(
                -1.4,
                3072,
                1520,
                False,
                (GroupEvidence("mlp swap", 3072, 1520, -1.43),),
                (*SILENT_STAGES, StageEvidence("basis", 0.02, 3072, 1544, -1.2)),
            ),
            scrubbed=Scrubbed(how, "276 pairs of 24 independent models"),
            calibrated=measured(),
        )
    )


def searched() -> Report:
    """Nothing found after every stage but one."""
    one = unrelated().comparisons[0]
    evidence = replace(one.evidence, log10_e=-1.45, stages=SILENT_STAGES)
    silent = (CalibratedStatistic("cross-role", 396, 768, -21.0), CalibratedStatistic("sign product", 770, 1536, -46.5))
    value = measured(log10_value=-21.3, statistics=silent)
    return replace(unrelated(), comparisons=(replace(one, evidence=evidence, calibrated=value),))


def composite() -> Report:
    return report(comparison(part="language_model.", kind="partial"))


def by_layer(weight: float) -> tuple[tuple[str, Interval], ...]:
    return tuple((str(i), Interval(weight + 0.001 * i, weight - 0.004, weight + 0.009)) for i in range(6))


def merged_from(**fields: object) -> Merge:
    """A linear merge of two children of one base; fields override."""
    values: dict[str, object] = {
        "parents": (
            MergeParent("zoo/atlas-docs", 0.30001, 0.2997, 0.3003, by_layer(0.3)),
            MergeParent("zoo/atlas-chat", 0.69998, 0.6997, 0.7002, by_layer(0.7)),
            MergeParent("zoo/atlas", 0.00001, -0.0002, 0.0003, by_layer(0.0)),
        ),
        "ancestor": "zoo/atlas",
        "scale": Interval(1.00002, 0.9998, 1.0003),
        "unexplained": 8.1e-5,
        "structure": "rounding",
        "style": "linear",
        "summary": "the parents explain everything to rounding",
        **fields,
    }
    return Merge(**values)  # type: ignore[arg-type]


def merged() -> Report:
    one = comparison(base=model("zoo/atlas-docs"), kind="merge", direction=Direction("unclear", 0.91, 0.97))
    two = comparison(base=model("zoo/atlas-chat"), kind="merge", direction=Direction("unclear", 0.98, 0.9))
    return report(
        one,
        two,
        declared=Declared(("zoo/atlas-docs", "zoo/atlas-chat"), "merge", None, "README.md", 3),
        merge=merged_from(),
        summary="zoo/atlas-mix is consistent with both bases",
    )


def unweighed() -> Report:
    """A merge whose weights could not be estimated."""
    parents = tuple(MergeParent(name, None, None, None) for name in ("zoo/atlas-docs", "zoo/draco"))
    why = "the weights could not be estimated: the widths differ (64 and 96) (zoo/draco)"
    return replace(
        merged(),
        merge=merged_from(
            parents=parents,
            ancestor=None,
            scale=NOT_ESTIMATED,
            unexplained=None,
            structure=None,
            style=None,
            summary=why,
        ),
    )


def closest_of(**fields: object) -> Closest:
    """A grandchild of the declared base; fields override."""
    values: dict[str, object] = {
        "id": "zoo/atlas-chat",
        "reason": "the suspect contains all that sets zoo/atlas-chat apart from the others",
        "between": (),
        "ancestor": "zoo/atlas",
        "candidates": (
            Candidate("zoo/atlas-chat", 0.9971, 0.9938, 1.0004, Interval(0.9937, 0.9754, 1.0119)),
            Candidate("zoo/atlas-docs", 0.0044, 0.001, 0.0078, Interval(0.0079, -0.0177, 0.0334)),
            Candidate("zoo/atlas", -0.0015, -0.0068, 0.0038, Interval(0.009, -0.0164, 0.0344)),
        ),
        **fields,
    }
    return Closest(**values)  # type: ignore[arg-type]


def closer() -> Report:
    message = "zoo/atlas-chat is a closer parent than zoo/atlas (an estimate)"
    return report(
        comparison(), closest=closest_of(), findings=(finding("LIN105", message, file="README.md", line=3, help="x"),)
    )


def found() -> Report:
    """A scan that found what the card does not declare."""
    message = "the weights share what zoo/atlas learned, which the card does not declare"
    return report(
        comparison(),
        command="scan",
        declared=Declared((), None, None, None, None),
        findings=(finding("LIN102", message, file="README.md", line=1),),
        verdict="fail",
        summary=f"zoo/atlas-docs: {message}.",
    )


def not_found() -> Report:
    """A scan without any relative."""
    summary = "zoo/atlas-docs shows no relative among the 3 models of the registry."
    return report(command="scan", declared=Declared((), None, None, None, None), summary=summary)


def hostile() -> Report:
    """Every text that a stranger chooses tries to take over the terminal."""
    bad = HOSTILE
    one = comparison(
        base=model(bad, revision=bad, format=bad, architecture=bad, sha256={bad: bad}),
        summary=bad,
        layers=(
            LayerEvidence(bad, bad, 8, 8, 0.5),
            LayerEvidence("1", bad, 0, 0, float("nan")),
            LayerEvidence(bad, None, 0, 0, 0.0),
            LayerEvidence("-1", "1e3", 0, 0, 0.5),
            LayerEvidence("9" * 5000, "1", 4, 4, 0.5),
            LayerEvidence("\u200b", "\u200b", 0, 0, float("inf")),
        ),
        limits=(bad, bad * 40),
        evidence=Evidence(
            2.0,
            8,
            8,
            False,
            (GroupEvidence(bad, 4, 4, 1.0), GroupEvidence("b", 4, 4, 1.0)),
            (StageEvidence(bad, 0.5, 8, 8, 1.0), StageEvidence("\u200b", 0.5, 8, 8, 1.0)),
        ),
        scrubbed=Scrubbed((bad, "\x07", bad * 40), bad),
        calibrated=measured(
            families=(bad, "\u202e", *["x" * 90] * 40),
            statistics=(CalibratedStatistic(bad, 1, 2, 0.1),),
            width=(0, 10**30),
            parameters=(10**30, 0),
        ),
        changes=(bad, "", *[bad] * 60),
        part=bad,
    )
    return report(
        one,
        suspect=model(bad, revision=bad, format=bad, architecture=bad, sha256={"\udcff": "0" * 64}),
        declared=Declared((bad, bad * 100), bad, bad, bad, 3),
        findings=(
            replace(finding("LIN203", bad, file=bad, line=2, help=bad, column=3, fix=Fix(bad, ())), ignored=bad),
            finding("LIN302", bad * 50, file="[/]"),
        ),
        summary=bad,
        merge=merged_from(
            parents=(
                MergeParent(bad, 0.5, 0.4, 0.6, ((bad, Interval(0.5, 0.4, 0.6)),)),
                MergeParent("\u200b", float("nan"), float("-inf"), 1e300),
                MergeParent("x" * 5000, -1e300, -1e301, 1e301),
                *[MergeParent(bad, 1.0, 1.0, 1.0)] * 60,
            ),
            ancestor=bad,
            scale=Interval(1e300, float("-inf"), float("nan")),
            unexplained=float("inf"),
            summary=bad,
        ),
        closest=closest_of(
            id=bad,
            reason=bad,
            between=(bad, bad),
            ancestor=bad,
            candidates=(
                *[Candidate(bad, 0.5, 0.4, 0.6, Interval(0.5, 0.4, 0.6))] * 40,
                Candidate("\u200b", float("nan"), None, 1e300, Interval(1e300, -1e300, 1e300)),
            ),
        ),
    )


ALL = (
    *(derived, unrelated, twin, inconclusive, identical, no_base, pair, hostile),
    *(upscaled, deep, relabelled, disguised, searched, composite),
    *(merged, unweighed, closer),
)
