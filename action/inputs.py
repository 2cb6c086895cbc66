"""The inputs of the action, read from the environment and checked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from lineage_plugin.cli import parse_size
from lineage_plugin.errors import UsageError
from lineage_plugin.report import FailOn, formats
from lineage_plugin.text import one_line

__all__ = ["CommentMode", "Inputs", "read_inputs"]

CommentMode = Literal["true", "findings", "false"]

MAX_MODELS = 256
"""A job checks no more; a larger list is better split over a matrix."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the workflow asks for.

    Attributes:
        models: Folders, files or ids; empty for those that the event changed.
        bases: Bases instead of the declared ones.
        card: A card elsewhere than in the model.
        policy: A policy file.
        fail_on: Lowest level of finding that fails; None as the policy says.
        format: Format of the report file.
        budget: Bytes that may be read of each model.
        token: Hub token.
        endpoint: Hub.
        comment: Whether to comment on the pull request.
        report_file: Where the report goes; None for a temporary place.
        sarif_file: Where the SARIF report goes; likewise.
        predicate_file: Where the in-toto predicate goes; None for nowhere.
    """

    models: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    card: str | None = None
    policy: str | None = None
    fail_on: FailOn | None = None
    format: str = "json"
    budget: int | None = None
    token: str | None = None
    endpoint: str | None = None
    comment: CommentMode = "true"
    report_file: str | None = None
    sarif_file: str | None = None
    predicate_file: str | None = None

    def __repr__(self) -> str:
        return f"Inputs(models={self.models!r}, bases={self.bases!r})"


def read_inputs(environment: Mapping[str, str]) -> Inputs:
    """Return the inputs.

    Args:
        environment: Variables ``INPUT_<NAME>``, as ``action.yml`` sets them; an empty one is as good as none.

    Raises:
        UsageError: When one has a value that it cannot have; names it.
    """

    def text(name: str) -> str | None:
        value = environment.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip()
        if "\0" in value or (name != "model" and name != "base" and len(value.splitlines()) > 1):
            raise UsageError(f"input {name}: must be a single line")
        return value or None

    def lines(name: str) -> tuple[str, ...]:
        found = (line.strip() for line in (text(name) or "").splitlines())
        return tuple(dict.fromkeys(line for line in found if line and not line.startswith("#")))

    def choice(name: str, among: tuple[str, ...], default: str | None) -> str | None:
        value = text(name)
        if value is None:
            return default
        if value not in among:
            raise UsageError(f"input {name}: {one_line(value, 40)!r} is not one of {', '.join(among)}")
        return value

    models, bases, card = lines("model"), lines("base"), text("card")
    if len(models) > MAX_MODELS:
        raise UsageError(
            f"input model: {len(models)} models; a job checks {MAX_MODELS} at most, so split them over a matrix"
        )
    for name, given in (("base", bases), ("card", card)):
        if given and len(models) != 1:
            raise UsageError(f"input {name}: goes with exactly one model in the input model")
    for model in (*models, *bases):
        # An option would be taken for one by nothing here; it is a mistake all the same.
        if model.startswith("-"):
            raise UsageError(f"input model: {one_line(model, 80)!r} is neither a folder nor an id")
    budget = text("budget")
    try:
        size = None if budget is None else parse_size(budget)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"input budget: {error}") from None
    return Inputs(
        models=models,
        bases=bases,
        card=card,
        policy=text("policy"),
        fail_on=cast("FailOn | None", choice("fail-on", get_args(FailOn), None)),
        format=choice("format", formats(), "json") or "json",
        budget=size,
        token=text("hf-token"),
        endpoint=text("endpoint"),
        comment=cast(CommentMode, choice("comment", get_args(CommentMode), "true")),
        report_file=text("report-file"),
        sarif_file=text("sarif-file"),
        predicate_file=text("predicate-file"),
    )
