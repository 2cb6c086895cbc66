"""A worker process as the desk holds it: started without secrets, heard line by line, killed at any moment."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

from lineage_plugin.web.wire import LONGEST

__all__ = ["Worker", "bare_environment"]

_RUN = "import sys; sys.path.append(sys.argv[1]); from lineage_plugin.web.worker import main; main(sys.argv[2])"
"""As ``-m lineage_plugin.web.worker``, found also where the package is not installed but in a folder."""
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|KEY|PRIVATE|AUTH|COOKIE|SESSION|JWT|DSN", re.IGNORECASE)
_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{8,}|://[^/\s@]+@")
_ADDED = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Each worker has its share of the processors already.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Many arenas of little use would count against the limit of memory.
    "MALLOC_ARENA_MAX": "2",
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8",
}
_PROXY = re.compile(r"(?:https?|all|no)_proxy\Z", re.IGNORECASE)


def bare_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a worker: without tokens, and with what makes it ask without one.

    Left out is every variable whose name or value looks like a secret. Proxies stay, whatever their address holds:
    nothing could be asked without them.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if _PROXY.match(name) or not (_SECRET.search(name) or _VALUE.search(value))
    }
    return {**kept, **_ADDED}


class Worker:
    """A worker process.

    Args:
        hear: Called with the worker and each line that it writes, in a thread of its own; with None when it has ended
            or writes a line that is too long.

    Raises:
        OSError: When no process can be started.

    Attributes:
        asked: Questions that it was given.
    """

    def __init__(self, hear: Callable[[Worker, bytes | None], None]) -> None:
        self.asked = 0
        self._hear = hear
        # Its own, so that nothing is imported from the folder in which the server was started, and nothing is left
        # behind when it is killed; it removes it itself when the server is.
        self._folder = tempfile.mkdtemp(prefix="lineage-worker-")
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this Python and this package
                [sys.executable, "-c", _RUN, str(Path(__file__).parents[2]), self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self._folder,
                env={**bare_environment(os.environ), "TMPDIR": self._folder},
                # Ctrl-C in the terminal is the server's; it ends its workers itself.
                start_new_session=True,
            )
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._in = cast("IO[bytes]", self._process.stdin)
        self._out = cast("IO[bytes]", self._process.stdout)
        self._thread = threading.Thread(target=self._listen, name="lineage-worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def give(self, line: bytes) -> None:
        """Give it a question. That it has ended already is heard like any other end."""
        self.asked += 1
        # A pipe holds no more than some kilobytes: whoever gives must not wait for a process that does not read.
        threading.Thread(target=self._write, args=(line,), name="lineage-question", daemon=True).start()

    def _write(self, line: bytes) -> None:
        # What does not get through is told by its end, which comes then.
        with contextlib.suppress(OSError, ValueError):
            self._in.write(line)
            self._in.flush()

    def kill(self) -> None:
        """End it at once, whatever it is doing; :meth:`Worker.join` waits for that."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def join(self) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        code = self._process.wait()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        return code

    def _listen(self) -> None:
        with self._out as out:
            while (line := out.readline(LONGEST + 1)).endswith(b"\n"):
                self._hear(self, line)
        # Whatever is left of it is of no use: its output has ended, or is not what it should be.
        self.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._in.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._hear(self, None)
