"""Servers that fail while a model is checked: what could not be found out does not go."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import LineageApi, install_gate
from tests.hooks.conftest import BASE, EXAMPLES, LFS, REPO, WEIGHTS, Site, blocked
from tests.hub import OUTSIDER, TOKEN, Faults


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "pause", lambda self, failures, asked: 0.0)


@pytest.fixture(autouse=True)
def no_token_is_shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    caplog.set_level(logging.DEBUG, "lineage_plugin")
    yield
    shown = caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in shown and OUTSIDER not in shown and "Signature=" not in shown


def send(api: HfApi, folder: Path = EXAMPLES / "honest") -> Any:
    return api.upload_folder(repo_id=REPO, folder_path=folder)


LASTING: dict[str, Callable[[Faults], object]] = {
    "5xx": lambda faults: faults.server_errors(None, repo=BASE),
    "rate limit": lambda faults: faults.rate_limit(None, repo=BASE),
    "connections that break": lambda faults: faults.drop(None, repo=BASE),
    "truncated weights": lambda faults: faults.truncate(None, port="cdn", repo=BASE),
    "shortened weights": lambda faults: faults.truncate(None, port="cdn", repo=BASE, consistent=True),
    "another range": lambda faults: faults.shift_range(None, port="cdn", repo=BASE),
    "addresses that expire": lambda faults: faults.expire_cdn(0, repo=BASE),
    "gated": lambda faults: faults.server_errors(None, status=403, repo=BASE),
    "dies in the middle": lambda faults: faults.drop(None, repo=BASE, after=3, keep=None),
}


def held_while_it_lasts(site: Site, api: HfApi, fault: str) -> None:
    LASTING[fault](site.hub.faults)
    # A base that nobody but its owner may read is a finding; what may be otherwise next time is none.
    error = blocked(lambda: send(api), 1 if fault == "gated" else 4)
    assert BASE in str(error)
    site.assert_nothing_left()
    # Once it is over, the same call goes through.
    site.hub.faults.clear()
    send(api)
    site.assert_arrived(EXAMPLES / "honest")


@pytest.mark.parametrize("fault", ["gated", "dies in the middle"])
def test_a_base_that_cannot_be_read_either_way(site: Site, guarded: Callable[..., HfApi], fault: str) -> None:
    held_while_it_lasts(site, guarded(), fault)


@LFS
@pytest.mark.parametrize("fault", [fault for fault in LASTING if fault not in ("gated", "dies in the middle")])
def test_a_base_that_cannot_be_read(site: Site, guarded: Callable[..., HfApi], fault: str) -> None:
    held_while_it_lasts(site, guarded(), fault)


@LFS
@pytest.mark.parametrize("fault", ["server_errors", "rate_limit", "truncate", "drop", "shift_range"])
def test_faults_that_pass_do_not_hide_a_liar(site: Site, guarded: Callable[..., HfApi], fault: str) -> None:
    rule = getattr(site.hub.faults, fault)(2, repo=BASE, port="cdn")
    api = guarded()
    blocked(lambda: send(api, EXAMPLES / "liar"))
    assert rule.fired == 2
    site.assert_nothing_left()


@LFS
def test_a_base_that_does_not_exist(site: Site, guarded: Callable[..., HfApi]) -> None:
    shutil.rmtree(site.hub.root / BASE)
    with pytest.raises(UploadBlocked) as caught:
        send(guarded())
    assert caught.value.exit_code in (1, 2) and BASE in str(caught.value)
    site.assert_nothing_left()


@LFS
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_base_with_a_file_that_is_missing(site: Site, guarded: Callable[..., HfApi], name: str) -> None:
    (site.hub.root / BASE / name).unlink()
    if name == WEIGHTS:
        with pytest.raises(UploadBlocked):
            send(guarded())
        site.assert_nothing_left()
    else:
        with pytest.raises(UploadBlocked, match="LIN101"):
            send(guarded(), EXAMPLES / "liar")
        site.assert_nothing_left()


@pytest.mark.parametrize("how", ["gate", "LineageApi"])
def test_a_token_that_has_expired(site: Site, how: str) -> None:
    options = {"endpoint": site.hub.endpoint, "token": "hf_expired0123456789"}
    if how == "LineageApi":
        with pytest.raises(UploadBlocked) as caught:
            send(LineageApi(**options))
        assert caught.value.exit_code in (1, 4) and "hf_expired" not in str(caught.value)
    else:
        with install_gate(), pytest.raises((UploadBlocked, HfHubHTTPError)):
            send(HfApi(**options))
    site.assert_nothing_left()


@LFS
def test_the_card_of_the_repository_cannot_be_read(site: Site, guarded: Callable[..., HfApi]) -> None:
    # Weights alone are held against it; without it nothing is known of them.
    card = (EXAMPLES / "honest/README.md").read_bytes()
    (site.folder() / "README.md").write_bytes(card)
    api = guarded()

    def upload() -> Any:
        data = (EXAMPLES / "honest" / WEIGHTS).read_bytes()
        return api.upload_file(path_or_fileobj=data, path_in_repo=WEIGHTS, repo_id=REPO)

    rule = site.hub.faults.server_errors(None, repo=REPO, path="*README.md")
    blocked(upload, 4)
    assert rule.fired
    site.hub.faults.clear()
    site.hub.faults.server_errors(None, repo=REPO, path=f"/api/models/{REPO}*")
    blocked(upload, 4)
    assert site.files() == {"README.md": card}
    assert site.weight_bytes() == site.commits() == 0


@LFS
def test_weights_that_are_damaged(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    data = (honest / WEIGHTS).read_bytes()
    (honest / WEIGHTS).write_bytes(data[: len(data) // 2])
    error = blocked(lambda: send(guarded(), honest))
    assert "LIN302" in str(error)
    site.assert_nothing_left()


@LFS
def test_warn_mode_lets_go_what_could_not_be_found_out(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.hub.faults.server_errors(None, repo=BASE)
    with install_gate(mode="warn"):
        send(site.api())
    assert "would be blocked" in caplog.text
    site.assert_arrived(EXAMPLES / "honest")


@LFS
def test_an_override_lets_go_what_could_not_be_found_out(site: Site, tmp_path: Path) -> None:
    site.hub.faults.server_errors(None, repo=BASE)
    api = site.checked(override="the Hub is down and the release is not")
    send(api)
    site.assert_arrived(EXAMPLES / "honest")
    assert '"exit_code": 4' in (tmp_path / "cache/overrides.jsonl").read_text()
