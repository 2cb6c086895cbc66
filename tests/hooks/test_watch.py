"""The hook by itself: what passes it without any request leaving."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import httpx2
import pytest

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks.preflight import Cleared
from lineage_plugin.hooks.staged import SAMPLE, StagedFile
from lineage_plugin.hooks.watch import Guard, Watch
from lineage_plugin.hooks.wire import OutgoingFile, Sending

HUB = "https://hub.test"
REPO = "me/model"
CARD = b"# A model"
OTHER_CARD = b"# Another"
WEIGHTS = b"GGUF" + bytes(40)
OTHER_WEIGHTS = b"GGUF" + bytes(41)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cleared(repo: str = REPO, **files: bytes) -> Cleared:
    """A clearance of some files; in their names, "card" is the card's and "weights" that of the weights."""
    names = {"card": "README.md", "weights": "x.dat"}
    return Cleared(repo, digests={names.get(name, name): sha256(data) for name, data in files.items()})


def commit(*lines: dict[str, object], endpoint: str = HUB) -> httpx2.Request:
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    return httpx2.Request("POST", f"{endpoint}/api/models/{REPO}/commit/main", content=body)


def file(name: str, data: bytes) -> dict[str, object]:
    return {
        "key": "file",
        "value": {"path": name, "content": base64.b64encode(data).decode(), "encoding": "base64"},
    }


def announcement(token: str | None = None, **files: bytes) -> httpx2.Request:
    names = {"card": "README.md", "weights": "x.dat"}
    listed = [
        {"path": names.get(name, name), "size": len(data), "sample": base64.b64encode(data[:SAMPLE]).decode()}
        for name, data in files.items()
    ]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx2.Request("POST", f"{HUB}/api/models/{REPO}/preupload/main", json={"files": listed}, headers=headers)


def placing(data: bytes) -> httpx2.Request:
    objects = [{"oid": sha256(data), "size": len(data)}]
    return httpx2.Request(
        "POST", f"{HUB}/{REPO}.git/info/lfs/objects/batch", json={"operation": "upload", "objects": objects}
    )


def locate(file: OutgoingFile) -> list[StagedFile]:
    """Take the small file that is announced for the file itself."""
    data = file.content or b""
    return [StagedFile(file.name, data, data, len(data))]


class Examiner:
    """Clears what it is told to, and remembers what it was asked."""

    def __init__(self, answer: Cleared) -> None:
        self.answer = answer
        self.asked: list[tuple[tuple[str, ...], str | None]] = []

    def __call__(self, found: Sending, token: str | None) -> Cleared:
        self.asked.append((tuple(one.name for one in found.files), token))
        return self.answer


@pytest.fixture
def watch() -> Watch:
    made = Watch()
    made.add(Guard(None, None, locate))
    return made


def test_small_files_pass(watch: Watch) -> None:
    watch.on_request(commit(file("config.json", b"{}"), {"key": "deletedFile", "value": {"path": "x"}}))


@pytest.mark.parametrize(("name", "data"), [("README.md", CARD), ("x.dat", WEIGHTS), ("a/model.bin", b"")])
def test_cards_and_weights_have_to_be_cleared(watch: Watch, name: str, data: bytes) -> None:
    request = commit(file(name, data))
    with pytest.raises(UploadBlocked, match="not checked"):
        watch.on_request(request)
    watch.clear(f"{HUB}/", Cleared("me/other", digests={name: sha256(data)}))
    with pytest.raises(UploadBlocked):
        watch.on_request(request)


@pytest.mark.parametrize("endpoint", [HUB, f"{HUB}/", "https://HUB.test"])
def test_cleared_bytes_pass(watch: Watch, endpoint: str) -> None:
    watch.clear(endpoint, cleared(card=CARD))
    watch.on_request(commit(file("README.md", CARD)))
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD + b"!")))


