"""What the Hub says of the bases that a card declares, and of theirs in turn; no byte of a weight file is read.

A request a model: the Hub's metadata hold its commit, what its card declares and the few values of its configuration
that are wanted. The card itself is fetched only where the Hub could not read its front matter, and the commit of
another revision only where a card pins one. The chain of bases is followed upwards, a generation at a time, each model
once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from lineage_plugin.card.declaration import BaseClaim, Declaration, declare
from lineage_plugin.card.front_matter import FrontMatter, read_front_matter
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.card.located import Entry, Kind, Located
from lineage_plugin.card.reference import Reference, parse_reference
from lineage_plugin.errors import HubDenied, HubError, HubNotFound, HubUnreachable, UsageError
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.checkpoint.ledger import Ledger
    from lineage_plugin.checkpoint.transport import Patience, Transport
    from lineage_plugin.checkpoint.types import Cost
    from lineage_plugin.options import Options

__all__ = ["DEEPEST", "MOST_MODELS", "HubAnswers", "ask_hub"]

MOST_MODELS: Final = 64
"""Most models that are asked for."""
DEEPEST: Final = 16
"""Most generations of bases that are followed."""

_CARD: Final = "README.md"
_QUERY: Final = "expand=cardData&expand=config&expand=gated&expand=sha&expand=siblings"
"""What is wanted of a model; a Hub that knows no ``expand`` answers with all of it and more."""
_QUERY_COMMIT: Final = "expand=sha"
_LARGEST_ANSWER: Final = 16 << 20
_LARGEST_CARD: Final = 64 << 10
_MOST_ITEMS: Final = 256
_KEYS: Final = ("base_model", "base_model_relation", "license", "license_name", "license_link", "new_version")


@dataclass(frozen=True, slots=True)
class HubAnswers:
    """What the Hub said.

    Attributes:
        models: The models by the id that names them: each declared base, the bases that their cards declare in turn,
            and the model itself where it exists. One that several cards spell in several ways is there under each, and
            under the name that it has now: a repair may write that.
        cost: What asking took.
    """

    models: Mapping[str, HubModel]
    cost: Cost


def ask_hub(
    declaration: Declaration, *, options: Options, name: str | None = None, patience: Patience | None = None
) -> HubAnswers:
    """Ask the Hub about every declared base, and follow the chain that their cards declare.

    Args:
        declaration: What the card declares.
        options: ``token``, ``endpoint`` and ``offline`` count here.
        name: The id that the model has, or will have, on the Hub.
        patience: How failures that may pass are met.

    Returns:
        The answers. A base that is not there, or not for everybody, is an answer, too.

    Raises:
        UsageError: When ``options.offline``, or ``HF_HUB_OFFLINE`` is set.
        HubUnreachable: When the Hub does not answer, or only with errors.
    """
    if options.offline:
        raise UsageError(
            "the Hub cannot be asked about the bases: offline mode. Run without --offline, or without --hub"
        )
    from lineage_plugin.checkpoint.hub import concurrently
    from lineage_plugin.checkpoint.ledger import Ledger

    ledger = Ledger("the Hub")
    asking = _Asking(options, ledger, patience, threading.Event(), _pins(declaration.bases))
    own = _id(name) if declaration.bases else None  # asked for only because a chain may lead to it
    known: dict[str, HubModel] = {}  # by id in lower case, as the Hub compares them
    spellings: dict[str, None] = {}
    asked = 0
    generation = [*_ids(declaration), *([] if own is None else [own])]
    with ledger.timed():
        for _ in range(DEEPEST):
            spellings |= dict.fromkeys(generation)
            new: dict[str, str] = {}
            for id in generation:
                if id.lower() not in known:
                    new.setdefault(id.lower(), id)
            ids = list(new.values())[: MOST_MODELS - asked]
            if not ids:
                break
            asked += len(ids)
            found = concurrently(asking.model, ids, asking.stop)
            for model in found:
                known[model.asked.lower()] = model
                known.setdefault(model.id.lower() or model.asked.lower(), model)
            # The bases of the model itself are those of the card in hand, whatever the one on the Hub says.
            itself = None if own is None else known.get(own.lower())
            ours = {own, "" if itself is None else itself.id}
            generation = [base for model in found if not ours & {model.asked, model.id} for base in model.bases]
    spellings |= dict.fromkeys(model.id for model in known.values() if model.id)
    models = {id: replace(known[id.lower()], asked=id) for id in spellings if id.lower() in known}
    if own is not None and own in models and models[own].state != "found" and own not in _ids(declaration):
        del models[own]  # not uploaded yet
    return HubAnswers(models, ledger.cost(0))


@dataclass(frozen=True, slots=True)
class _Asking:
    """How the Hub is asked.

    Attributes:
        options: Token and endpoint.
        ledger: Counts the requests.
        patience: How failures that may pass are met.
        stop: Ends the waiting of all requests when one has failed for good.
        pins: Revisions whose commit is wanted, by id in lower case.
    """

    options: Options
    ledger: Ledger
    patience: Patience | None
    stop: threading.Event
    pins: Mapping[str, tuple[str, ...]]

    def model(self, id: str) -> HubModel:
        """Ask about one model."""
        from lineage_plugin.checkpoint.hub import endpoint_of
        from lineage_plugin.checkpoint.repository import metadata
        from lineage_plugin.checkpoint.transport import Patience, Transport

        endpoint, token = endpoint_of(self.options.endpoint), self.options.token or None
        transport = Transport(id, endpoint, token, self.ledger, self.patience or Patience())
        try:
            info = metadata(transport, id, None, _QUERY, limit=_LARGEST_ANSWER, stop=self.stop)
        except HubUnreachable:
            raise
        except HubNotFound as error:
            return HubModel(id, "missing", error.problem)
        except HubDenied as error:
            return HubModel(id, "denied", error.problem)
        except HubError as error:
            return HubModel(id, "unknown", error.problem)
        commit = str(info["sha"])
        now = _id(info.get("id")) or id
        data = info.get("cardData")
        problem = ""
        if isinstance(data, dict):
            front = _front_matter(data)
        elif _has_card(info.get("siblings")):
            front, problem = self._card(transport, now, commit)
        else:
            front = FrontMatter()
        declaration = declare(front)
        if declaration.license is None and not problem and _is_garbled(front.get("license")):
            problem = "the license of its card is no text"
        gated = info.get("gated")
        return HubModel(
            id,
            "found",
            problem,
            id=now,
            commit=commit,
            revisions=dict(self._revisions(transport, id, commit)),
            gated=gated is True or (isinstance(gated, str) and gated != ""),
            licence=declaration.license,
            licence_name=_text(front, "license_name"),
            licence_link=_text(front, "license_link"),
            bases=tuple(dict.fromkeys(claim.id for claim in declaration.bases)),
            relation=declaration.relation,
            new_version=declaration.new_version,
            config=_config(info.get("config")),
        )

    def _revisions(self, transport: Transport, id: str, head: str) -> Iterator[tuple[str, str | None]]:
        """Yield each revision that a card pins a model to, with its commit, or None when there is none of this name."""
        from lineage_plugin.checkpoint.repository import metadata

        for pin in self.pins.get(id.lower(), ()):
            if pin in (head, "main"):
                yield pin, head
                continue
            try:
                info = metadata(transport, id, pin, _QUERY_COMMIT, limit=_LARGEST_ANSWER, stop=self.stop)
                yield pin, str(info["sha"])
            except HubUnreachable:
                raise
            except HubNotFound:
                yield pin, None
            except HubError:
                continue  # it is not known then whether there is one

    def _card(self, transport: Transport, id: str, commit: str) -> tuple[FrontMatter, str]:
        """Read the front matter of a card that the Hub could make nothing of.

        Returns:
            The front matter, empty when that fails here, too, and why it failed.
        """
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(id, _CARD, revision=commit, endpoint=transport.endpoint)
        try:
            answer = transport.get(url, limit=_LARGEST_CARD, stop=self.stop)
        except HubUnreachable:
            raise
        except HubError as error:
            return FrontMatter(), f"its card was not read: {error.problem}"
        if answer.status not in (200, 206):
            return FrontMatter(), f"its card was not read: the Hub answered HTTP {answer.status}"
        front = read_front_matter(answer.body)
        if not front.readable:
            return front, "the front matter of its card cannot be read"
        # What is longer was cut; it may state its licence further down.
        if front.line is None and len(answer.body) >= _LARGEST_CARD:
            return front, "its card is too long to be read"
        return front, ""


def _ids(declaration: Declaration) -> list[str]:
    return [claim.id for claim in declaration.bases]


def _pins(claims: Iterable[BaseClaim]) -> dict[str, tuple[str, ...]]:
    """Return the revisions that a card pins its bases to, by id in lower case."""
    pins: dict[str, tuple[str, ...]] = {}
    for claim in claims:
        if claim.revision is not None and claim.revision not in pins.get(claim.id.lower(), ()):
            pins[claim.id.lower()] = (*pins.get(claim.id.lower(), ()), claim.revision)
    return pins


def _id(value: object) -> str | None:
    """Return a value if it is a plain id of a model, else None."""
    if not isinstance(value, str):
        return None
    reference = parse_reference(value)
    return value if isinstance(reference, Reference) and reference.id == value else None


def _has_card(siblings: object) -> bool:
    return isinstance(siblings, list) and any(
        isinstance(sibling, dict) and sibling.get("rfilename") == _CARD for sibling in siblings
    )


def _is_garbled(value: Located | None) -> bool:
    """Tell whether something is stated that is no text, nor a list of texts."""
    return value is not None and (value.kind in ("mapping", "number", "boolean") or bool(value.items))


def _front_matter(data: Mapping[str, Any]) -> FrontMatter:
    """Return what the Hub read of a card as if it had been read here, so that one reading holds for both."""
    return FrontMatter(tuple(Entry(_located(key), _located(data[key])) for key in _KEYS if key in data))


def _located(value: object, *, inside: bool = False) -> Located:
    kind: Kind = "mapping"
    content: str | tuple[Located, ...] | None = ()
    if value is None:
        kind, content = "null", None
    elif isinstance(value, str):
        kind, content = "string", value
    elif isinstance(value, bool):
        kind, content = "boolean", str(value).lower()
    elif isinstance(value, (int, float)):
        kind, content = "number", str(value)
    elif isinstance(value, list) and not inside:
        kind, content = "list", tuple(_located(item, inside=True) for item in value[:_MOST_ITEMS])
    return Located(content, kind, 1, 1)


def _text(front: FrontMatter, key: str) -> str | None:
    value = front.get(key)
    return None if value is None or value.kind != "string" else one_line(value.text, 200) or None


def _config(value: object) -> dict[str, object]:
    """Return the values of a configuration that are used, fit to print."""
    if not isinstance(value, dict):
        return {}
    kept: dict[str, object] = {}
    if isinstance(model_type := value.get("model_type"), str) and one_line(model_type):
        kept["model_type"] = one_line(model_type)
    if isinstance(names := value.get("architectures"), list):
        kept["architectures"] = list(_names(names[:_MOST_ITEMS]))
    return kept


def _names(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str) and one_line(value):
            yield one_line(value)
