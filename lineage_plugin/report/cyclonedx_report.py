"""The models and what they come from as a CycloneDX 1.6 ML-BOM, in JSON.

``pedigree.ancestors`` holds bases that share weights with the model (identical or derived), that are declared or that
the direction indicates, and that no weight of a merge and no direction contradicts. All other related models are
``pedigree.variants``. What was declared and is not supported, or was not settled, stands in properties of the model and
in ``pedigree.notes``, never as an ancestor. What no field of the standard holds is a property under ``lineage:``. None
of it depends on the policy, which is about findings.

The same report gives the same bytes: the serial number is derived from the content, the time is the report's.

Source: CycloneDX 1.6 (ECMA-424), written by the library of the project.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lineage_plugin._links import HOME
from lineage_plugin._version import __version__
from lineage_plugin.errors import UsageError
from lineage_plugin.judge.parents import NO_TRACE
from lineage_plugin.judge.types import PUBLIC_HUB, Comparison, ModelSummary, Report
from lineage_plugin.policy.words import policy_line
from lineage_plugin.report import outline, phrases
from lineage_plugin.report.facts import DESCENT, moment, verdict_on
from lineage_plugin.report.hub import address, repository_of, server
from lineage_plugin.report.json_report import to_dict
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from cyclonedx.model import ExternalReference, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

__all__ = ["render", "render_all"]

_MOST = 64
"""Comparisons, declared bases, findings and files of a model that are listed."""

_RELATED = ("identical", "derived")

DIGESTS = True
"""The format is of use for the digests of what was checked: they are taken of local files, too."""


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report as a bill of materials whose subject is the model.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The JSON text, ending in a newline.

    Raises:
        UsageError: When the cyclonedx library is not installed.
    """
    bom = _bom((report,))
    bom.metadata.component = _subject(report, "model-1")
    return _written(bom, {"model-1": report})


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the reports on several models as one bill of materials, one component a model.

    Raises:
        UsageError: When the cyclonedx library is not installed.
    """
    bom = _bom(reports)
    models = {f"model-{number}": report for number, report in enumerate(reports, 1)}
    for reference, report in models.items():
        bom.components.add(_subject(report, reference))
    return _written(bom, models)


def _bom(reports: Sequence[Report]) -> Bom:
    try:
        from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.tool import ToolRepository
    except ImportError as error:
        raise UsageError(
            "the format cyclonedx needs cyclonedx-python-lib, which cannot be imported. "
            "Install it: pip install 'lineage-plugin[sbom]'"
        ) from error
    home = ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(HOME))
    tool = Component(
        name="lineage-plugin", version=__version__, type=ComponentType.APPLICATION, external_references=[home]
    )
    # Of several models the last; without any the library would take the time of day.
    times = sorted(moment(report.created) for report in reports) or [moment("1970-01-01T00:00:00Z")]
    return Bom(metadata=BomMetaData(tools=ToolRepository(components=[tool]), timestamp=times[-1]))


def _written(bom: Bom, models: dict[str, Report]) -> str:
    from cyclonedx.output.json import JsonV1Dot6

    bom.serial_number = uuid.UUID(int=0)
    found: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    document = {
        name: found[name] for name in ("$schema", "bomFormat", "specVersion", "serialNumber", "version")
    } | found
    subjects = [document["metadata"].get("component"), *document.get("components", ())]
    for subject in filter(None, subjects):
        # The library has no model cards yet.
        architecture = one_line(models[subject["bom-ref"]].suspect.architecture or "", 120)
        if architecture:
            subject["modelCard"] = {"modelParameters": {"modelArchitecture": architecture}}
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, HOME + json.dumps(document, sort_keys=True)).urn
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _subject(report: Report, reference: str) -> Component:
    from cyclonedx.model.component import Pedigree

    shown = to_dict(report)  # of its digests only those that have the form of one
    digests = shown["suspect"]["sha256"]
    subject = _component(report, report.suspect, reference, digests, on_hub=report.folder is None)
    of_bases = {
        id(one): other["base"]["sha256"] for one, other in zip(report.comparisons, shown["comparisons"], strict=True)
    }
    ancestors, variants, others = _sorted(report)
    made = [
        [_base(report, one, f"{reference}/{what}-{number}", of_bases[id(one)]) for number, one in enumerate(found, 1)]
        for what, found in (("ancestor", ancestors), ("variant", variants))
    ]
    subject.pedigree = Pedigree(ancestors=made[0], variants=made[1], notes=_notes(report) or None)
    subject.licenses.update(_licences(report))
    facts: list[tuple[str, object]] = list(_facts_of_report(report))
    for number, one in enumerate(others, 1):
        facts += [(f"compared:{number}:{name}", value) for name, value in (("base", one.base.id), *_facts(one))]
    subject.properties.update(_properties(facts))
    return subject


def _sorted(report: Report) -> tuple[list[Comparison], list[Comparison], list[Comparison]]:
    """Return the comparisons whose base is an ancestor, related in another way, and not related as far as is known."""
    traceless = _traceless(report)
    ancestors, variants, others = [], [], []
    for one in report.comparisons[:_MOST]:
        indication = one.direction.indication
        claimed = indication == "unclear" and outline.is_declared(report, one)
        if one.relation not in _RELATED:
            others.append(one)
        elif one.base.id not in traceless and (claimed or indication == "suspect-from-base"):
            ancestors.append(one)
        else:
            variants.append(one)
    return ancestors, variants, others


def _traceless(report: Report) -> frozenset[str]:
    """Return the parents of which a merge holds nothing that the others lack, by the same measure as LIN106.

    It is taken of the weights: findings are what a policy left of them.
    """
    if report.merge is None:
        return frozenset()
    return frozenset(
        parent.id
        for parent in report.merge.parents
        if parent.id != report.merge.ancestor
        and parent.low is not None
        and parent.high is not None
        and -2 * NO_TRACE < parent.low <= 0.0
        and parent.high < NO_TRACE
    )


def _base(report: Report, comparison: Comparison, reference: str, digests: Mapping[str, str]) -> Component:
    # A base has a revision if it is on the Hub; the id alone may as well be a relative path.
    base = _component(report, comparison.base, reference, digests, on_hub=comparison.base.revision is not None)
    base.properties.update(_properties(_facts(comparison)))
    return base


def _component(
    report: Report, model: ModelSummary, reference: str, digests: Mapping[str, str], *, on_hub: bool
) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    revision = None if model.revision is None else one_line(model.revision, 80) or None
    repository = repository_of(model) if on_hub else None
    group, name = None, one_line(model.id, 200) or "unnamed"
    purl = None
    if repository is not None:
        group, _, name = repository.partition("/")
        # As the type's definition asks: another Hub than the public one is named.
        elsewhere = {} if server(report) == PUBLIC_HUB else {"repository_url": server(report)}
        purl = PackageURL(type="huggingface", namespace=group, name=name, version=revision, qualifiers=elsewhere)
    made = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=reference,
        group=group,
        name=name,
        version=revision,
        purl=purl,
        external_references=[] if repository is None else _pages(report, repository, revision),
    )
    facts: list[tuple[str, object]] = [("id", model.id), ("format", model.format), ("parameters", model.parameters)]
    if len(digests) == 1:
        made.hashes.update(map(_sha256, digests.values()))
        facts += [("file", file) for file in digests]
    else:
        for number, (file, digest) in enumerate(digests.items(), 1):
            name = one_line(file, 200) or "unnamed"
            part = Component(type=ComponentType.FILE, bom_ref=f"{reference}/file-{number}", name=name)
            part.hashes.add(_sha256(digest))
            made.components.add(part)
    made.properties.update(_properties(facts))
    return made


def _sha256(digest: str) -> HashType:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _pages(report: Report, repository: str, revision: str | None) -> list[ExternalReference]:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri

    pages = (
        (ExternalReferenceType.DISTRIBUTION, address(report, repository, revision)),
        (ExternalReferenceType.MODEL_CARD, address(report, repository, revision, file="README.md")),
    )
    return [ExternalReference(type=kind, url=XsUri(page)) for kind, page in pages]


def _licences(report: Report) -> list[License]:
    """Return the licence as it was declared: by its SPDX identifier if it is one, else by name."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement
    from cyclonedx.spdx import fixup_id

    name = one_line(report.declared.license or "", 120)
    if not name:
        return []
    known = fixup_id(name)
    declared = LicenseAcknowledgement.DECLARED
    if known is not None:
        return [DisjunctiveLicense(id=known, acknowledgement=declared)]
    return [DisjunctiveLicense(name=name, acknowledgement=declared)]


