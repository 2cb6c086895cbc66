"""GitHub's REST API, as far as the action needs it."""

from __future__ import annotations

import json
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from lineage_plugin._version import __version__
from lineage_plugin.text import one_line

__all__ = ["GitHub", "GitHubError"]

_TIMEOUT = (10, 30)
_MAX_ANSWER = 32 << 20


class GitHubError(Exception):
    """GitHub did not do what it was asked for.

    Attributes:
        status: The HTTP status, or None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class GitHub:
    """A client of the REST API.

    Args:
        api: Its address, without a slash at the end.
        token: The job's token; None asks without one.
    """

    def __init__(self, api: str, token: str | None) -> None:
        self._api = api
        self._session = requests.Session()
        # Asking twice is harmless, and so is writing the same text twice into the same comment; a new comment is not.
        retry = Retry(
            3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=("GET", "PATCH")
        )
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        # Neither a .netrc nor a proxy's login may take the place of the token.
        self._session.auth = _no_other_login
        self._session.headers.update(
            {
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": f"lineage-plugin/{__version__}",
            }
        )
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> Any:
        """Return what is at a path."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, str]) -> Any:
        """Make something."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: dict[str, str]) -> Any:
        """Change something."""
        return self._ask("PATCH", path, body)

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        try:
            # A redirect would take the token, or turn a POST into a GET.
            with self._session.request(
                method, self._api + path, json=body, timeout=_TIMEOUT, allow_redirects=method == "GET", stream=True
            ) as answer:
                content = answer.raw.read(_MAX_ANSWER + 1, decode_content=True)
                if not 200 <= answer.status_code < 300:
                    raise GitHubError(
                        f"GitHub answered {answer.status_code} {one_line(answer.reason, 60)}", answer.status_code
                    )
                if len(content) > _MAX_ANSWER:
                    raise GitHubError("GitHub's answer is too long")
                return json.loads(content)
        except (requests.RequestException, OSError, ValueError, RecursionError) as error:
            raise GitHubError(f"GitHub could not be reached ({type(error).__name__})") from None


def _no_other_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
