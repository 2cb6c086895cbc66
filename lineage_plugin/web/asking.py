"""A question from a form to its answer: what the visitor sees in the meantime, and how he stops it.

Each function that gradio calls takes the request first, and the visitor's token where he can sign in, see
:mod:`~lineage_plugin.web.oauth`; off a Space nothing here has a parameter for one. Nothing is raised to gradio, which
would show it as a pop-up: what goes wrong is a page, too.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import gradio as gr

from lineage_plugin.web import answer_page
from lineage_plugin.web.aside import Lookups
from lineage_plugin.web.asked import asked
from lineage_plugin.web.counts import counted
from lineage_plugin.web.desk import UNSEEN
from lineage_plugin.web.endpoints import visitor_of
from lineage_plugin.web.failures import failed_of
from lineage_plugin.web.jobs import Failed, Job, Kind, Update
from lineage_plugin.web.oauth import may_sign_in, token_of
from lineage_plugin.web.search import PATIENCE, declared_bases
from lineage_plugin.web.settings import Settings

if TYPE_CHECKING:
    from lineage_plugin.web.desk import Desk, Ticket
    from lineage_plugin.web.guard import Listeners

__all__ = ["Asking", "Shown"]

Shown: TypeAlias = tuple[Any, ...]
"""Values of the outputs of an event, in order."""
_AT_ONCE = 4
"""Cards whose bases are looked up at once."""
_SOON, _TRIES = 5.0, 50
"""Seconds in which a page that was answered at once begins to listen, and how often it is looked for."""
_MOST_LINKS = 1000
"""Links that were answered last; gradio tells of each more than once."""


class Asking:
    """Asks the desk for the forms.

    Args:
        desk: Where questions are answered.
        settings: Choices of the server.
        listeners: Which pages listen; None: all are taken to.
    """

    def __init__(self, desk: Desk, settings: Settings, listeners: Listeners | None = None) -> None:
        self._desk = desk
        self._settings = settings
        self._listeners = listeners
        self._links: OrderedDict[str, None] = OrderedDict()
        self._running: dict[tuple[str, str, Kind], Ticket] = {}
        self._lookups = Lookups(_AT_ONCE, 2 * PATIENCE)

    def answering(self, kind: Kind, named: Callable[..., Sequence[tuple[str, str]] | None]) -> Callable[..., Any]:
        """Return the function that answers a form; its outputs are the answer's place, *Check* and *Cancel*.

        Args:
            kind: The kind of the question.
            named: Makes pairs of model and revision of the values of the form; None where nothing is asked.
        """

        def shown(request: gr.Request, token: str | None, texts: Sequence[Any]) -> AsyncIterator[Shown]:
            return self._answer(kind, named(*(text or "" for text in texts)), request, token)

        if may_sign_in(self._settings):

            async def signed(
                request: gr.Request, signed_in: gr.OAuthToken | None, *texts: str | None
            ) -> AsyncIterator[Shown]:
                async with _closing(shown(request, token_of(signed_in, request, self._settings), texts)) as pages:
                    async for page in pages:
                        yield page

            return signed

        return self._anonymous(shown)

    def answering_links(self, kind: Kind) -> Callable[..., Any]:
        """Return the function that answers what a link or an example asks, see ``tabs.link_value``.

        It asks without the visitor's sign-in: any page can lead his browser to a link, and he has pressed nothing.

        Args:
            kind: The kind of the question.
        """

        def shown(request: gr.Request, token: str | None, values: Sequence[Any]) -> AsyncIterator[Shown]:
            once, *models = values[0] or ("",)
            known = once in self._links
            self._links[once] = None
            if len(self._links) > _MOST_LINKS:
                self._links.popitem(last=False)
            named = None if known or not models else [(model, "") for model in models]
            return self._answer(kind, named, request, None)

        return self._anonymous(shown)

    @staticmethod
    def _anonymous(shown: Callable[..., AsyncIterator[Shown]]) -> Callable[..., Any]:
        async def anonymous(request: gr.Request, *texts: Any) -> AsyncIterator[Shown]:
            async with _closing(shown(request, None, texts)) as pages:
                async for page in pages:
                    yield page

        return anonymous

    def cancelling(self, kind: Kind) -> Callable[..., Any]:
        """Return the function that cancels what a form has asked; the page says so by itself."""

        def cancel(request: gr.Request) -> None:
            ticket = self._running.get(self._key(request, kind))
            if ticket is not None:
                ticket.cancel()

        return cancel

    def declaring(self) -> Callable[..., Any]:
        """Return the function that fills the declared base in; its outputs are the field, a choice and a remark."""

        async def filled(request: gr.Request, token: str | None, suspect: str | None, revision: str | None) -> Shown:
            try:
                bases = await self._lookups(
                    visitor_of(request, self._settings),
                    lambda: declared_bases(suspect or "", revision or "", self._settings, token),
                )
            except Failed as failed:
                return gr.skip(), gr.Radio(visible=False), answer_page.note(failed.message)
            except Exception as error:
                message = failed_of(error, self._settings, token).message
                return gr.skip(), gr.Radio(visible=False), answer_page.note(message)
            if not bases:
                return gr.skip(), gr.Radio(visible=False), answer_page.note("The card declares no base.")
            if len(bases) == 1:
                return bases[0], gr.Radio(visible=False), answer_page.note(f"The card declares {bases[0]}.")
            said = f"The card declares {len(bases)} bases. Choose the one to compare with; Check a card takes them all."
            return bases[0], gr.Radio(choices=list(bases), value=bases[0], visible=True), answer_page.note(said)

        if may_sign_in(self._settings):

            async def signed(
                request: gr.Request, signed_in: gr.OAuthToken | None, suspect: str | None, revision: str | None
            ) -> Shown:
                return await filled(request, token_of(signed_in, request, self._settings), suspect, revision)

            return signed

        async def anonymous(request: gr.Request, suspect: str | None, revision: str | None) -> Shown:
            return await filled(request, None, suspect, revision)

        return anonymous

    def _listens(self, request: gr.Request) -> bool:
        return self._listeners is None or (request.session_hash or "") in self._listeners

    def _key(self, request: gr.Request, kind: Kind) -> tuple[str, str, Kind]:
        """Return what a running question is known by; the session is what the visitor says it is."""
        return visitor_of(request, self._settings), request.session_hash or "", kind

    async def _answer(
        self, kind: Kind, named: Sequence[tuple[str, str]] | None, request: gr.Request, token: str | None
    ) -> AsyncIterator[Shown]:
        if named is None:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        job, ticket, key = None, None, self._key(request, kind)
        try:
            # Counted first: whoever sends ten thousand names is told so before each of them is looked at.
            counted(Job(kind, tuple(model for model, _ in named)))
            job = Job(kind, tuple(asked(model, revision, settings=self._settings) for model, revision in named))
            if (before := self._running.get(key)) is not None:
                before.cancel()
            ticket = self._desk.ask(job, visitor=visitor_of(request, self._settings), token=token)
            self._running[key] = ticket
            try:
                # Closed with this generator: a visitor who leaves gives his place back.
                async with _closing(ticket.follow()) as updates:
                    yield (
                        answer_page.progress(job, Update("waiting")),
                        gr.Button(visible=False),
                        gr.Button(visible=True),
                    )
                    heard = time.monotonic()
                    async for update in updates:
                        heard = time.monotonic() if self._listens(request) else heard
                        if time.monotonic() - heard > UNSEEN:
                            ticket.cancel()  # gradio goes on whether anybody listens or not
                        yield answer_page.progress(job, update), gr.skip(), gr.skip()
                answer = ticket.answer()
            finally:
                # Here, too, since updates that were never asked for cannot notice that they are closed.
                ticket.cancel()
                if self._running.get(key) is ticket:
                    del self._running[key]
            if answer is None:
                raise Failed("cancelled", "The check was cancelled.")
            page = await asyncio.to_thread(answer_page.answered, answer, self._settings)
            for _ in range(_TRIES):
                if self._listens(request):
                    break
                await asyncio.sleep(_SOON / _TRIES)
            else:
                raise Failed("cancelled", "The check was cancelled.")  # an answer that nobody fetches would stay
        except Failed as failed:
            page = answer_page.failure(failed, job)
        except Exception as error:
            page = answer_page.failure(failed_of(error, self._settings, token), job)
        if ticket is None or self._running.get(key) in (None, ticket):
            yield page, gr.Button(visible=True), gr.Button(visible=False)
        else:  # the same form has asked something else in the meantime, and shows that
            yield gr.skip(), gr.skip(), gr.skip()


def _closing(pages: AsyncIterator[Any]) -> aclosing[AsyncGenerator[Any, None]]:
    return aclosing(cast("AsyncGenerator[Any, None]", pages))
