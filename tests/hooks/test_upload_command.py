"""``lineage upload``, against the local Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.cli import main
from lineage_plugin.fingerprint.file import FILE
from tests.hooks.conftest import EXAMPLES, LFS, REPO, Site
from tests.hub import OUTSIDER, TOKEN
from tests.hub.samples import contents


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def upload(site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def run(*arguments: str | Path) -> Done:
        code = main(["upload", "--endpoint", site.hub.endpoint, *map(str, arguments)])
        printed = capfd.readouterr()
        assert TOKEN not in printed.out + printed.err
        assert "Traceback" not in printed.err
        return Done(code, printed.out, printed.err)

    return run


def test_an_honest_folder_goes(site: Site, upload, honest: Path) -> None:
    done = upload(REPO, honest)
    assert done.code == 0
    assert "PASS" in done.out and "E-value" in done.out
    assert f"uploaded to {site.hub.endpoint}/{REPO}/commit/" in done.err
    site.assert_arrived(honest)


def test_a_liar_stays(site: Site, upload, liar: Path) -> None:
    done = upload(REPO, liar, "--format", "json")
    assert done.code == 1
    report = json.loads(done.out)
    assert report["verdict"] == "fail" and report["suspect"]["id"] == REPO
    assert "blocked, no weights were sent" in done.err and "LIN101" in done.err
    site.assert_nothing_left()


@LFS
def test_the_repository_is_made_after_the_check(site: Site, upload, honest: Path, liar: Path) -> None:
    assert upload("me/liar", liar).code == 1
    assert not (site.hub.root / "me" / "liar").exists()
    assert upload("me/new", honest, "--private").code == 0
    site.assert_arrived(honest, "me/new")


@LFS
def test_a_dry_run_sends_nothing(site: Site, upload, honest: Path) -> None:
    done = upload(REPO, honest, "--dry-run")
    assert done.code == 0
    assert f"would go to {REPO}" in done.err
    site.assert_nothing_left()
    assert [record for record in site.hub.log if record.method == "POST"] == []


@LFS
def test_evidence_is_written_once(site: Site, upload, honest: Path) -> None:
    card = (honest / "README.md").read_bytes()
    assert upload(REPO, honest, "--write-card", "--write-fingerprint").code == 0
    written = contents(honest)
    assert written["README.md"].startswith(card) and b"## Lineage" in written["README.md"]
    assert b"model.safetensors" in written["README.md"].partition(b"sha256")[2]
    assert FILE in written
    site.assert_arrived(honest)
    assert read_card(written["README.md"])[0] == read_card(card)[0]
    assert upload(REPO, honest, "--write-card", "--write-fingerprint").code == 0
    assert contents(honest) == written == site.files()


@LFS
def test_a_damaged_section_stops_it(site: Site, upload, honest: Path) -> None:
    card = honest / "README.md"
    card.write_bytes(card.read_bytes() + b"\n<!-- lineage:begin -->\n")
    before = card.read_bytes()
    done = upload(REPO, honest, "--write-card")
    assert done.code == 2
    assert "lineage: error:" in done.err
    assert card.read_bytes() == before
    site.assert_nothing_left()


@LFS
def test_no_evidence_no_section(site: Site, upload, tmp_path: Path, honest: Path) -> None:
    (honest / "README.md").write_text("---\nlicense: mit\n---\n")
    done = upload(REPO, honest, "--write-card")
    assert done.code == 2
    assert "no evidence to write" in done.err
    site.assert_nothing_left()


@LFS
def test_an_override_is_recorded(site: Site, upload, liar: Path, tmp_path: Path) -> None:
    done = upload(REPO, liar, "--override", "a test of the override itself")
    assert done.code == 0
    site.assert_arrived(liar)
    (entry,) = map(json.loads, (tmp_path / "cache" / "overrides.jsonl").read_text().splitlines())
    assert entry["reason"] == "a test of the override itself"
    assert entry["blocked"][0]["findings"] == ["LIN101"]
    assert upload(REPO, liar, "--override", "yes").code == 2


@LFS
def test_a_section_about_other_weights_is_pointed_out(site: Site, upload, honest: Path) -> None:
    assert upload(REPO, honest, "--write-card").code == 0
    assert "--write-card renews it" not in upload(REPO, honest).err
    changed = bytearray((honest / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    (honest / "model.safetensors").write_bytes(changed)
    done = upload(REPO, honest)
    assert done.code == 0 and "--write-card renews it" in done.err


@LFS
def test_an_unchanged_folder_makes_no_commit(site: Site, upload, honest: Path) -> None:
    upload(REPO, honest)
    done = upload(REPO, honest)
    assert done.code == 0
    assert "lineage: nothing had changed: " in done.err


@LFS
def test_a_dry_run_says_what_would_be(site: Site, upload, liar: Path, tmp_path: Path) -> None:
    done = upload(REPO, liar, "--dry-run")
    assert done.code == 1
    assert "would be blocked" in done.err and "would not go to" in done.err and "model.safetensors" in done.err
    done = upload(REPO, liar, "--dry-run", "--override", "only to see what would happen")
    assert done.code == 0 and f"would go to {REPO}" in done.err
    assert not (tmp_path / "cache" / "overrides.jsonl").exists()
    site.assert_nothing_left()


@LFS
def test_without_a_token(site: Site, upload, honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = upload(REPO, honest)
    assert done.code == 4
    assert "there is no token to upload with" in done.err
    assert done.out == ""
    assert list(site.hub.log) == []


@LFS
def test_a_quiet_upload_says_nothing(upload, honest: Path) -> None:
    done = upload(REPO, honest, "--quiet", "--format", "json")
    assert done.code == 0
    assert json.loads(done.out)["verdict"] == "pass"
    assert done.err == ""


@LFS
def test_excluded_files_stay_and_the_rest_goes_to_its_folder(site: Site, upload, honest: Path) -> None:
    (honest / "notes.txt").write_text("not this")
    assert upload(REPO, honest, "--path-in-repo", "v2", "--exclude", "*.txt").code == 0
    assert sorted(site.files()) == ["v2/README.md", "v2/config.json", "v2/model.safetensors"]


@LFS
def test_a_given_base_and_a_given_policy_count(site: Site, upload, liar: Path, tmp_path: Path) -> None:
    assert upload(REPO, liar, "--base", EXAMPLES / "liar").code == 0
    policy = tmp_path / "strict.yml"
    policy.write_text("levels:\n  LIN205: error\n")
    done = upload("me/honest", EXAMPLES / "honest", "--policy", policy)
    assert done.code in (1, 2)
    assert not (site.hub.root / "me" / "honest").exists()


@LFS
@pytest.mark.parametrize(
    "arguments", [("nobody", "."), ("me/a/b", "."), (REPO, "missing"), (REPO, "empty"), (REPO, "file")]
)
def test_wrong_calls(upload, tmp_path: Path, arguments: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "empty").mkdir(parents=True)
    (tmp_path / "here" / "file").touch()
    monkeypatch.chdir(tmp_path / "here")
    done = upload(*arguments)
    assert done.code == 2
    assert done.err.startswith("lineage: error: ") and done.err.count("\n") == 1


@LFS
def test_a_token_that_may_not_write(site: Site, upload, honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", OUTSIDER)
    done = upload(REPO, honest)
    assert done.code == 4
    assert site.files() == {}


@LFS
def test_a_server_that_is_down(upload, honest: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "pause", lambda self, failures, asked: 0.0)
    site.hub.stop()
    done = upload(REPO, honest, "--quiet")
    assert done.code == 4
    assert "could not be found out" in done.err
    site.hub.start()
