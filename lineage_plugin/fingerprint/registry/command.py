"""What ``lineage registry`` does: one function a subcommand, all of which print and return the exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import UsageError
from lineage_plugin.fingerprint.registry.build import Built, Failure, Model, build, models_in, pin
from lineage_plugin.fingerprint.registry.entries import Listing
from lineage_plugin.fingerprint.registry.exchange import Merged, export_parquet, import_parquet, merge
from lineage_plugin.fingerprint.registry.scan import registry_folder
from lineage_plugin.fingerprint.registry.store import Added, Registry
from lineage_plugin.fingerprint.seed import seed_entries
from lineage_plugin.options import Options, Progress
from lineage_plugin.report.phrases import plural, size
from lineage_plugin.text import one_line

__all__ = ["run"]

LIST_LIMIT = 64 << 20
"""Bytes of a list of ids."""


def run(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    """Do what a subcommand says.

    Args:
        args: The parsed arguments; ``action`` names the subcommand.
        options: Choices of the run.
        progress: Called while it works.

    Returns:
        0; 1 when some models failed, or something in the registry or in an import is broken.

    Raises:
        UsageError: When the call is wrong, or there is no registry.
        InputError: When the registry or an input is damaged.
        HubError: When the Hub does not deliver.
    """
    folder = registry_folder(args.registry)
    makes = args.action in ("add", "build", "import", "merge", "pull")
    with Registry.open(folder, create=makes) as registry:
        return int(_ACTIONS[args.action](registry, args, options, progress))


def _add(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    if args.name is not None and (len(args.models) != 1 or not is_model_id(args.name)):
        raise UsageError("--name takes one model, and a model id for it such as owner/name")
    models = [Model(ref, args.name or "") for ref in args.models]
    return _built(registry, models, 1, options, progress)


def _build(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    models: list[Model] = []
    for source in args.sources:
        models.extend(_models(source))
    if args.seed_list:
        models.extend(Model(e.id if e.commit is None else f"{e.id}@{e.commit}") for e in seed_entries())
    if not models:
        raise UsageError("nothing to build from. Give ids, a folder of models, a file with an id a line, or --seed")
    return _built(registry, list(dict.fromkeys(models)), args.workers, options, progress)


def _models(source: str) -> Iterator[Model]:
    """Yield the models that a source names: a folder of models, a file of ids a line, or an id."""
    path = Path(source).expanduser()
    if path.is_dir():
        yield from models_in(path)
    elif path.is_file():
        if path.stat().st_size > LIST_LIMIT:
            raise UsageError(f"{one_line(source, 200)}: too long for a list of ids")
        text = path.read_text(encoding="utf-8", errors="replace")
        if "\0" in text:
            raise UsageError(f"{one_line(source, 200)}: no list of ids. `lineage registry add` takes a model's file")
        for line in text.splitlines():
            ref = line.partition("#")[0].strip()
            if ref:
                yield Model(ref)
    else:
        yield Model(source)


def _built(registry: Registry, models: list[Model], workers: int, options: Options, progress: Progress | None) -> int:
    try:
        found = build(
            registry, models, partial(pin, options=options), workers=workers, progress=progress, failed=_complain
        )
    except KeyboardInterrupt:
        print("stopped; what was added is kept, and the same command goes on from there", file=sys.stderr, flush=True)
        raise
    _say(registry, _summary(found))
    return 1 if found.failures or found.added.kept else 0


def _complain(failure: Failure) -> None:
    print(f"failed: {failure.problem}", file=sys.stderr, flush=True)


def _summary(found: Built) -> str:
    said = [*_changes(found.added)]
    if found.skipped:
        said.append(f"{found.skipped:,} there already")
    if found.failures:
        said.append(f"{len(found.failures):,} failed")
    return f"{', '.join(said) or 'nothing to do'}; {found.seconds:.1f} s"


def _changes(added: Added) -> Iterable[str]:
    counts = {
        "added": added.added,
        "replaced": added.replaced,
        "unchanged": added.unchanged,
        "left as they were (another fingerprint of the same commit)": len(added.kept),
    }
    return [f"{count:,} {what}" for what, count in counts.items() if count]


def _list(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    found = registry.listed(args.pattern)
    if args.json:
        print(json.dumps([_fields(listing) for listing in found], indent=1))
    else:
        width = max((len(one_line(listing.id, 200)) for listing in found), default=0)
        for listing in found:
            name = f"{one_line(listing.id, 200):{width}}"
            print(f"{name}  {one_line(listing.commit[:12])}  {_shape(listing)}, {listing.parameters:,} parameters")
    return 0


def _shape(listing: Listing) -> str:
    if listing.family == "unknown":
        return f"unknown layout, {plural(listing.layers, 'tensor')}"
    return f"{one_line(listing.family)}, {plural(listing.layers, 'layer')} of width {listing.width}"


def _fields(listing: Listing) -> dict[str, object]:
    return {
        "id": listing.id,
        "commit": listing.commit,
        "family": listing.family,
        "layers": listing.layers,
        "width": listing.width,
        "parameters": listing.parameters,
        "format": listing.format,
        "bases": list(listing.bases),
        "tool": listing.tool,
        "sha256": listing.sha256,
        "added": None if listing.added is None else listing.added.isoformat(timespec="seconds"),
    }


def _remove(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    removed = 0
    for ref in args.models:
        id, _, commit = ref.partition("@")
        count = registry.remove(id, commit or None)
        if not count:
            whole = " (a commit is given in full, as list --json shows it)" if commit else ""
            print(f"not there: {one_line(ref, 200)}{whole}", file=sys.stderr)
        removed += count
    _say(registry, f"{removed:,} removed")
    return 0 if removed else 1


def _export(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    count = export_parquet(registry, Path(args.file))
    _say(registry, f"{_entries(count)} written to {args.file}")
    return 0


def _import(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    return _merged(registry, import_parquet(registry, Path(args.file)))


def _merge(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    with Registry.open(args.other) as other:
        return _merged(registry, merge(registry, other))


def _merged(registry: Registry, found: Merged) -> int:
    for problem in found.problems:
        print(f"refused: {problem}", file=sys.stderr)
    refused = [f"{found.refused:,} refused"] if found.refused else []
    _say(registry, ", ".join([*_changes(found.added), *refused]) or "nothing to do")
    return 1 if found.refused else 0


def _stats(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    found = registry.stats()
    if args.json:
        fields = {"entries": found.rows, "bytes": found.bytes, "families": dict(found.families)}
        print(json.dumps({**fields, "same_weights": found.duplicates}, indent=1))
        return 0
    print(f"{_entries(found.rows)}, {size(found.bytes)}")
    if found.duplicates:
        print(f"{found.duplicates:,} of them have the weight files of another one, under another name or commit")
    for family, count in found.families.items():
        print(f"{count:9,}  {'unknown layout' if family == 'unknown' else one_line(family)}")
    return 0


def _verify(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    found = registry.verify(repair=args.repair, progress=progress)
    for fault in found.broken:
        entry = f"{one_line(fault.key.id, 200)} at {one_line(fault.key.commit[:12])}"
        print(f"broken: {entry}: {fault.problem}", file=sys.stderr)
    what = "removed" if found.repaired else "broken (--repair removes them)"
    said = [_entries(found.rows)]
    if found.broken:
        said.append(f"{len(found.broken):,} {what}")
    if found.outdated:
        said.append(f"{len(found.outdated):,} {'brought up to date' if found.repaired else 'out of date (--repair)'}")
    _say(registry, ", ".join(said) if len(said) > 1 else f"{said[0]}, none broken or out of date")
    return 1 if (found.broken or found.outdated) and not found.repaired else 0


def _compact(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    before = registry.stats().bytes
    registry.compact()
    _say(registry, f"{size(before)} before, {size(registry.stats().bytes)} now")
    return 0


def _pull(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.fingerprint.registry.hub import pull

    return _merged(registry, pull(registry, args.repository, options, progress=progress))


def _push(registry: Registry, args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.fingerprint.registry.hub import push

    found = push(registry, args.repository, options, progress=progress)
    sent = f"{plural(found.files, 'file')} sent" if found.files else "nothing new"
    _say(registry, f"{sent}; {args.repository} holds {_entries(found.rows)} at {found.commit[:12]}")
    return 0


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _say(registry: Registry, what: str) -> None:
    print(f"{registry.folder}: {what}", file=sys.stderr)


_ACTIONS = {
    "add": _add,
    "build": _build,
    "list": _list,
    "remove": _remove,
    "export": _export,
    "import": _import,
    "merge": _merge,
    "stats": _stats,
    "verify": _verify,
    "compact": _compact,
    "pull": _pull,
    "push": _push,
}
