"""The pipeline: card and checkpoint, evidence, judgement, policy, report.

Each function opens what it needs, hands immutable values from stage to stage and returns a
:class:`~lineage_plugin.judge.types.Report`. Bad input raises an exception of :mod:`lineage_plugin.errors`, or becomes a
finding where the report can still say something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lineage_plugin.adapters import contradictions, is_adapter, parts_of, read_settings, revisions_differ
from lineage_plugin.ancestry import in_registry
from lineage_plugin.answer import found_in_registry, report_of, sentence
from lineage_plugin.card import BaseClaim, Declaration, base_not_found, claims_of_weights, read_card
from lineage_plugin.checkpoint import Checkpoint, Cost, open_checkpoint
from lineage_plugin.checkpoint.beside import source_of
from lineage_plugin.checkpoint.open import locate
from lineage_plugin.errors import BudgetExceeded, HubDenied, HubNotFound, InputError
from lineage_plugin.family.grow import tree
from lineage_plugin.findings import Finding, Level, finding
from lineage_plugin.fingerprint.file import to_bytes
from lineage_plugin.fingerprint.known import Held, fingerprint_file, named, open_base
from lineage_plugin.judge.lineage import lineage_findings
from lineage_plugin.judge.types import Comparison, ModelSummary, Report
from lineage_plugin.linting.lint import lint
from lineage_plugin.linting.place import CARD_LIMIT
from lineage_plugin.options import Options, Progress
from lineage_plugin.policy.apply import options_of
from lineage_plugin.relatives import Relatives, weigh_relatives
from lineage_plugin.said import card_file, said_by
from lineage_plugin.subject import Printed, Subject, ignored_files
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.fingerprint.registry.scan import KnownModels
    from lineage_plugin.policy.types import Policy

__all__ = ["check", "compare", "fingerprint_model", "lint", "scan", "tree"]


def check(
    model: str,
    *,
    bases: Sequence[str] = (),
    card: str | None = None,
    candidates: Sequence[str] = (),
    ancestor: str | None = None,
    registry: str | None = None,
    name: str | None = None,
    hub_id: str | None = None,
    partial: bool = False,
    hub: bool = False,
    policy: Policy | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check a model against the bases that its card declares.

    Args:
        model: Local folder or file, or ``owner/name[@revision]``.
        bases: Where the bases are, instead of what the card declares: paths or ids. None: as declared.
        card: A card elsewhere than in the model.
        candidates: Further members of the family: is one of them a closer parent than the declared base?
        ancestor: The model that all parents of a merge, or all candidates, descend from. None: as their cards say.
        registry: Folder of a registry of known models: is there an undeclared base, or a nearer one, among them?
        name: What to call a local model: the id that it has, or will have, on the Hub; exceptions of a policy go by it.
        hub_id: The id that the card is held to, where that is not ``name``: of the repository that the model goes to;
            empty for one that is on no Hub.
        partial: Whether files of the model may be elsewhere, so that nothing is made of what is not here.
        hub: Whether the Hub is asked about the declared bases besides, as :func:`lint` does: what they are called now,
            where they come from, what their licences say.
        policy: What is made of the findings; none is looked for.
        options: Choices of the run; None: the policy's bar and budget, else the defaults.
        progress: Called while reading.

    Returns:
        The report. A declared base that does not exist or may not be read is a finding, and so are weights that cannot
        be read.

    Raises:
        UsageError: When the call is wrong, or a path does not exist.
        InputError: When a base given in ``bases`` cannot be read.
        HubError: When the Hub does not deliver the model, or a base given in ``bases``.
    """
    options = options or options_of(policy)
    given = [bases] if isinstance(bases, str) else list(dict.fromkeys(bases))
    known = None if registry is None else _known_models(registry)
    held = fingerprint_file(model)
    if held is not None:
        return _check_fingerprint(model, held, given, card, known, policy, options, progress)
    try:
        suspect = open_checkpoint(model, options=options)
        # What is wrong with the configuration is a finding, too.
        _ = suspect.config
    except BudgetExceeded:
        raise
    except InputError as error:
        return _without_weights(model, name, hub_id, card, hub, error, policy, options)
    stated = claims_of_weights(suspect.metadata, suspect.weight_files[0])
    id = _held_to(model, name, hub_id)
    said = said_by(suspect, model, stated=stated, card=card, id=id, partial=partial, hub=hub, options=options)
    text, declaration = said.text, said.declaration
    findings = [*_read_with_care(suspect), *_other_weights(suspect)]
    if is_adapter(suspect):
        settings = read_settings(suspect)
        findings += [*contradictions(settings, parts_of(suspect.tensors)), *revisions_differ(declaration, settings)]
    subject = Subject(suspect, options, progress)
    opened, comparisons, of_bases = _against_bases(subject, declaration, given, options)
    findings = [*said.without(of_bases), *findings, *of_bases]
    weighed = _weights_of(opened, candidates)
    relatives = Relatives(None, None, tuple(comparisons), (), Cost())
    if len(weighed) == len(opened):
        relatives = weigh_relatives(
            suspect, weighed, comparisons, declaration, options, candidates=candidates, ancestor=ancestor
        )
    findings.extend(_without_doubles(lineage_findings(relatives.comparisons, declaration), relatives.findings))
    comparisons = list(relatives.comparisons)
    if known is not None and not is_adapter(suspect):
        found = in_registry(subject, known, declaration, opened, comparisons, card=text)
        comparisons += found.comparisons
        findings += found.findings
    spent = suspect.cost() + relatives.cost + said.cost
    report = report_of(
        model, subject.summary(), declaration, comparisons, findings, spent, policy, options, card=card, name=name
    )
    # What the registry has beyond the declared bases is in the findings; the sentence is about these.
    summary = sentence(report.suspect, declaration, relatives.comparisons, report.findings, findings)
    return replace(
        report,
        summary=summary,
        merge=relatives.merge,
        closest=relatives.closest,
        chain=said.chain,
        licences=said.licences,
    )