def _notes(report: Report) -> str:
    """Say of every base what the evidence is and rests on, and of those that were not compared that there is none."""
    said = []
    for one in report.comparisons[:_MOST]:
        label, found, consequence = phrases.relation(one, declared=outline.is_declared(report, one))
        coins = (
            "" if one.relation == "identical" else phrases.coins(one.evidence, calibrated=one.calibrated is not None)
        )
        limits = [phrases.sentence(limit) for limit in one.limits]
        said.append(" ".join(filter(None, (f"{_name(one.base.id)}: {label}:", found, consequence, coins, *limits))))
    compared = {one.base.id for one in report.comparisons}
    for base in report.declared.bases[:_MOST]:
        if base not in compared and base.partition("@")[0] not in compared:
            said.append(f"{_name(base)}: declared, and not compared.")
    if report.comparisons:
        said += [DESCENT, phrases.UNSEEN]
    return "\n".join(said)


def _name(id: str) -> str:
    # A name that ends in a colon must not make "::", which starts a command in a CI log.
    return one_line(id, 200).rstrip(": ")


def _facts_of_report(report: Report) -> Iterator[tuple[str, object]]:
    declared, settings = report.declared, report.settings
    yield from (("verdict", verdict_on(report)), ("summary", phrases.summary(report)))
    yield from (("declared:base", base) for base in declared.bases[:_MOST])
    yield "declared:relation", declared.relation
    yield from (("bar", settings.bar), ("seed", settings.seed), ("exhaustive", settings.exhaustive))
    yield from (("budget", settings.budget), ("policy", policy_line(settings.policy)))
    for finding in report.findings[:_MOST]:
        ignored = f" ({outline.ignored(finding)})" if finding.ignored is not None else ""
        yield "finding", f"{finding.code} {finding.level}: {finding.message}{ignored}"


def _facts(comparison: Comparison) -> Iterator[tuple[str, object]]:
    evidence, kept, direction = comparison.evidence, comparison.kept, comparison.direction
    yield from (("relation", comparison.relation), ("kind", comparison.kind), ("part", comparison.part or None))
    yield from (("log10_e", evidence.log10_e), ("coins", evidence.coins), ("heads", evidence.heads))
    yield "exact", evidence.exact
    yield "calibrated", comparison.calibrated is not None
    yield from (("kept", kept.estimate), ("kept:low", kept.low), ("kept:high", kept.high))
    yield "direction", direction.indication


def _properties(facts: Iterable[tuple[str, object]]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=f"lineage:{name}", value=value) for name, fact in facts if (value := _value(fact))]


def _value(fact: object) -> str:
    """Return a value as a property holds it; empty when there is none."""
    if fact is None or (isinstance(fact, float) and not math.isfinite(fact)):
        return ""
    if isinstance(fact, bool):
        return str(fact).lower()
    return f"{fact:.6g}" if isinstance(fact, float) else one_line(fact, 600)
