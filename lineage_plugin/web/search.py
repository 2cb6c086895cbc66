"""Help with the fields: models whose names hold what was typed, and the bases that a card declares.

Both ask the Hub themselves, since a visitor waits at a field. Names are looked up without a token and kept for some
minutes, so that many who type do not use up what the Hub allows; a failure is no answer, and nobody is bothered.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from lineage_plugin.card.reference import Reference, parse_reference
from lineage_plugin.checkpoint.hub import endpoint_of
from lineage_plugin.checkpoint.open import ModelId, parse_model_id
from lineage_plugin.checkpoint.transport import client_errors
from lineage_plugin.text import one_line
from lineage_plugin.web.aside import Lookups
from lineage_plugin.web.asked import asked
from lineage_plugin.web.jobs import Failed
from lineage_plugin.web.settings import Settings

__all__ = ["PATIENCE", "Search", "declared_bases"]

PATIENCE = 5.0
"""Seconds that a visitor waits at a field."""

MOST = 8
"""Models that are offered."""
_SHORTEST = 3
"""Characters from which the Hub is asked."""
_PAUSE, _KEPT = 0.25, 600.0
"""Seconds: from the last key to the request, and for which its answer is kept."""
_MOST_KEPT = 512
_AT_ONCE = 4
"""Names that are looked up at once."""
_MOST_BASES = 32


class Search:
    """Looks models up by a part of their name; safe to use from several threads.

    Args:
        settings: Which Hub is asked, and which models are offered besides.
        clock: Seconds that never go back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._lookups = Lookups(_AT_ONCE, PATIENCE)
        self._kept: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()

    async def __call__(self, typed: str, visitor: str) -> tuple[str, ...]:
        """Return at most :data:`MOST` names that hold what was typed, those that the server offers itself first.

        Args:
            typed: What is in the field.
            visitor: Who types.
        """
        wanted = typed.strip().lower()[:100]
        own = [name for name in self._settings.models if wanted in name.lower()][:MOST]
        if len(wanted) < _SHORTEST or typed.strip() in self._settings.models or "://" in wanted:
            return tuple(own)
        if self._settings.offline:
            return tuple(own)
        found = self._known(wanted)
        if found is None:
            await asyncio.sleep(_PAUSE)
            try:
                found = await self._lookups(visitor, lambda: self._asked(wanted))
            except Exception:  # whatever keeps the Hub from answering, the field works without
                return tuple(own)
            self._keep(wanted, found)
        return tuple([*own, *found][:MOST])

    def _asked(self, wanted: str) -> tuple[str, ...]:
        from huggingface_hub import get_session

        # HfApi.list_models would try again for half a minute, while nobody waits any more.
        address = f"{endpoint_of(self._settings.endpoint)}/api/models"
        answer = get_session().get(address, params={"search": wanted, "limit": MOST}, timeout=PATIENCE)
        names = [model["id"] for model in answer.raise_for_status().json()][:MOST]
        return tuple(name for name in names if isinstance(parse_reference(name), Reference))

    def _known(self, wanted: str) -> tuple[str, ...] | None:
        with self._lock:
            at, found = self._kept.get(wanted, (-_KEPT, ()))
            return found if self._clock() - at < _KEPT else None

    def _keep(self, wanted: str, found: tuple[str, ...]) -> None:
        with self._lock:
            self._kept[wanted] = (self._clock(), found)
            self._kept.move_to_end(wanted)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)


def declared_bases(typed: str, revision: str, settings: Settings, token: str | None = None) -> Sequence[str]:
    """Return the bases that the card of a model declares; of a model of the server its own names for them.

    The Hub is asked for the card's front matter as it reads it itself, so that nothing that a stranger wrote is parsed
    here, and without the token of whoever runs a Space.

    Args:
        typed: The model, as a visitor typed it.
        revision: Its revision, or empty.
        settings: Which Hub is asked.
        token: The visitor's token, or None.

    Raises:
        Failed: When it is no model, or its card cannot be had.
    """
    from lineage_plugin.linting.lint import lint
    from lineage_plugin.options import Options

    name = asked(typed, revision, settings=settings)
    if name in settings.models:
        declared = lint(str(settings.models[name]), options=Options(offline=True)).declared.bases
        return [_here(one_line(base, 200), settings) for base in declared]
    if settings.offline:
        raise Failed("unreachable", "This server does not ask the Hub. Type the base yourself.")
    return [
        base for base in _on_hub(parse_model_id(name), settings, token) if isinstance(parse_reference(base), Reference)
    ]


def _on_hub(model: ModelId, settings: Settings, token: str | None) -> Sequence[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=settings.endpoint, token=token or settings.token or False)
    http_error, _ = client_errors()
    try:
        found = api.model_info(model.repo, revision=model.revision, expand=["cardData"], timeout=PATIENCE)
    except RepositoryNotFoundError:
        raise Failed("missing", f"There is no model {model.repo} on the Hub, or it is private.") from None
    except RevisionNotFoundError:
        raise Failed("missing", f"{model.repo} has no revision {model.revision}.") from None
    except HFValidationError:
        raise Failed("usage", f"{model.repo} is no id of a model.") from None
    except (HfHubHTTPError, http_error, OSError, ValueError):
        raise Failed("unreachable", "The Hub does not answer this question now. Type the base yourself.") from None
    declared = getattr(found.card_data, "base_model", None)
    listed = declared if isinstance(declared, list) else [declared]
    return [base for base in listed if isinstance(base, str)][:_MOST_BASES]


def _here(base: str, settings: Settings) -> str:
    """Return the name under which the server offers a base that a model of its own declares."""
    here = base.partition("@")[0].replace("/", ":")
    return here if here in settings.models else base