def scan(
    model: str,
    *,
    registry: str | None = None,
    card: str | None = None,
    policy: Policy | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Ask which known model a model comes from.

    Args:
        model: Local folder or file, ``owner/name[@revision]``, or a fingerprint file.
        registry: Folder of the registry; None: ``LINEAGE_REGISTRY``, or the one in the user's cache folder.
        card: A card elsewhere than in the model.
        policy: As for :func:`check`.
        options: Choices of the run; None: the policy's bar and budget, else the defaults.
        progress: Called while reading.

    Returns:
        A report whose comparisons are with the relatives that the registry has, possible parents first, and the nearest
        first among them; each e-value is divided by the number of models in the registry. LIN102 when the card declares
        none of them.

    Raises:
        UsageError: When the call is wrong, there is no registry, or the model is an adapter.
        InputError: When the model or the registry cannot be read.
        HubError: When the Hub does not deliver.
    """
    options = options or options_of(policy)
    known = _known_models(registry)
    held = fingerprint_file(model)
    if held is not None:
        subject: Subject | Printed = Printed(held, options, progress)
        text, adapter = None, None
    else:
        suspect = open_checkpoint(model, options=options)
        subject = Subject(suspect, options, progress)
        text, adapter = suspect.text("README.md", CARD_LIMIT), suspect.text("adapter_config.json")
    text = text if card is None else card_file(card)
    declaration, _ = read_card(text, file=card or "README.md", adapter_config=adapter)
    found = in_registry(subject, known, declaration, (), (), card=text)
    spent = held.cost if held is not None else suspect.cost()
    report = report_of(
        model, subject.summary(), declaration, found.comparisons, found.findings, spent, policy, options, card=card
    )
    report = replace(report, command="scan")
    if any(finding.level == "error" for finding in report.findings):
        return report
    return replace(report, summary=found_in_registry(report, len(known)))


def fingerprint_model(
    model: str, *, name: str | None = None, options: Options | None = None, progress: Progress | None = None
) -> bytes:
    """Make the fingerprint of a model.

    Args:
        model: Local folder or file, or ``owner/name[@revision]``.
        name: The id that a local model has, or will have, on the Hub.
        options: Choices of the run.
        progress: Called while reading.

    Returns:
        The bytes of a file that stands for the model wherever one is asked for (``docs/fingerprint.md``).

    Raises:
        UsageError: When the call is wrong, or the model is an adapter.
        InputError: When the weights cannot be read.
        HubError: When the Hub does not deliver.
    """
    options = options or Options()
    return to_bytes(named(open_checkpoint(model, options=options), name, options, progress))


def _known_models(registry: str | None) -> KnownModels:
    from lineage_plugin.fingerprint.registry.scan import KnownModels, registry_folder

    return KnownModels(registry_folder(registry))


def _against_bases(
    subject: Subject | Printed, declaration: Declaration, given: Sequence[str], options: Options
) -> tuple[list[Checkpoint | Held], list[Comparison], list[Finding]]:
    """Compare with the bases that were given, or else with those that the card declares."""
    opened: list[Checkpoint | Held] = []
    comparisons: list[Comparison] = []
    findings: list[Finding] = []

    def compare_with(base: Checkpoint | Held) -> None:
        comparisons.append(subject.against(base))
        opened.append(base)

    if given:
        for base in given:
            compare_with(open_base(base, options))
        instead = ", ".join(one_line(base, 100) for base in given)
        findings.extend(
            _not_looked_at(
                claim,
                f"was not fetched; compared with {instead} instead",
                "note",
                "Make sure that it is a copy of the declared base; without --base the Hub's is read.",
            )
            for claim in declaration.bases
            if not any(_is_claimed(base, claim) for base in given)
        )
        return opened, comparisons, findings
    for claim in declaration.bases:
        if options.offline:
            help_ = "Run without --offline, or say with --base where a copy of the base is."
            findings.append(_not_looked_at(claim, "was not looked up: offline mode", "warning", help_))
            continue
        try:
            compare_with(_open_claim(claim, options))
        except (HubNotFound, HubDenied) as error:
            findings.append(base_not_found(claim, error.problem))
        except InputError as error:
            findings.append(
                finding(
                    error.code,
                    _message(error),
                    file=claim.file,
                    line=claim.line,
                    column=claim.column,
                    help=error.remedy,
                )
            )
    return opened, comparisons, findings


def _check_fingerprint(
    model: str,
    held: Held,
    given: Sequence[str],
    card: str | None,
    known: KnownModels | None,
    policy: Policy | None,
    options: Options,
    progress: Progress | None,
) -> Report:
    """Check a model of which only the fingerprint was given; its card, if any, is the one given."""
    text = None if card is None else card_file(card)
    declaration, findings = (Declaration(), ()) if text is None else read_card(text, file=card or "README.md")
    subject = Printed(held, options, progress)
    opened, comparisons, of_bases = _against_bases(subject, declaration, given, options)
    found = [*findings, *of_bases, *lineage_findings(comparisons, declaration)]
    if known is not None:
        relatives = in_registry(subject, known, declaration, opened, comparisons, card=text)
        comparisons += relatives.comparisons
        found += relatives.findings
    return report_of(model, subject.summary(), declaration, comparisons, found, held.cost, policy, options, card=card)


def _without_doubles(lineage: Sequence[Finding], relatives: Sequence[Finding]) -> list[Finding]:
    """Say of a merge parent without trace that it has none, and not once more that the weights do not support it."""
    lines = {(found.file, found.line) for found in relatives if found.code == "LIN106" and found.line is not None}
    kept = [found for found in lineage if not (found.code == "LIN101" and (found.file, found.line) in lines)]
    return [*kept, *relatives]


def compare(
    suspect: str,
    base: str,
    *,
    policy: Policy | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Weigh the evidence for one pair; cards are not looked at.

    Args:
        suspect: Local folder or file, or ``owner/name[@revision]``.
        base: The same.
        policy: As for :func:`check`.
        options: Choices of the run; None: the policy's bar and budget, else the defaults.
        progress: Called while reading.

    Returns:
        A report of one comparison and no findings but those about what could be compared.

    Raises:
        UsageError: When the call is wrong, or a path does not exist.
        InputError: When one of the models cannot be read.
        HubError: When the Hub does not deliver.
    """
    options = options or options_of(policy)
    held = fingerprint_file(suspect)
    if held is not None:
        subject: Subject | Printed = Printed(held, options, progress)
    else:
        opened = open_checkpoint(suspect, options=options)
        subject = Subject(opened, options, progress)
    comparison = subject.against(open_base(base, options))
    findings = [f for f in lineage_findings([comparison], Declaration()) if f.code == "LIN304"]
    spent = held.cost if held is not None else opened.cost()
    report = report_of(suspect, subject.summary(), Declaration(), [comparison], findings, spent, policy, options)
    return replace(report, command="compare")


def _read_with_care(suspect: Checkpoint) -> list[Finding]:
    """Warn of weights that this tool reads without running anything, and others do not."""
    if suspect.format != "pytorch":
        return []
    message = f"the weights are a pickle ({one_line(suspect.weight_files[0], 80)}), read without running what is in it"
    help_ = "Convert them to safetensors: whoever loads a pickle in the usual way runs its code."
    return [finding("LIN301", message, file=suspect.weight_files[0], help=help_, level="warning")]


def _other_weights(suspect: Checkpoint) -> list[Finding]:
    """Note weights beside those that were read: a loader may take them instead."""
    help_ = "A loader may take them instead. Check them by giving the file, or remove them."
    return [finding("LIN305", message, help=help_) for message in ignored_files(suspect)]


def _open_claim(claim: BaseClaim, options: Options) -> Checkpoint | Held:
    """Open a base that a card names: on the Hub, never as a path, whatever lies in the current folder."""
    return open_base(claim.id, options, (claim.id, claim.revision))


def _is_claimed(base: str, claim: BaseClaim) -> bool:
    """Return whether a base that was given is the declared one, at the commit that the card pins, if it pins one."""
    id, at, revision = base.partition("@")
    return id == claim.id and (not at or claim.revision in (None, revision))


def _weights_of(bases: Sequence[Checkpoint | Held], candidates: Sequence[str]) -> list[Checkpoint]:
    """Return the bases as relatives are weighed against each other: by their weights, so far as those can be had."""
    if len(bases) < 2 and not candidates:
        return [base for base in bases if not isinstance(base, Held)]
    found = [base if not isinstance(base, Held) else base.weights() if base.weights else None for base in bases]
    return [base for base in found if base is not None]


def _not_looked_at(claim: BaseClaim, what: str, level: Level, help: str) -> Finding:
    message = f"declared base {one_line(claim.id, 200)} {what}"
    return finding("LIN202", message, level=level, file=claim.file, line=claim.line, column=claim.column, help=help)


def _held_to(model: str, name: str | None, hub_id: str | None) -> str | None:
    """Return the id on the Hub that a card is held to; None when there is none."""
    if hub_id is not None or name is not None:
        return hub_id if hub_id is not None else name
    place = locate(model)
    return None if isinstance(place, str) else place.repo


def _message(error: InputError) -> str:
    return f"{one_line(error.where, 200)}: {error.problem}"


def _without_weights(
    model: str,
    name: str | None,
    hub_id: str | None,
    card: str | None,
    hub: bool,
    error: InputError,
    policy: Policy | None,
    options: Options,
) -> Report:
    """Return the report on a model whose weights cannot be read: the card's findings, and why."""
    source = source_of(model, options=options)
    id = _held_to(model, name, hub_id)
    said = said_by(source, model, stated=(), card=card, id=id, partial=True, hub=hub, options=options)
    unreadable = finding(error.code, error.problem, file=error.where, help=error.remedy)
    summary = ModelSummary(model, None, None, None, None)
    found = [*said.findings, unreadable]
    report = report_of(model, summary, said.declaration, [], found, said.cost, policy, options, card=card, name=name)
    return replace(report, chain=said.chain, licences=said.licences)
