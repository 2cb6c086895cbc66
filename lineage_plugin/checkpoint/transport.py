"""HTTP as the Hub speaks it, with nothing believed and everything counted.

The session is the one of ``huggingface_hub``, so that its proxies, certificates and client factory hold here, too.
What that client would do by itself is done here instead, because each step has to be seen: redirects (every hop is a
request; the token stays with the endpoint), retries, and bodies (streamed, never longer than asked for, never
decompressed).

All failures leave as :class:`HubError`; no message holds a token or a signed address.
"""

from __future__ import annotations

import email.utils
import importlib
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from lineage_plugin._version import __version__
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import HubError, HubUnreachable, UsageError

__all__ = ["Answer", "Patience", "Transport", "client_errors", "network_problem"]

_TIMEOUTS = (10.0, 30.0, 30.0, 60.0)
"""Seconds to connect, to wait for bytes, to send, and to wait for a free connection."""
_DEADLINE = 120.0
_SLOWEST = 32 * 1024
"""A whole answer may take ``_DEADLINE`` seconds, and one more for each ``_SLOWEST`` bytes of it."""
_REDIRECTS = 5
_SKIPPABLE = 8 << 20
"""Bytes that may be read and thrown away when a server ignores a range."""
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"^bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)
_TOKEN = re.compile(r"^[\x21-\x7e]+\Z")


