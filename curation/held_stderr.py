"""Standard error while Ray starts: what native code prints is kept back, a long wait is told."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST_WORD_S, _NEXT_WORD_S = 5.0, 10.0


@contextmanager
def told_waiting(stderr: int) -> Iterator[None]:
    """Say now and then, on the file descriptor, that Ray is still starting."""
    begun, is_done = time.monotonic(), threading.Event()

    def tell() -> None:
        wait_s = _FIRST_WORD_S
        while not is_done.wait(wait_s):
            spent_s = time.monotonic() - begun
            os.write(stderr, f"starting Ray: {spent_s:.0f} s so far\n".encode())
            wait_s = _NEXT_WORD_S

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_done.set()
        teller.join()


@contextmanager
def held_back_stderr() -> Iterator[None]:
    """Keep what native code prints on stderr, such as its log level, unless the block fails; tell of a long wait."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with told_waiting(saved):
                yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
