"""``python -m tests.hub ROOT``: serve folders until interrupted."""

from __future__ import annotations

import argparse
import contextlib
import signal
from pathlib import Path

from .server import LocalHub


def main() -> None:
    """Parse the arguments, print the address, serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="Serve ROOT/owner/name as a local Hub.")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("--port", type=int, default=0, help="port of the Hub (default: a free one)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds each request waits")
    parser.add_argument("--fast-digests", action="store_true", help="made-up but stable sha256 for large files")
    parser.add_argument("--mount", action="append", default=[], metavar="ID=FOLDER", help="serve one more folder")
    given = parser.parse_args()
    mounts = dict(mount.split("=", 1) for mount in given.mount)
    for folder in [given.root, *map(Path, mounts.values())]:
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folders = {repo_id: Path(folder) for repo_id, folder in mounts.items()}
    hub = LocalHub(given.root, latency=given.latency, fast_digests=given.fast_digests, mounts=folders, port=given.port)
    with hub, contextlib.suppress(KeyboardInterrupt):
        print(hub.endpoint, flush=True)
        hub.serve_forever()


if __name__ == "__main__":
    main()
