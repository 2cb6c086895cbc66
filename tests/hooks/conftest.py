"""A local Hub that serves ``examples/base``, both ways in which its client uploads, and changes made meanwhile."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, close_session, constants, hf_api, set_client_factory
from huggingface_hub.utils import _http

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import LineageApi, install_gate
from lineage_plugin.hooks.watch import WATCH
from tests.hooks.repositories import EXAMPLES, Work, work_in
from tests.hub import TOKEN, LocalHub
from tests.hub.samples import contents

BASE = "examples/base"
REPO = "me/model"
WEIGHTS = "model.safetensors"


LFS = pytest.mark.parametrize("site", ["lfs"], indirect=True)
"""For tests of what both ways of uploading have in common."""


@dataclass(frozen=True)
class Site:
    """A local Hub, and what it has seen of an upload."""

    hub: LocalHub

    def api(self, **arguments: Any) -> HfApi:
        return HfApi(endpoint=self.hub.endpoint, token=TOKEN, **arguments)

    def checked(self, **arguments: Any) -> LineageApi:
        return LineageApi(endpoint=self.hub.endpoint, token=TOKEN, **arguments)

    def folder(self, repo: str = REPO) -> Path:
        return self.hub.root / repo

    def files(self, repo: str = REPO) -> dict[str, bytes]:
        return contents(self.folder(repo))

    def commits(self) -> int:
        return len(self.hub.log.records(path="/api/models/*/commit/*"))

    def weight_bytes(self) -> int:
        return sum(record.weight_bytes for record in self.hub.log)

    def assert_nothing_left(self, repo: str = REPO) -> None:
        """No byte of weights, no object, no commit and no xet token was asked for or sent."""
        log = self.hub.log
        assert self.weight_bytes() == 0
        assert log.records(port="cdn", method="PUT") == []
        assert log.records(path="*/info/lfs/*") == []
        assert log.records(path="*xet-write-token*") == []
        assert self.commits() == 0
        assert self.files(repo) == {}

    def assert_arrived(self, folder: Path, repo: str = REPO, below: str = "") -> None:
        """Every file of a local folder is there, byte for byte, and nothing else."""
        assert self.files(repo) == {below + name: data for name, data in contents(folder).items()}


@pytest.fixture(params=["lfs", "pipelined"])
def site(request: pytest.FixtureRequest, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A Hub with the base and an empty repository; the client of this process takes the one or the other way."""
    pipelined = request.param == "pipelined"
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not pipelined)
    # There is no xet storage here: the pipeline is asked to put everything into its commits.
    hub.upload_mode = "regular" if pipelined else "auto"
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LINEAGE_OVERRIDE", raising=False)
    monkeypatch.chdir(_made(tmp_path / "elsewhere"))
    shutil.copytree(EXAMPLES / "base", hub.root / BASE)
    hub.create(REPO)
    return Site(hub)


@pytest.fixture
def at_home(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the local Hub be the one that clients speak to that name none, as ``HF_ENDPOINT`` does at their import."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, site.hub.endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", site.hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture(autouse=True)
def fresh_client() -> Iterator[None]:
    """Nothing of one test is known in the next: no clearance, no client, no gate."""
    yield
    with WATCH._lock:
        left = list(WATCH._guards)
        WATCH._guards.clear()
        WATCH._repositories.clear()
    set_client_factory(_http.default_client_factory)
    close_session()
    assert left == []


@pytest.fixture(params=["gate", "LineageApi"])
def guarded(request: pytest.FixtureRequest, site: Site) -> Iterator[Callable[..., HfApi]]:
    """Makes clients: plain ones while the gate is there, or checking ones; arguments are rules."""
    gates = []

    def make(**rules: Any) -> HfApi:
        if request.param == "LineageApi":
            return site.checked(**rules)
        gates.append(install_gate(**rules))
        return site.api()

    yield make
    for gate in gates:
        gate.remove()


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    """A private copy of the honest example."""
    return Path(shutil.copytree(EXAMPLES / "honest", tmp_path / "honest"))


@pytest.fixture
def liar(tmp_path: Path) -> Path:
    """A private copy of the example whose card does not tell the truth."""
    return Path(shutil.copytree(EXAMPLES / "liar", tmp_path / "liar"))


def folder_upload(api: HfApi, folder: Path) -> Any:
    return api.upload_folder(repo_id=REPO, folder_path=folder)


def blocked(upload: Callable[[], object], code: int = 1) -> UploadBlocked:
    """Upload, see that it is blocked with an exit code, and return why."""
    with pytest.raises(UploadBlocked) as caught:
        upload()
    assert caught.value.exit_code == code, str(caught.value)
    assert TOKEN not in str(caught.value)
    return caught.value


@contextmanager
def before(part: str, act: Callable[[], object]) -> Iterator[None]:
    """Do something once, right before a request whose address has this part is sent, as late as can be."""
    send = httpx2.HTTPTransport.handle_request
    done = []

    def late(transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        if part in str(request.url) and not done:
            done.append(part)
            act()
        return send(transport, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx2.HTTPTransport, "handle_request", late)
        yield
    assert done == [part]


def old(*files: Path) -> None:
    """Let files be some days old, so that their stamps say something."""
    for path in files:
        os.utime(path, (time.time() - 1e6, time.time() - 1e6))


def exchange(folder: Path, *, keep_time: bool = False) -> None:
    """Put the lying weights in the place of the honest ones: the same size, the same header."""
    target = folder / WEIGHTS
    stamp = target.stat()
    target.write_bytes((EXAMPLES / "liar" / WEIGHTS).read_bytes())
    if keep_time:
        os.utime(target, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def work(tmp_path: Path, hub: LocalHub) -> Work:
    """A clone with the hook, and a Hub that has the base that the examples name."""
    shutil.copytree(EXAMPLES / "base", hub.root / BASE)
    made = work_in(tmp_path / "work", HF_ENDPOINT=hub.endpoint)
    made.lineage("hook", "install")
    return made
