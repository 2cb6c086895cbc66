"""Servers that lie: answers no Hub would give, and what becomes of them."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping

import numpy as np
import pytest

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint import repository as repository_module
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.transport import Patience, Transport
from lineage_plugin.errors import HubError, HubUnreachable, LineageError, UnreadableCheckpoint

from .builders import entry, file_bytes
from .scripted import Answer, Script, scripted

SHA = "0123456789abcdef0123456789abcdef01234567"
VALUES = np.arange(65536, dtype=np.float32).reshape(4, 16384)
WEIGHTS = file_bytes({"w": entry([4, 16384], 0, VALUES.nbytes)}, VALUES.tobytes())
QUICK = Patience(tries=3, base=0.001)
SECRET = "hf_secretOfThisTest"


def info(**changes: object) -> dict[str, object]:
    siblings = [{"rfilename": "model.safetensors", "size": len(WEIGHTS)}]
    return {"id": "owner/name", "sha": SHA, "siblings": siblings, **changes}


def honest(path: str, headers: Mapping[str, str]) -> Answer:
    """What a Hub without a CDN answers."""
    if path.startswith("/api/"):
        return 200, {}, json.dumps(info()).encode()
    if match := re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
        start, stop = int(match[1]), int(match[2]) + 1
        return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"}, WEIGHTS[start:stop]
    return 200, {}, WEIGHTS


def reading(script: Script, *, token: str | None = None) -> np.ndarray:
    """Open the model that a server tells of and read one row."""
    with scripted(script) as server:
        checkpoint = open_hub("owner/name", endpoint=server.address, token=token, patience=QUICK)
        (row,) = checkpoint.read([Selection("w", rows=np.array([2]))])
        assert checkpoint.cost().requests == len(server.seen)
        return row


def test_the_honest_script_works() -> None:
    np.testing.assert_array_equal(reading(honest)[0], VALUES[2])


DESCRIPTIONS: dict[str, bytes] = {
    "nothing": b"",
    "a web page": b"<!DOCTYPE html><html></html>",
    "a list": b"[]",
    "no commit": json.dumps(info(sha=None)).encode(),
    "a commit that is a branch": json.dumps(info(sha="main")).encode(),
    "a commit with a line break": json.dumps(info(sha=SHA + "\n")).encode(),
    "a commit that climbs": json.dumps(info(sha="../" * 12 + "aaaa")).encode(),
    "no files": json.dumps(info(siblings=None)).encode(),
    "files that are text": json.dumps(info(siblings=["model.safetensors"])).encode(),
    "files without a name": json.dumps(info(siblings=[{"size": 1}])).encode(),
    "files without a size": json.dumps(info(siblings=[{"rfilename": "model.safetensors"}])).encode(),
    "a negative size": json.dumps(info(siblings=[{"rfilename": "model.safetensors", "size": -1}])).encode(),
    "a size that is text": json.dumps(info(siblings=[{"rfilename": "x", "lfs": {"size": "9"}}])).encode(),
    "nested deeply": b'{"a":' * 100_000,
    "nested too deeply to count": b'{"a":' * 4_000_000,
    "a number of 10,000 digits": b'{"sha": ' + b"1" * 10_000 + b"}",
    "not UTF-8": b'{"sha": "\xff"}',
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_that_is_none(name: str) -> None:
    def script(path: str, headers: Mapping[str, str]) -> Answer:
        return 200, {}, DESCRIPTIONS[name]

    with pytest.raises(HubError, match="owner/name: ") as caught:
        reading(script)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_an_endless_description_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository_module, "_MAX_INFO", 1 << 20)
    with pytest.raises(HubError, match="larger than"):
        reading(lambda path, headers: (200, {}, b" " * (32 << 20)))


def test_file_names_that_climb_are_no_files() -> None:
    names = ["../../etc/passwd", "/etc/passwd", "a\\b", "C:x", "x\x1b[2J", "", "a//b", "./c", "model.safetensors"]

    def script(path: str, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/api/"):
            siblings = [{"rfilename": name, "size": len(WEIGHTS)} for name in names]
            return 200, {}, json.dumps(info(siblings=siblings)).encode()
        return honest(path, headers)

    with scripted(script) as server:
        checkpoint = open_hub("owner/name", endpoint=server.address, patience=QUICK)
        assert list(checkpoint.files) == ["model.safetensors"]
        assert checkpoint.text("../../etc/passwd") is None


@pytest.mark.parametrize("id", ["../../api/whoami", "..", "a/b/c", "owner/name?x", "", None, 7])
def test_an_id_that_leads_elsewhere_is_not_used(id: object) -> None:
    def script(path: str, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/api/"):
            return 200, {}, json.dumps(info(id=id)).encode()
        assert path.startswith("/owner/name/resolve/")
        return honest(path, headers)

    np.testing.assert_array_equal(reading(script)[0], VALUES[2])


def test_a_renamed_model_is_followed_with_the_token() -> None:
    def script(path: str, headers: Mapping[str, str]) -> Answer:
        assert headers.get("authorization") == f"Bearer {SECRET}"
        if path.startswith("/api/models/owner/name"):
            return 307, {"Location": path.replace("owner/name", "new/name")}, b"moved"
        if path.startswith("/api/"):
            return 200, {}, json.dumps(info(id="new/name")).encode()
        assert path.startswith(f"/new/name/resolve/{SHA}/")
        return honest(path, headers)

    np.testing.assert_array_equal(reading(script, token=SECRET)[0], VALUES[2])


def test_the_token_does_not_follow_to_another_port() -> None:
    with scripted(honest) as other:

        def script(path: str, headers: Mapping[str, str]) -> Answer:
            assert headers["authorization"] == f"Bearer {SECRET}"
            return 302, {"Location": other.address + path}, b""

        with scripted(script) as server:
            checkpoint = open_hub("owner/name", endpoint=server.address, token=SECRET, patience=QUICK)
            (row,) = checkpoint.read([Selection("w", rows=np.array([2]))])
        np.testing.assert_array_equal(row[0], VALUES[2])
        # The second range goes straight to where the first was found.
        assert (len(server.seen), len(other.seen)) == (2, 3)
        assert checkpoint.cost().requests == 5
        assert not any("authorization" in headers or SECRET in path for path, headers in other.seen)


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "javascript:alert(1)",
        "data:text/plain,{}",
        "http://",
        "http:///x",
        "http://[::1",
        "http://host:99999/",
        "http://user:password@127.0.0.1/",
        "//user@127.0.0.1/",
    ],
)
def test_redirects_to_elsewhere_are_refused(target: str) -> None:
    with pytest.raises(HubError, match="redirects") as caught:
        reading(lambda path, headers: (302, {"Location": target}, b""))
    assert "password" not in str(caught.value)


def test_redirects_in_a_circle_end() -> None:
    def script(path: str, headers: Mapping[str, str]) -> Answer:
        return 302, {"Location": path}, b""

    with scripted(script) as server, pytest.raises(HubError, match="more than 5 times"):
        open_hub("owner/name", endpoint=server.address, patience=QUICK)
    assert len(server.seen) == 6


def test_https_is_not_left_for_http() -> None:
    transport = Transport("owner/name", "https://hub.example", None, Ledger("x"), QUICK)
    with pytest.raises(HubError, match="plain http"):
        transport._redirected("https://hub.example/a", "http://169.254.169.254/latest")
    assert transport._redirected("https://hub.example/a", "https://cdn.example/b") == "https://cdn.example/b"
    assert transport._redirected("https://hub.example/a/b", "/c?d=e") == "https://hub.example/c?d=e"


@pytest.mark.parametrize(
    ("endpoint", "url", "home"),
    [
        ("https://hub.example", "https://hub.example/x", True),
        ("https://hub.example", "https://HUB.example:443/x", True),
        ("https://hub.example", "http://hub.example/x", False),
        ("https://hub.example", "https://hub.example:8443/x", False),
        ("https://hub.example", "https://cdn.hub.example/x", False),
        ("https://hub.example", "https://hub.example.evil/x", False),
        ("https://hub.example", "https://evil/hub.example", False),
        ("https://hub.example", "https://hub.example@evil/x", False),
        ("http://127.0.0.1:8000/mirror", "http://127.0.0.1:8000/x", True),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001/x", False),
    ],
)
def test_home_is_one_origin(endpoint: str, url: str, home: bool) -> None:
    assert Transport("o/n", endpoint, None, Ledger("x"), QUICK).at_home(url) is home


SIZE = len(WEIGHTS)


def spoiled(status: int, fields: Mapping[str, str], body: bytes | None = None) -> Script:
    """An honest server until a range beyond the header is asked for."""

    def script(path: str, headers: Mapping[str, str]) -> Answer:
        answer = honest(path, headers)
        if headers.get("range", "bytes=0-").startswith("bytes=0-"):
            return answer
        return status, {**(answer[1] if status == 206 else {}), **fields}, answer[2] if body is None else body

    return script


@pytest.mark.parametrize(
    ("script", "phrase"),
    [
        (spoiled(206, {"Content-Range": "bytes 0-65535/" + str(SIZE)}), "another range"),
        (spoiled(206, {"Content-Range": "bytes */" + str(SIZE)}), "which range"),
        (spoiled(206, {"Content-Range": "none"}), "which range"),
        (spoiled(206, {"Content-Range": "bytes 1-" + "9" * 400 + "/*"}), "which range"),
        (spoiled(206, {"Content-Range": f"bytes 1-2/{SIZE + 1}"}), "moved"),
        (spoiled(206, {"Content-Type": "multipart/byteranges; boundary=x", "Content-Range": ""}), "which range"),
        (spoiled(206, {"Content-Encoding": "gzip"}), "compresses"),
        (spoiled(206, {}, b"x" * 10), "cut short"),
        (spoiled(206, {}, b"x" * 1_000_000), "more bytes"),
        (spoiled(200, {}, b"x" * 10), "moved"),
        (spoiled(204, {}, b""), "HTTP 204"),
        (spoiled(304, {}, b""), "HTTP 304"),
        (spoiled(302, {}, b""), "HTTP 302"),
        (spoiled(416, {}, b""), "moved"),
        (spoiled(418, {}, b""), "HTTP 418"),
        (spoiled(206, {"ETag": '"x"', "X-Repo-Commit": "f" * 40}), "moved"),
    ],
)
def test_ranges_that_are_wrong(script: Script, phrase: str) -> None:
    with pytest.raises(HubError, match=phrase) as caught:
        reading(script)
    assert str(caught.value).isprintable()


def test_a_weak_etag_is_the_same_etag() -> None:
    tags = iter(['"a"', 'W/"a"', '"a"'])

    def script(path: str, headers: Mapping[str, str]) -> Answer:
        status, fields, body = honest(path, headers)
        return status, fields if path.startswith("/api/") else {**fields, "ETag": next(tags)}, body

    np.testing.assert_array_equal(reading(script)[0], VALUES[2])


@pytest.mark.parametrize("how", ["seconds", "date", "reset"])
def test_retry_after_in_all_its_forms(how: str) -> None:
    asked: list[float] = []

    def script(path: str, headers: Mapping[str, str]) -> Answer:
        asked.append(time.monotonic())
        if len(asked) > 1:
            return honest(path, headers)
        fields = {
            "seconds": {"Retry-After": "1"},
            "date": {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)},
            "reset": {"RateLimit": '"api";r=0;t=1'},
        }[how]
        return 429, fields, b""

    reading(script)
    assert asked[1] - asked[0] >= 0.9


@pytest.mark.parametrize("value", ["soon", "-5", "Thu, 99 Foo 2026 00:00:00", "1e9", "\u0663"])
def test_retry_after_that_is_none_is_passed_over(value: str) -> None:
    asked: list[str] = []

    def script(path: str, headers: Mapping[str, str]) -> Answer:
        asked.append(path)
        if len(asked) > 1:
            return honest(path, headers)
        return 429, {"Retry-After": value.encode().decode("latin-1")}, b""

    start = time.monotonic()
    np.testing.assert_array_equal(reading(script)[0], VALUES[2])
    assert time.monotonic() - start < 2.5


def test_pauses_grow_and_are_capped() -> None:
    patience = Patience(tries=5, base=1.0, cap=3.0)
    for failures, (low, high) in enumerate([(0.5, 1.5), (1.0, 3.0), (2.0, 3.0), (3.0, 3.0)], start=1):
        assert all(low <= patience.pause(failures, None) <= high for _ in range(50))
    assert patience.pause(1, 2.0) == 2.0
    assert patience.pause(1, 1e9) == 3.0


def test_no_message_holds_the_token_or_a_signature() -> None:
    scripts: list[Script] = [
        lambda path, headers: (401, {"X-Error-Message": f"bad {SECRET}"}, SECRET.encode()),
        lambda path, headers: (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": SECRET}, b""),
        lambda path, headers: (500, {}, SECRET.encode()),
        lambda path, headers: (302, {"Location": f"ftp://x/?Signature={SECRET}"}, b""),
        lambda path, headers: (302, {"Location": f"http://127.0.0.1:1/?Signature={SECRET}"}, b""),
        lambda path, headers: (200, {}, json.dumps({SECRET: 1}).encode()),
    ]
    for script in scripts:
        with pytest.raises(LineageError) as caught:
            reading(script, token=SECRET)
        assert SECRET not in str(caught.value)
        assert SECRET not in repr(caught.value)


def test_a_user_and_password_in_the_endpoint_are_not_shown() -> None:
    with scripted(lambda path, headers: (403, {"X-Error-Code": "GatedRepo"}, b"")) as server:
        address = server.address.replace("http://", "http://user:hf_password@")
        with pytest.raises(HubError, match="licence") as caught:
            open_hub("owner/name", endpoint=address, patience=QUICK)
    assert "hf_password" not in str(caught.value)
    assert server.address in str(caught.value)


def test_a_connection_to_nowhere() -> None:
    with pytest.raises(HubUnreachable, match="no connection to the server, 3 times"):
        open_hub("owner/name", endpoint="http://127.0.0.1:1", patience=QUICK)


def test_a_server_that_speaks_no_http() -> None:
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def babble() -> None:
        for _ in range(3):
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n" * 3)
            connection.close()

    thread = threading.Thread(target=babble, daemon=True)
    thread.start()
    with pytest.raises(HubUnreachable, match="malformed"):
        open_hub("owner/name", endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", patience=QUICK)
    thread.join(5)
    listener.close()


def test_a_size_that_lies_about_the_weights() -> None:
    def script(path: str, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/api/"):
            siblings = [{"rfilename": "model.safetensors", "size": 1 << 50}]
            return 200, {}, json.dumps(info(siblings=siblings)).encode()
        return honest(path, headers)

    with pytest.raises(HubError, match="moved"):
        reading(script)


def test_a_config_that_is_no_config() -> None:
    def script(path: str, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/api/"):
            files = {"model.safetensors": len(WEIGHTS), "config.json": 3}
            return 200, {}, json.dumps(info(siblings=[{"rfilename": n, "size": s} for n, s in files.items()])).encode()
        return (200, {}, b"[1]") if path.endswith("config.json") else honest(path, headers)

    with scripted(script) as server:
        checkpoint = open_hub("owner/name", endpoint=server.address, patience=QUICK)
        with pytest.raises(UnreadableCheckpoint, match=r"owner/name/config\.json: this is not a JSON object"):
            _ = checkpoint.config