@dataclass(frozen=True, slots=True)
class Patience:
    """How failures that may pass are met.

    Attributes:
        tries: Attempts in all.
        base: Seconds before the second attempt; doubled for each further one, times a random factor of 0.5 to 1.5.
        cap: Longest pause in seconds, also when the server asks for a longer one.
    """

    tries: int = 5
    base: float = 0.5
    cap: float = 60.0

    def pause(self, failures: int, asked: float | None) -> float:
        """Return the seconds to wait after so many failures; ``asked`` is what the server wants."""
        if asked is not None:
            return min(self.cap, asked)
        jitter = random.uniform(0.5, 1.5)  # noqa: S311  # spreads clients out; nothing depends on its secrecy
        return float(min(self.cap, self.base * 2.0 ** (failures - 1) * jitter))


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer of a chain of redirects.

    Attributes:
        status: HTTP status.
        headers: Header values by lower-case name.
        body: The bytes asked for; empty unless the status is 200 or 206.
        url: Where it came from.
        hops: Address and headers of every answer of the chain, this one included.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    hops: tuple[tuple[str, Mapping[str, str]], ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one call of :meth:`Transport.get` asks for; see there."""

    limit: int
    span: tuple[int, int] | None
    size: int | None
    weights: int | None


class _Passing(Exception):
    """A failure that may pass: what happened, and how long the server asks to wait."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.wait = wait


class Transport:
    """Sends counted GET requests for one repository.

    Args:
        repo: The repository, for messages.
        endpoint: Address of the Hub, without a slash at the end.
        token: Hub token, or None to use the one of the environment.
        ledger: Counts requests, and the bytes of weight files.
        patience: How failures are met.

    Raises:
        UsageError: When the endpoint is no http(s) address or the token cannot be one.
    """

    def __init__(self, repo: str, endpoint: str, token: str | None, ledger: Ledger, patience: Patience) -> None:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        if token is not None and not _TOKEN.match(token):
            raise UsageError("the Hub token is empty or holds characters that no token has")
        self.repo = repo
        self.endpoint = endpoint
        self._origin = _origin(_split_endpoint(endpoint))
        self._ledger = ledger
        self._patience = patience
        self._bare = build_hf_headers(token=False, library_name="lineage-plugin", library_version=__version__)
        authorised = build_hf_headers(token=token, library_name="lineage-plugin", library_version=__version__)
        # Anything but the token could only differ by accident.
        self._secret = {k: v for k, v in authorised.items() if k.lower() == "authorization"}

    def at_home(self, url: str) -> bool:
        """Return whether an address belongs to the endpoint itself, so that the token may be sent there."""
        return _origin(urlsplit(url)) == self._origin

    def get(
        self,
        url: str,
        *,
        limit: int,
        span: tuple[int, int] | None = None,
        size: int | None = None,
        weights: int | None = None,
        stop: threading.Event | None = None,
    ) -> Answer:
        """Get a file, or a range of it, through redirects and passing failures.

        Args:
            url: An http(s) address.
            limit: Longest body in bytes when no range is asked for; a longer one is cut there.
            span: First byte and end of the range, or None for the whole.
            size: Bytes the file has, when known; an answer that says otherwise is an error.
            weights: For a weight file, the bytes before its tensor data; every byte that arrives is then counted.
            stop: Ends the waiting between attempts when set, because another request has failed for good.

        Returns:
            The answer. Statuses that are neither success nor passing (401, 403, 404, ...) are returned for the caller
            to judge, with an empty body.

        Raises:
            HubUnreachable: When failures outlast the patience.
            HubError: When the answer cannot be used: a redirect to nowhere, a range that is ignored, another size.
            UsageError: When ``HF_HUB_OFFLINE`` is set.
        """
        wanted = _Wanted(limit, span, size, weights)
        pause = stop if stop is not None else threading.Event()
        hops: list[tuple[str, Mapping[str, str]]] = []
        failures = 0
        while True:
            try:
                answer = self._once(url, wanted)
            except _Passing as failure:
                failures += 1
                if failures >= self._patience.tries:
                    raise self._given_up(failure, failures) from None
                if pause.wait(self._patience.pause(failures, failure.wait)):
                    raise HubUnreachable(
                        self.repo, f"{failure.problem}; given up because another request failed"
                    ) from None
                continue
            hops.append((url, answer.headers))
            target = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or target is None:
                return Answer(answer.status, answer.headers, answer.body, url, tuple(hops))
            if len(hops) > _REDIRECTS:
                raise HubError(self.repo, f"the server redirects more than {_REDIRECTS} times", "Check the endpoint.")
            url = self._redirected(url, target)

    def _given_up(self, failure: _Passing, failures: int) -> HubUnreachable:
        problem = f"{failure.problem}, {failures} times in a row"
        if "429" in failure.problem:
            return HubUnreachable(self.repo, problem, "Wait some minutes, or set HF_TOKEN for higher limits.")
        remedy = f"Check the network and the endpoint {shown(self._origin[1])}, then run again."
        if "/" not in self.repo:
            remedy += " If a folder was meant, there is none of this name here."
        return HubUnreachable(self.repo, problem, remedy)

    def _redirected(self, url: str, target: str) -> str:
        """Check where a redirect leads."""
        try:
            absolute = urljoin(url, target)
            parts = urlsplit(absolute)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
            _ = parts.port
        except ValueError:
            known, parts = False, urlsplit("")
        if not known or not target.isascii() or not target.isprintable():
            raise HubError(
                self.repo, "the server redirects to something that is no http(s) address", "Check the endpoint."
            )
        if urlsplit(url).scheme == "https" and parts.scheme == "http":
            raise HubError(self.repo, "the server redirects from https to plain http", "Check the endpoint.")
        return absolute

    def _once(self, url: str, wanted: _Wanted) -> Answer:
        """Send one request and read its answer."""
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

        headers = {**self._bare, "accept-encoding": "identity"}
        if self.at_home(url):
            headers |= self._secret
        if wanted.span is not None:
            headers["range"] = f"bytes={wanted.span[0]}-{wanted.span[1] - 1}"
        http_error, invalid = client_errors()
        counted = False
        try:
            with get_session().stream(
                "GET", url, headers=headers, follow_redirects=False, timeout=_TIMEOUTS
            ) as response:
                self._ledger.request()
                counted = True
                fields = {name.lower(): value for name, value in response.headers.items()}
                status = int(response.status_code)
                if status in _RETRIED:
                    raise _Passing(f"the server answered HTTP {status}", _retry_after(fields))
                body = b""
                if status in (200, 206):
                    skip, keep = self._framing(status, fields, wanted)
                    body = self._body(response, skip, keep, wanted, partial=status == 206)
                return Answer(status, fields, body, url, ())
        except OfflineModeIsEnabled:
            raise UsageError(f"{self.repo}: HF_HUB_OFFLINE is set. Unset it, or give a local folder") from None
        except http_error as error:
            if not counted and type(error).__name__ not in _UNSENT:
                self._ledger.request()
            raise _Passing(network_problem(error)) from None
        except invalid:
            raise HubError(
                self.repo, "the server gives an address that cannot be used", "Check the endpoint."
            ) from None

    def _body(self, response: Any, skip: int, keep: int, wanted: _Wanted, *, partial: bool) -> bytes:
        """Read a body as far as it is needed, and count what arrives even if it turns out to be useless."""
        deadline = time.monotonic() + _DEADLINE + keep / _SLOWEST
        position = wanted.span[0] if partial and wanted.span is not None else 0
        received, tensor, useful = 0, 0, 0
        pieces: list[bytes] = []
        try:
            # As they come: asked for in larger chunks, a dripping server would not be noticed for hours.
            for chunk in response.iter_raw():
                if wanted.weights is not None:
                    tensor += max(0, len(chunk) - max(0, wanted.weights - position - received))
                received += len(chunk)
                pieces.append(chunk)
                # One byte more than the range has is enough to see that it is too long.
                if received >= skip + keep + partial:
                    break
                if time.monotonic() > deadline:
                    raise _Passing("the server sends too slowly")
            body = b"".join(pieces)
            if partial and len(body) > keep:
                raise _Passing("the server sent more bytes than the range has")
            body = body[skip : skip + keep]
            if wanted.span is not None and len(body) < keep:
                raise _Passing(f"the answer was cut short ({len(body)} of {keep} bytes)")
            useful = len(body)
            return body
        finally:
            if wanted.weights is not None and received:
                self._ledger.spend(received, tensor, unclaimed=received - useful)

    def _framing(self, status: int, fields: Mapping[str, str], wanted: _Wanted) -> tuple[int, int]:
        """Return how many bytes of the body to skip and how many to keep."""
        if fields.get("content-encoding", "identity").lower() != "identity":
            raise HubError(self.repo, "the server compresses what was asked for as it is", "Check the endpoint.")
        span, size = wanted.span, wanted.size
        if span is None:
            if status == 206:
                raise _Passing("the server sent a part of what was asked for")
            return 0, wanted.limit
        start, stop = span
        if status == 200:
            length = fields.get("content-length", "")
            if size is not None and length.isascii() and length.isdecimal() and int(length[:20]) != size:
                raise self.moved("a file changed its size")
            if stop > _SKIPPABLE:
                raise HubError(
                    self.repo,
                    "the server ignores byte ranges, so that parts of large files cannot be read",
                    "Use an endpoint that supports ranges, or download the model and give the folder.",
                )
            return start, stop - start
        match = _CONTENT_RANGE.match(fields.get("content-range", ""))
        if match is None:
            raise _Passing("the server does not say which range it sends")
        if size is not None and match[3] != "*" and int(match[3]) != size:
            raise self.moved("a file changed its size")
        if (int(match[1]), int(match[2]) + 1) != span:
            raise _Passing("the server sent another range than asked for")
        return 0, stop - start

    def moved(self, how: str) -> HubError:
        """Return the error for a model that is no longer what it was when it was opened."""
        return HubError(
            self.repo, f"the revision moved while it was read ({how})", "Run again, or pin a commit with @."
        )


def _split_endpoint(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        _ = parts.port
    except ValueError:
        valid = False
    if not valid or not endpoint.isprintable():
        raise UsageError("the Hub endpoint is not an address such as https://huggingface.co; check HF_ENDPOINT")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


@lru_cache(maxsize=1)
def client_errors() -> tuple[type[Exception], tuple[type[Exception], ...]]:
    """Return the errors of the HTTP library under huggingface_hub, whose name differs between its versions.

    Returns:
        That of everything that may go wrong on the way, and those of a wrong use.
    """
    from huggingface_hub.errors import HfHubHTTPError

    base = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    library = importlib.import_module(base.__module__.partition(".")[0])
    return library.HTTPError, (library.InvalidURL, library.StreamError)


def network_problem(error: Exception) -> str:
    """Describe a network error without its text, which may hold an address with a signature."""
    phrases = {
        "ConnectTimeout": f"no connection within {_TIMEOUTS[0]:.0f} s",
        "ReadTimeout": f"no answer within {_TIMEOUTS[1]:.0f} s",
        "ConnectError": "no connection to the server",
        "ReadError": "the connection broke",
        "RemoteProtocolError": "the answer was cut short or malformed",
    }
    name = type(error).__name__
    return phrases.get(name, f"the request failed ({shown(name)})")


def _retry_after(fields: Mapping[str, str]) -> float | None:
    """Return the seconds to wait: ``Retry-After`` as seconds or date, else the reset of ``RateLimit``."""
    value = fields.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    if value:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    match = re.search(r";\s*r=0\s*;\s*t=(\d{1,9})", fields.get("ratelimit", ""), re.ASCII)
    return float(match[1]) if match else None
