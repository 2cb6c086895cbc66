"""One launched server for all tests of the API, the MCP server, their docs and the webhook: a start costs seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.served import Site, site


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server that all share; a test leaves it as it found it."""
    with site(tmp_path_factory.mktemp("shared-site")) as found:
        yield found
        assert found.hub.errors == []
