"""The API and the MCP tools: the questions of the pages for programs and language models.

Each function is an endpoint of gradio's API and a tool of its MCP server; its docstring is what both tell of it, so it
is written for who has read nothing else. Of its lines gradio takes the sentences before ``Args`` and one line for each
argument and for what is returned.

A client of the API waits in gradio's queue, from where it can cancel. An MCP client is answered by the request itself
(``queue=False`` means nothing else here): that holds no thread while it waits, the visitor's address is his own, and he
gets JSON as text, where gradio would write Python's ``str`` of it. Either way whoever goes away frees his place.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.context import Context, LocalContext
from gradio.events import api

from lineage_plugin.judge.types import Report
from lineage_plugin.web.failures import STUMBLED
from lineage_plugin.web.jobs import Answer, Failed, Job

if TYPE_CHECKING:
    from lineage_plugin.family.types import Family
    from lineage_plugin.web.desk import Desk
    from lineage_plugin.web.jobs import Kind
    from lineage_plugin.web.settings import Settings

__all__ = ["add", "visitor_of"]

_MOST_HOPS = 20
_UNUSABLE = "These values cannot be used: there are too few of them, or they are of another kind than the page sends."


def add(desk: Desk, settings: Settings) -> None:
    """Add the endpoints to the pages that are being built, inside their ``gr.Blocks``.

    Args:
        desk: Where questions are answered.
        settings: Choices of the server; ``scan`` is there only with a registry.
    """

    async def compare(suspect: str, base: str) -> dict[str, Any]:
        """Weigh the evidence in the weights that one model descends from another, whatever its card says.

        Reads a few megabytes of each model on the Hugging Face Hub, not the whole, and takes seconds to minutes.
        comparisons[0].relation is the answer. identical: the same weights. derived: the models share learned weights,
        so one descends from the other, or both from a third; it does not say which, nor that anybody did wrong.
        shared-init: a common start, such as the same initial weights, but not what the base learned. unrelated: the
        weights behave like those of independent models; distillation and training on outputs leave no trace in weights.
        inconclusive: what was read does not settle it. log10_e is the decimal logarithm of an e-value: evidence against
        independence, no probability. Quote the summary and the limits with the relation.

        Args:
            suspect: Id of the model that may descend, as owner/name or owner/name@revision, or its page's address.
            base: Id of the model that it may descend from, as owner/name or owner/name@revision, or the address.

        Returns:
            The report as JSON of schema lineage-report/1; summary is the answer in a sentence.
        """
        return await _answer(desk, settings, "compare", [suspect, base])

    async def check(model: str) -> dict[str, Any]:
        """Check whether a model really comes from the base models that its card declares.

        Reads the card and a few megabytes of the model and of every declared base on the Hugging Face Hub, and takes
        seconds to minutes. verdict is pass (nothing that was checked contradicts the card; with nothing declared there
        was nothing to compare), fail (weights or card contradict what is declared) or undecided (the evidence decides
        neither way, or a base could not be read). findings are remarks on card and weights with level, message and
        help; comparisons holds a relation for each base, which compare explains. A failed check is a contradiction to
        be explained, no proof of intent.

        Args:
            model: Id of the model, as owner/name or owner/name@revision, or the address of its page on the Hub.

        Returns:
            The report as JSON of schema lineage-report/1; verdict and summary are the answer.
        """
        return await _answer(desk, settings, "check", [model])

    async def scan(model: str) -> dict[str, Any]:
        """Look for the parent of a model among the known models of this server's registry.

        Compares a fingerprint of the model with all that are registered, then weighs the evidence for the best matches.
        comparisons holds one relation a candidate, the strongest first, which compare explains; none means that no
        registered model is related, not that the model was trained from scratch.

        Args:
            model: Id of the model, as owner/name or owner/name@revision, or the address of its page on the Hub.

        Returns:
            The report as JSON of schema lineage-report/1; summary is the answer in a sentence.
        """
        return await _answer(desk, settings, "scan", [model])

    async def tree(models: list[str]) -> dict[str, Any]:
        """Work out the family tree of two to eight models: which of them share learned weights with which.

        Every pair is compared by fingerprints, for which some megabytes of each model are read; pairs in which a card
        declares the other are compared once more by weights. summary says how many families there are. trees holds
        each: a branch joins models of which none of the family is nearer by weights, and does not say parent and child.
        links holds a relation for every pair, which compare explains; its log10_e is divided by the number of tests.
        claims holds what cards declare about each other: supported, contradicted or undecided by the weights, or not
        tested. limits says what was assumed or left out.

        Args:
            models: Ids of 2 to 8 models, each as owner/name or owner/name@revision, or the address of its page.

        Returns:
            The family as JSON of schema lineage-tree/1; models are named by their number, from 0.
        """
        return await _answer(desk, settings, "tree", models)

    for endpoint in (compare, check, *([scan] if settings.registry else []), tree):
        # gradio looks names of parameters' types up, but not that of what is returned, and knows no dict of anything.
        endpoint.__annotations__["return"] = dict
        api(endpoint, api_name=endpoint.__name__, queue=False, concurrency_limit=None)
    if Context.root_block is not None:
        _refuse_in_words(Context.root_block)


def _refuse_in_words(ui: gr.Blocks) -> None:
    """Refuse values that no page sends with a sentence; gradio would print a traceback for every hand-made event."""
    taken = ui.preprocess_data

    async def preprocess_data(*values: Any, **named: Any) -> Any:
        try:
            return await taken(*values, **named)
        except Exception:
            raise gr.Error(_UNUSABLE, duration=None, print_exception=False) from None

    ui.preprocess_data = preprocess_data  # type: ignore[method-assign]


async def _answer(desk: Desk, settings: Settings, kind: Kind, models: object) -> dict[str, Any]:
    """Ask the desk and wait; nothing but the answer, or one sentence, comes out."""
    request = LocalContext.request.get()
    is_api = isinstance(request, gr.Request)  # gradio hands the request of an MCP call on as it is
    try:
        job = Job(kind, _named(models))
        written = _written((await _followed(desk, job, visitor_of(request, settings), request)).result)
    except Exception as error:
        if not isinstance(error, Failed):
            # The message of what is not meant for visitors might hold anything.
            sys.stderr.write(f"lineage: the API stumbled over {type(error).__name__}\n")
            error = Failed("defect", STUMBLED)
        if is_api:
            raise gr.Error(error.message, duration=None, print_exception=False) from None
        raise error from None
    return cast("dict[str, Any]", json.loads(written) if is_api else written)


def _written(result: Report | Family) -> str:
    """Return an answer as JSON."""
    if isinstance(result, Report):
        from lineage_plugin.report import render

        return render(result, "json")
    from lineage_plugin.family.report import render as render_family

    return render_family(result, "json")


def _named(models: object) -> tuple[str, ...]:
    """Return the models of a call, whose types nobody has checked; what they say, the desk does."""
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise Failed("usage", "Models are named by text, such as owner/name; several as a list of them.")
    return tuple(models)


async def _followed(desk: Desk, job: Job, visitor: str, request: gr.Request | None) -> Answer:
    """Wait for an answer as long as somebody listens; gradio cancels this task where its client says so."""
    ticket = desk.ask(job, visitor=visitor)
    try:
        async for _ in ticket.follow():
            if await _is_gone(request):
                raise Failed("cancelled", "Nobody waits for the answer any more.")
        answer = ticket.answer()
    finally:
        ticket.cancel()
    if answer is None:
        raise Failed("cancelled", "The question was cancelled.")
    return answer


async def _is_gone(request: Any) -> bool:
    """Return whether the connection is closed over which the answer would go."""
    event, blocks = LocalContext.event_id.get(), LocalContext.blocks.get()
    if event is None or blocks is None:
        connection = getattr(request, "request", request)
        return connection is not None and bool(await connection.is_disconnected())
    # The request that joined the queue has long been answered. gradio marks the event, but lets a coroutine run on.
    try:
        running = (job for jobs in blocks._queue.active_jobs for job in jobs or ())
        return any(job._id == event and not job.alive for job in running)
    except (AttributeError, TypeError):
        # Of another gradio, where they are called otherwise: the desk's own limits have to do.
        return False


def visitor_of(request: gr.Request | None, settings: Settings) -> str:
    """Return whom the limits of a visitor count.

    On a Space every connection comes from a proxy, which writes the address that it saw behind those that the header
    ``X-Forwarded-For`` held already. A visitor may put in front what he likes, so the last address counts that is not
    one of the platform's own network. Elsewhere it is the address of the connection. Of IPv6 the network counts, since
    a household has 2^64 addresses.

    Args:
        request: The request; None where gradio has none.
        settings: Choices of the server.

    Returns:
        The address or network; one name for all whose address is not known.
    """
    if request is None:
        return "unknown"
    if settings.on_space:
        # A header may come more than once, and all count.
        hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for hop in reversed(hops[-_MOST_HOPS:]):
            address = _address(hop.strip())
            if address is not None and address.is_global:
                return _network(address)
    host = request.client.host if request.client is not None else ""
    address = _address(host)
    return "unknown" if address is None else _network(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))
