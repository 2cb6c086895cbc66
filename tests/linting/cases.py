"""The corpus of model cards that the linter is measured on: folders of ``corpus/``, each with its expected findings.

``expected.json`` of a case gives

- ``about``: the kind of public card it is modelled on, and the fact behind the label;
- ``honest``: whether nobody could fairly be warned about this card;
- ``name``: the id the model has on the Hub, or null;
- ``files``: further files that the model has, by name only: weights, mostly;
- ``hub``: null, or for each id the fields of :class:`~lineage_plugin.card.hub_models.HubModel` that the Hub tells;
- ``findings``: ``[code, level, line, column]`` or ``[code, level, line, column, file]`` each. The file is the card
  where it is not given; a column of null is not compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lineage_plugin.card import read_card
from lineage_plugin.card.gather import gather
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.findings import Finding

CORPUS = Path(__file__).parent / "corpus"
CARD = "README.md"
EXPECTED = "expected.json"


@dataclass(frozen=True)
class Label:
    """A finding that a case expects."""

    code: str
    level: str
    line: int | None
    column: int | None
    file: str = CARD

    @property
    def alarm(self) -> bool:
        """Whether it is more than advice."""
        return self.level != "note"

    def meets(self, found: Label) -> bool:
        """Say whether a finding is the expected one."""
        column = found.column if self.column is None else self.column
        return replace(self, column=column) == found


@dataclass(frozen=True)
class Case:
    """A model folder with the findings that it expects."""

    name: str
    folder: Path
    about: str
    honest: bool
    model: str | None
    neighbours: tuple[str, ...]
    unwritten: tuple[str, ...]
    hub: dict[str, HubModel] | None
    labels: tuple[Label, ...]

    @property
    def card(self) -> bytes | None:
        """The bytes of the card; None: the model has none."""
        card = self.folder / CARD
        return card.read_bytes() if card.exists() else None

    def read(self, name: str, limit: int) -> bytes | None:
        """Give a file beside the card, as :func:`~lineage_plugin.card.gather.gather` asks for it."""
        if name not in self.neighbours:
            return None
        content = (self.folder / name).read_bytes()
        return content if len(content) <= limit else None

    def lint(self) -> tuple[Label, ...]:
        """Run the linter over the case, as ``lineage lint`` does, the Hub's answers given."""
        return tuple(Label(f.code, f.level, f.line, f.column, f.file or "") for f in self.findings())

    def findings(self) -> tuple[Finding, ...]:
        """Return what the linter finds."""
        card = self.card
        text = "" if card is None else card.decode("utf-8", "surrogateescape")
        files = {*self.neighbours, *self.unwritten} | ({CARD} if card is not None else set())
        return read_card(
            card,
            adapter_config=self.read("adapter_config.json", 1 << 20),
            name=self.model,
            beside=gather(self.read, files, text=text),
            hub=self.hub,
        )[1]


@cache
def cases() -> tuple[Case, ...]:
    """Return every case, by name."""
    return tuple(_case(path) for path in sorted(CORPUS.glob(f"*/*/{EXPECTED}")))


def differences(expected: tuple[Label, ...], found: tuple[Label, ...]) -> tuple[list[Label], list[Label]]:
    """Return the labels that no finding meets, and the findings that meet no label; each is used once."""
    missing, left = [], list(found)
    # Exact places first: a label that leaves its column open must not take the finding of one that does not.
    for label in sorted(expected, key=lambda one: one.column is None):
        met = next((one for one in left if label.meets(one)), None)
        if met is None:
            missing.append(label)
        else:
            left.remove(met)
    return missing, left


def _case(path: Path) -> Case:
    expected: dict[str, Any] = json.loads(path.read_text("utf-8"))
    folder = path.parent
    return Case(
        name=folder.relative_to(CORPUS).as_posix(),
        folder=folder,
        about=expected["about"],
        honest=expected["honest"],
        model=expected["name"],
        neighbours=tuple(sorted(_neighbours(folder))),
        unwritten=tuple(expected["files"]),
        hub=None if expected["hub"] is None else {id: _model(id, facts) for id, facts in expected["hub"].items()},
        labels=tuple(Label(*found) for found in expected["findings"]),
    )


def _neighbours(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (CARD, EXPECTED):
            yield path.relative_to(folder).as_posix()


def _model(asked: str, facts: dict[str, Any]) -> HubModel:
    return HubModel(asked, **{key: tuple(value) if key == "bases" else value for key, value in facts.items()})
