"""Foreign text in messages, on terminals and in pages: without what steers a terminal, and never without end."""

from __future__ import annotations

import unicodedata

MAX_MESSAGE_CHARS = 4000
_TAIL_CHARS = 40
_PLACEHOLDER = "\N{REPLACEMENT CHARACTER}"
_KEPT = "\n\t\u200c\u200d"  # the joiners are part of words and of emoji
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_UNIT_STEP = 1000
_SHORT_S, _LONG_S, _LONG_MIN = 10, 120, 90


def plain(text: str) -> str:
    """Replace control characters, direction marks, line separators and halves of characters.

    File names, container metadata and captions may carry them; lines and tabs stay.

    >>> plain("a" + chr(27) + "[31mb" + chr(0x202E) + "c" + chr(10) + "d")
    'a�[31mb�c\\nd'
    """
    return "".join(
        c if c in _KEPT or unicodedata.category(c) not in _UNSAFE else _PLACEHOLDER for c in text
    )


def shorten(text: str, max_chars: int = MAX_MESSAGE_CHARS) -> str:
    """Cut a text that is too long to read, and say how much is missing; the result fits.

    >>> shorten("abcdef" * 10, 50)
    'abcdefabcd... (50 more characters)'
    """
    if len(text) <= max_chars:
        return text
    kept = max_chars - _TAIL_CHARS
    return f"{text[:kept]}... ({len(text) - kept} more characters)"


def bytes_text(count: float) -> str:
    """A number of bytes in the unit that people read it in, decimal as disks and stores count.

    >>> bytes_text(1_234_567), bytes_text(999)
    ('1.2 MB', '999 B')
    """
    power = 0
    while count >= _UNIT_STEP and power < len(_BYTE_UNITS) - 1:
        count, power = count / _UNIT_STEP, power + 1
    return f"{count:.{1 if power else 0}f} {_BYTE_UNITS[power]}"


def duration_text(seconds: float) -> str:
    """A time in the unit that people read it in.

    >>> duration_text(0.4), duration_text(75), duration_text(5400)
    ('0.4 s', '75 s', '1.5 h')
    """
    if seconds < _LONG_S:
        return f"{seconds:.1f} s" if seconds < _SHORT_S else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < _LONG_MIN else f"{minutes / 60:.1f} h"
