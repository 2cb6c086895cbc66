"""Where every request of ``huggingface_hub`` can be looked at before it leaves: the client of its HTTP library.

The library (httpx, from version 2.0 on httpx2) is used through one client that anybody may replace
(``set_client_factory``), and that is made anew after a lost connection. So not a client is watched but its class.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["watch_client"]

_LOCK = threading.Lock()
_watched: set[type] = set()


def watch_client(look: Callable[[Any], None]) -> None:
    """Have every request looked at, from now on.

    Args:
        look: Called with each request before it is sent; what it raises goes to whoever sends.
    """
    from huggingface_hub.errors import HfHubHTTPError

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    client = importlib.import_module(base.__module__.partition(".")[0]).Client
    with _LOCK:
        if client in _watched:
            return
        original = client.send

        @wraps(original)
        def send(self: Any, request: Any, *arguments: Any, **named: Any) -> Any:
            look(request)
            return original(self, request, *arguments, **named)

        client.send = send
        _watched.add(client)
