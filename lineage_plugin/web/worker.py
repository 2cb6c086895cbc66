"""The process that answers questions: ``python -m lineage_plugin.web.worker``, started by the desk.

It reads questions from its standard input and writes what it has to say to its standard output, see
:mod:`lineage_plugin.web.wire`. Nothing else is written there: whatever prints is sent to stderr. It ends when its input
does, so it never outlives the server, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sys
import threading
from types import ModuleType
from typing import BinaryIO, NoReturn

from lineage_plugin.web.jobs import Failed
from lineage_plugin.web.wire import LONGEST, READY, message_of, read_question

__all__ = ["main"]

_LONGEST_QUESTION = 16 << 20


def main(folder: str | None = None) -> None:
    """Answer questions until the input ends.

    Args:
        folder: Folder of this process, which is removed at the end; None: it has none.
    """
    out = _own_output()
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, questions, folder), daemon=True).start()
    # Imported before the first question, so that it need not wait for that.
    from lineage_plugin.web.failures import OUT_OF_MEMORY
    from lineage_plugin.web.work import answer_job

    lock = threading.Lock()

    def say(line: bytes) -> None:
        with lock:
            try:
                out.write(line)
                out.flush()
            except OSError:
                # Nobody listens any more.
                _end(folder)

    say(READY)
    while True:
        job, settings, token = read_question(questions.get())
        _limit(settings.memory)
        if token is not None:
            # Nothing that a token opened is kept for others, fingerprints included.
            os.environ["LINEAGE_CACHE"] = os.devnull
        try:
            said = answer_job(job, settings, token, lambda update: say(message_of(update)))
            line = message_of(said)
            if len(line) > LONGEST:
                line = message_of(Failed("limit", "The report on these models is too large to be shown here."))
        except Failed as failed:
            line = message_of(failed)
        except MemoryError:
            line = message_of(Failed("limit", OUT_OF_MEMORY))
        say(line)


def _own_output() -> BinaryIO:
    """Take the standard output for messages; what a library prints goes to stderr from here on."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out


def _listen(source: BinaryIO, questions: queue.SimpleQueue[bytes], folder: str | None) -> None:
    """Pass lines on; end the process with the input, whatever it is doing."""
    with contextlib.suppress(OSError, ValueError):
        while line := source.readline(_LONGEST_QUESTION):
            questions.put(line)
    _end(folder)


def _end(folder: str | None) -> NoReturn:
    """End the process, whatever its threads are doing."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _limit(memory: int) -> None:
    """Limit the memory that this process may write to, where the system can, and leave no dump of it."""
    resource: ModuleType
    try:
        import resource
    except ImportError:
        return
    # A dump would hold the token.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory > 0:
        # Not the address space: of that allocators and threads set aside far more than they use.
        with contextlib.suppress(OSError, ValueError):
            _, most = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (memory, most))


if __name__ == "__main__":
    main()
