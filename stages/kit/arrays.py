"""Types of arrays, once: a name is one dtype."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""The arrays of a facet by name."""
