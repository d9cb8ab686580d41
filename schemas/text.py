"""Foreign text in messages, on terminals and in pages: without what steers a terminal, and never without end."""

from __future__ import annotations

import unicodedata

MAX_MESSAGE_CHARS = 4000
_TAIL_CHARS = 40
_PLACEHOLDER = "\N{REPLACEMENT CHARACTER}"
_KEPT = "\n\t\u200c\u200d"  # the joiners are part of words and of emoji
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


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