def test_after_a_stopped_commit_no_other_goes(watch: Watch) -> None:
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD), file("a.txt", b"a")))
    with pytest.raises(UploadBlocked) as caught:
        watch.on_request(commit(file("a.txt", b"a")))
    assert "README.md" in str(caught.value) and caught.value.sent == "no commit was made of it"
    # Another upload begins, with other bytes.
    watch.clear(HUB, cleared(card=OTHER_CARD))
    watch.on_request(announcement(card=OTHER_CARD))
    watch.on_request(commit(file("README.md", OTHER_CARD), file("a.txt", b"a")))


@pytest.mark.parametrize("names", [("a.txt",), ("README.md", "a.txt")])
def test_what_was_stopped_is_stopped_until_it_is_announced_again(watch: Watch, names: tuple[str, ...]) -> None:
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD), file("a.txt", b"a")))
    watch.clear(HUB, cleared(card=CARD))
    watch.on_request(announcement(**dict.fromkeys(names, CARD)))
    if "README.md" in names:
        watch.on_request(commit(file("a.txt", b"a")))
    else:
        with pytest.raises(UploadBlocked):
            watch.on_request(commit(file("a.txt", b"a")))


def test_what_goes_together_was_cleared_together(watch: Watch) -> None:
    watch.clear(HUB, cleared(card=CARD, weights=WEIGHTS))
    watch.clear(HUB, cleared(card=OTHER_CARD, weights=OTHER_WEIGHTS))
    watch.on_request(announcement(card=CARD, weights=WEIGHTS))
    watch.on_request(announcement(card=OTHER_CARD, weights=OTHER_WEIGHTS))
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(card=OTHER_CARD, weights=WEIGHTS))
    # Weights that were held against a card do not go without it.
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(weights=WEIGHTS))


def test_what_comes_with_an_announcement_counts() -> None:
    """Large uploads are announced part by part: here the card follows, and is another one."""
    rest = [StagedFile("README.md", OTHER_CARD, OTHER_CARD, len(OTHER_CARD))]
    watch = Watch()
    watch.add(Guard(None, None, locate, lambda _: rest))
    watch.clear(HUB, cleared(card=CARD, weights=WEIGHTS))
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(weights=WEIGHTS))
    watch.clear(HUB, cleared(card=OTHER_CARD, weights=WEIGHTS))
    watch.on_request(announcement(weights=WEIGHTS))


def test_a_file_that_may_be_one_of_several() -> None:
    """Nothing in an announcement tells files of one name, size and beginning apart: all of them have to be cleared."""
    both = [StagedFile("x.dat", WEIGHTS, WEIGHTS, 44), StagedFile("x.dat", WEIGHTS[:-1] + b"!", WEIGHTS, 44)]
    watch = Watch()
    watch.add(Guard(None, None, lambda _: both))
    watch.clear(HUB, cleared(weights=WEIGHTS))
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(weights=WEIGHTS))
    watch.clear(HUB, cleared(weights=WEIGHTS[:-1] + b"!"))
    watch.on_request(announcement(weights=WEIGHTS))


def test_a_file_that_is_not_found_is_not_cleared() -> None:
    watch = Watch()
    watch.add(Guard(None, None, lambda _: []))
    watch.clear(HUB, cleared(weights=WEIGHTS))
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(weights=WEIGHTS))


def test_what_nobody_cleared_is_examined_with_the_token_of_the_upload() -> None:
    examine = Examiner(cleared(card=CARD, weights=WEIGHTS))
    watch = Watch()
    watch.add(Guard(None, examine, locate))
    watch.on_request(announcement("hf_of_the_upload", card=CARD, weights=WEIGHTS))
    assert examine.asked == [(("README.md", "x.dat"), "hf_of_the_upload")]
    # Announced again, as clients do that lost the connection: it is known.
    watch.on_request(announcement("hf_of_the_upload", card=CARD, weights=WEIGHTS))
    watch.on_request(placing(WEIGHTS))
    assert len(examine.asked) == 1
    # What the examiner did not see does not go, whatever it says.
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(weights=OTHER_WEIGHTS))
    assert examine.asked[1:] == [(("x.dat",), None)]


