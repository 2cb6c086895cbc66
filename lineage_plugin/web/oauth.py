"""Whose rights a question has: the visitor's own token, on a Space, for that one question.

A form takes two parameters more, which gradio fills in, and hands both on::

    async def answer(..., request: gr.Request, signed_in: gr.OAuthToken | None = None) -> ...:
        token = token_of(signed_in, request, settings)
        ticket = desk.ask(job, visitor=visitor_of(request, settings), token=token)

and the page shows ``gr.LoginButton()`` where :func:`may_sign_in` says so; elsewhere gradio would pretend to sign in.

gradio keeps the token in a signed cookie of the visitor's browser and in nothing else. It stays out of values of
components, ``gr.State``, log lines and messages of errors: it goes from here to the desk, from there through a pipe to
one worker, and ends with that process. An answer that was had with one is kept for nobody.

The API and the MCP server take no token. gradio would let a caller send one (``Client(oauth_token=...)``), but as part
of the event's data, which wait in the queue with it; and nobody should get used to handing tokens to other people's
servers. Who needs a gated model outside the browser runs ``lineage`` himself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import gradio as gr

    from lineage_plugin.web.settings import Settings

__all__ = ["may_sign_in", "token_of"]

_OURS = ("same-origin", "none")


def may_sign_in(settings: Settings) -> bool:
    """Return whether visitors can sign in: on a Space whose front matter has ``hf_oauth: true``."""
    # The second is what gradio goes by; elsewhere its button would look for the token of whoever runs the server.
    return settings.on_space and os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


def token_of(signed_in: gr.OAuthToken | None, request: gr.Request | None, settings: Settings) -> str | None:
    """Return the token of the visitor who asks.

    Args:
        signed_in: What gradio has for him; None when he did not sign in or it has expired.
        request: His request.
        settings: Choices of the server.

    Returns:
        The token; None off a Space, without one, and for a request that another site made his browser send: the cookie
        is sent along with those, too, and gradio lets the other site read the answer.
    """
    if signed_in is None or not signed_in.token or not may_sign_in(settings) or not _is_of_our_pages(request):
        return None
    return str(signed_in.token)


def _is_of_our_pages(request: gr.Request | None) -> bool:
    """Whether a request comes from our own pages, or from no browser at all (https://www.w3.org/TR/fetch-metadata/)."""
    if request is None:
        return False
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in _OURS
    if origin is None:
        return True
    own = {host.strip().lower() for host in os.environ.get("SPACE_HOST", "").split(",")}
    own.add(request.headers.get("host", "").lower())
    return urlsplit(origin).netloc.lower() in own - {""}
