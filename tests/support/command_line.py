"""The command line in a process of its own, as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def handloom(
    *argv: object, timeout: float = 300, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it said and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **kwargs,
    )
