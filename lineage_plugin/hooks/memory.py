"""Answers that hold as long as nothing they rest on has changed: no byte of the weights and no commit of a base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path, PurePosixPath

from lineage_plugin.card import BaseClaim, claims_of_weights, read_card
from lineage_plugin.checkpoint.files import list_files
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.checkpoint.open import ModelId, locate, open_checkpoint
from lineage_plugin.errors import LineageError
from lineage_plugin.hooks.digests import Digests
from lineage_plugin.hooks.judge import Tree
from lineage_plugin.hooks.kept import KeptReports, key_of
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options
from lineage_plugin.policy.types import Policy
from lineage_plugin.targets import CARD, Target

__all__ = ["Remembering"]

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_UNSURE = frozenset({"LIN202", "LIN302"})
"""What may be otherwise next time: a base that was not opened, a file that could not be read."""


@dataclass(eq=False)
class Remembering:
    """Keeps reports by what they rest on; satisfies :class:`~lineage_plugin.hooks.judge.Memory`.

    Attributes:
        digests: The digests of local bases are had from here.
        bases: The bases that are given instead of the declared ones.
        kept: Where reports are kept.
    """

    digests: Digests
    bases: tuple[str, ...] = ()
    kept: KeptReports = field(default_factory=KeptReports)

    def recall(self, tree: Tree, target: Target, policy: Policy | None, options: Options) -> Report | None:
        """Return the report on a target when nothing it rests on has changed; see the protocol.

        Costs a request for each base on the Hub that is not pinned to a commit.
        """
        report = self.kept.get(self._key(tree, target, policy, options))
        if report is None:
            return None
        asked = self._revisions(tree, target)
        for comparison in report.comparisons:
            base = comparison.base
            if base.revision is None or not is_model_id(base.id):
                continue
            if _commit(base.id, asked.get(base.id), options) != base.revision:
                return None
        return report

    def keep(self, tree: Tree, target: Target, policy: Policy | None, options: Options, report: Report) -> None:
        """Keep a report, unless it says what may be otherwise next time."""
        if not _UNSURE & {found.code for found in report.findings}:
            self.kept.put(self._key(tree, target, policy, options), report)

    def _key(self, tree: Tree, target: Target, policy: Policy | None, options: Options) -> str:
        from lineage_plugin.checkpoint.hub import endpoint_of

        where = PurePosixPath(target.name)
        files = {name: digest for name, digest in tree.digests.items() if _belongs(name, where, tree.top)}
        return key_of(
            {
                "hub": endpoint_of(options.endpoint),
                "target": [tree.name, target.name, target.how, target.card, str(tree.folder)],
                "files": files,
                "card": tree.digests.get(target.card or ""),
                # Exceptions end by the day.
                "policy": [repr(policy), _today() if policy is not None and policy.exceptions else ""],
                "bases": self._given,
                # Its repr holds no token.
                "options": repr(options),
            }
        )

    @cached_property
    def _given(self) -> Mapping[str, object]:
        """What the given bases are: digests of local ones."""
        found: dict[str, object] = {}
        for base in self.bases:
            place = locate(base)
            if isinstance(place, str):
                path = Path(place)
                paths = [path / name for name in list_files(path)] if path.is_dir() else [path]
                found[base] = {str(path): digest for path, digest in self.digests.of(paths).items()}
            else:
                found[base] = ""
        return found

    def _revisions(self, tree: Tree, target: Target) -> dict[str, str | None]:
        """Return which revision of each base is asked for."""
        given = [place for base in self.bases if isinstance(place := locate(base), ModelId)]
        if self.bases:
            return {place.repo: place.revision for place in given}
        folder = tree.top / target.name
        card = tree.top / target.card if target.card is not None else folder / CARD
        adapter = folder / "adapter_config.json"
        stated: tuple[BaseClaim, ...] = ()
        if folder.is_dir() and target.how == "check":
            opened = open_checkpoint(str(folder), options=Options(offline=True))
            stated = claims_of_weights(opened.metadata, opened.weight_files[0])
        declaration, _ = read_card(
            card.read_bytes() if card.is_file() else None,
            adapter_config=adapter.read_bytes() if adapter.is_file() else None,
            stated=stated,
        )
        claims = (*declaration.bases, *((declaration.adapter,) if declaration.adapter is not None else ()))
        return {claim.id: claim.revision for claim in claims}


def _belongs(name: str, where: PurePosixPath, top: Path) -> bool:
    """Return whether a file counts for a target: those of its folder; for a file, those beside it."""
    folder = where if (top / where).is_dir() else where.parent
    return PurePosixPath(name).is_relative_to(folder)


def _commit(id: str, revision: str | None, options: Options) -> str | None:
    """Return the commit that a revision of a model is now; None when that cannot be found out."""
    if revision is not None and _COMMIT.match(revision):
        return revision
    if options.offline:
        return None
    from lineage_plugin.checkpoint.hub import connect

    try:
        return connect(id, revision, token=options.token, endpoint=options.endpoint, ledger=Ledger(id, None)).revision
    except LineageError:
        return None


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
