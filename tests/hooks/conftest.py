"""A local Hub that serves ``examples/base``, and both ways in which the Hub's client uploads."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, close_session, constants, hf_api, set_client_factory
from huggingface_hub.utils import _http

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import LineageApi, install_gate
from lineage_plugin.hooks.watch import WATCH
from tests.hub import TOKEN, LocalHub
from tests.hub.samples import contents

EXAMPLES = Path(tempfile.mkdtemp(prefix="lineage-examples-"))
"""A copy: some versions of the Hub's client leave notes in the folders that they upload."""
atexit.register(shutil.rmtree, EXAMPLES, ignore_errors=True)
for _file in (Path(__file__).parents[2] / "examples").glob("*/*.*"):
    if _file.is_file():
        (EXAMPLES / _file.parent.name).mkdir(exist_ok=True)
        shutil.copy(_file, EXAMPLES / _file.parent.name)

BASE = "examples/base"
REPO = "me/model"
WEIGHTS = "model.safetensors"


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


def blocked(upload: Callable[[], object], code: int = 1) -> UploadBlocked:
    """Upload, see that it is blocked with an exit code, and return why."""
    with pytest.raises(UploadBlocked) as caught:
        upload()
    assert caught.value.exit_code == code, str(caught.value)
    assert TOKEN not in str(caught.value)
    return caught.value


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
