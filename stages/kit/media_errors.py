"""What PyAV raises, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av

from schemas.errors import DecodeError, HandloomError
from stages.kit.isolate import one_line


@contextmanager
def guarded(code: str, what: str) -> Iterator[None]:
    """Turn whatever PyAV raises into a DecodeError: its errors have no common base.

    Raises:
        DecodeError: ``code``, with one line of what happened.
        MemoryError: Memory ran out.
    """
    try:
        yield
    except (HandloomError, MemoryError):
        raise
    except av.error.MemoryError as error:
        raise MemoryError(str(error)) from error
    except Exception as error:
        raise DecodeError(code, f"{what}: {one_line(error)}") from error
