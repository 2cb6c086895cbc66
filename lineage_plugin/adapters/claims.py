"""What an adapter claims, held against its own weight file and against the card (LIN302, LIN204)."""

from __future__ import annotations

from collections.abc import Iterator

from lineage_plugin.adapters.modules import Parts
from lineage_plugin.adapters.settings import CONFIG_FILE, AdapterSettings
from lineage_plugin.card import Declaration
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["contradictions", "revisions_differ"]


def contradictions(settings: AdapterSettings | None, parts: Parts) -> tuple[Finding, ...]:
    """Return what the weight file of an adapter has otherwise than its configuration says (LIN302, as a warning).

    Args:
        settings: What is claimed; None without a configuration.
        parts: What is there.

    Returns:
        The findings, one a contradiction, with the number of modules that it concerns.
    """
    help_ = "Save the adapter again with the configuration that it was trained with."
    if settings is None:
        message = f"there is no {CONFIG_FILE}, so neither base nor scale of the adapter is known"
        return (Finding("LIN302", "warning", message, CONFIG_FILE, None, "Put it beside the weights."),)
    return tuple(
        Finding("LIN302", "warning", message, CONFIG_FILE, None, help_) for message in _contradictions(settings, parts)
    )


def _contradictions(settings: AdapterSettings, parts: Parts) -> Iterator[str]:
    broken = [module for module in parts.modules if module.problem]
    if broken:
        first = broken[0]
        yield f"tensors of {len(broken)} modules do not fit together: {one_line(first.path)}: {first.problem}"
    if settings.method in ("LORA", "") and not settings.parameters:
        claims = [(module, settings.rank_of(module.path)) for module in parts.modules if module.method == "LORA"]
        wrong = [(m, r) for m, r in claims if r is not None and m.rank is not None and m.rank != r]
        if wrong:
            module, rank = wrong[0]
            where = f"{module.rank} in {one_line(module.path)}"
            yield f"rank {rank} is claimed, but {_modules(len(wrong))} of another: {where}"
    others = parts.methods - {settings.method}
    if settings.values.get("trainable_token_indices"):
        others -= {"TRAINABLE_TOKENS"}
    if settings.method and others and not (settings.method == "ADALORA" and others == {"LORA"}):
        found = one_line(", ".join(sorted(others)), 60)
        yield f"the type {one_line(settings.method, 30)} is claimed, but there are tensors of {found}"
    if settings.method == "LORA":
        magnitudes = any("lora_magnitude_vector" in module.parts for module in parts.modules)
        if magnitudes != settings.dora and parts.modules:
            yield (
                "use_dora is claimed, but there are no magnitudes"
                if settings.dora
                else "use_dora is not claimed, but there are magnitudes"
            )
    if settings.targets and parts.modules and settings.targets != ("all-linear",):
        adapted = [m.path for m in parts.modules if m.method in (settings.method, "LORA")]
        unclaimed = [p for p in adapted if not _is_target(p, settings)]
        if unclaimed:
            yield f"{_modules(len(unclaimed))} not among the claimed targets, such as {one_line(unclaimed[0])}"
        absent = [t for t in settings.targets if not any(p == t or p.endswith("." + t) for p in adapted)]
        if absent and not settings.parameters:
            yield f"{one_line(absent[0], 60)} is claimed as a target, but no module of this name is adapted"
    if settings.layers is not None:
        inside = [m.path for m in parts.modules if _layer(m.path) not in (None, *settings.layers)]
        if inside:
            yield f"layers_to_transform leaves out the layer of {one_line(inside[0])}, which is adapted"
    # Heads are listed under every name that they might have, so one of the names is enough.
    names = [f".{entry.name}" for entry in parts.saved]
    if settings.saved and not any(f".{module}." in name for module in settings.saved for name in names):
        yield f"modules_to_save names {one_line(settings.saved[0], 60)}, of which nothing is there"


def revisions_differ(declaration: Declaration, settings: AdapterSettings | None) -> tuple[Finding, ...]:
    """Compare the revision of the base in ``adapter_config.json`` with the card's (LIN204).

    Args:
        declaration: What the card declares.
        settings: What the adapter claims.

    Returns:
        At most one finding; none unless both name one base and pin it.
    """
    adapter = declaration.adapter
    if settings is None or adapter is None or adapter.revision in (None, "main"):
        return ()
    for claim in declaration.bases:
        if claim.id.lower() == adapter.id.lower() and claim.revision not in (None, adapter.revision):
            pinned = f"{one_line(adapter.revision, 60)}, and the card to {one_line(claim.revision, 60)}"
            message = f"{CONFIG_FILE} pins {claim.id} to {pinned}"
            help_ = "Pin both to the same revision."
            return (finding("LIN204", message, file=claim.file, line=claim.line, column=claim.column, help=help_),)
    return ()


def _is_target(path: str, settings: AdapterSettings) -> bool:
    if any(path == target or path.endswith("." + target) for target in settings.targets):
        return True
    return any(
        f"{path}." in f"{parameter}." or parameter.rpartition(".")[0] in path for parameter in settings.parameters
    )


def _layer(path: str) -> int | None:
    """Return the first number in a path, which is what PEFT holds against ``layers_to_transform``."""
    return next(
        (int(piece) for piece in path.split(".") if piece.isascii() and piece.isdigit() and len(piece) < 6), None
    )


def _modules(count: int) -> str:
    return "1 module is" if count == 1 else f"{count} modules are"