def test_after_a_commit_all_is_examined_anew() -> None:
    """The repository is another one then: what it says of the same weights may be something else."""
    examine = Examiner(cleared(weights=WEIGHTS))
    watch = Watch()
    watch.add(Guard(None, examine, locate))
    for times in (1, 2):
        watch.on_request(announcement(weights=WEIGHTS))
        assert len(examine.asked) == times
        watch.on_request(commit(file("x.dat", WEIGHTS)))
    # A commit that is made again needs no new announcement.
    watch.on_request(commit(file("x.dat", WEIGHTS)))


def test_what_one_guard_cleared_is_not_cleared_for_another() -> None:
    loose, strict = Examiner(cleared(weights=WEIGHTS)), Examiner(cleared(weights=OTHER_WEIGHTS))
    watch = Watch()
    watch.add(Guard(None, loose, locate))
    watch.add(Guard(None, strict, locate))
    with pytest.raises(UploadBlocked):
        watch.on_request(announcement(weights=WEIGHTS))
    assert len(loose.asked) == len(strict.asked) == 1


def test_objects_of_the_lfs(watch: Watch) -> None:
    with pytest.raises(UploadBlocked, match="not checked"):
        watch.on_request(placing(WEIGHTS))
    watch.clear(HUB, cleared(weights=WEIGHTS))
    watch.on_request(placing(WEIGHTS))
    with pytest.raises(UploadBlocked):
        watch.on_request(placing(OTHER_WEIGHTS))
    # A picture that was announced is no weights.
    watch.on_request(announcement(**{"a.png": b"\x89PNG" + bytes(10)}))
    watch.on_request(placing(b"\x89PNG" + bytes(10)))


def test_copies_within_the_server() -> None:
    watch = Watch()
    watch.add(Guard(None, None, locate, copies=lambda: {"copy/README.md"}))
    watch.on_request(commit(file("copy/README.md", CARD)))
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD)))


def test_guards_of_one_repository_hold_no_other() -> None:
    watch = Watch()
    with watch.guarding(Guard((f"{HUB}/", "me/other"), None, locate)):
        watch.on_request(commit(file("README.md", CARD)))
    with watch.guarding(Guard((f"{HUB}/", REPO), None, locate)), pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD)))
    watch.on_request(commit(file("README.md", CARD)))


def test_the_guard_that_stops_is_told() -> None:
    told: list[UploadBlocked] = []
    watch = Watch()
    watch.add(Guard(None, None, locate, on_block=told.append))
    with pytest.raises(UploadBlocked) as caught:
        watch.on_request(announcement(weights=WEIGHTS))
    assert told == [caught.value]
    assert (caught.value.exit_code, caught.value.sent) == (2, "no weights were sent")


def test_where_sent_weights_lie(tmp_path: Path) -> None:
    from lineage_plugin.hooks.digests import FileStamp

    path = tmp_path / "x.dat"
    path.write_bytes(WEIGHTS)
    watch = Watch()
    digests = {"x.dat": sha256(WEIGHTS), "y.dat": sha256(OTHER_WEIGHTS), "README.md": sha256(CARD)}
    watch.clear(HUB, Cleared(REPO, digests=digests, places={"x.dat": (path, FileStamp.of(path))}))
    assert watch.sent(HUB, REPO) == {"x.dat": path, "y.dat": None}
    assert watch.sent(HUB, "me/other") == {}
    path.write_bytes(OTHER_WEIGHTS)
    assert watch.sent(HUB, REPO) == {"x.dat": None, "y.dat": None}


def test_a_body_that_cannot_be_read(watch: Watch) -> None:
    request = httpx2.Request("POST", f"{HUB}/api/models/{REPO}/commit/main", content=b"\xff")
    with pytest.raises(UploadBlocked, match="cannot be read"):
        watch.on_request(request)


def test_without_guards_nothing_is_read() -> None:
    Watch().on_request(commit(file("README.md", CARD)))
