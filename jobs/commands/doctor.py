"""``handloom doctor``: can this machine do the work?"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from jobs import options
from jobs.console import Exit, guarded, print_json, say

_PACKAGES = (
    "torch",
    "ray",
    "pyarrow",
    "obstore",
    "pydantic",
    "av",
    "opencv-python-headless",
    "mediapipe",
    "anny",
    "pyrender-maintained",
    "trimesh",
    "onnxruntime",
)
_EXTRAS = {
    "sam2": "sam2",
    "ultralytics": "ultralytics",
    "smplx": "smplx",
    "wan": "diffusers",
    "vlm": "httpx",
}
_MIN_FREE_BYTES = 5 << 30


class Check(NamedTuple):
    """One line of the diagnosis."""

    name: str
    is_ok: bool
    found: str
    remedy: str = ""


@guarded
def command(as_json: options.Json = False) -> Exit:
    """Check Python, packages, ffmpeg, rendering, disk and the default recipe's stages."""
    checks = [*_machine(), *_packages(), _rendering(), _stages()]
    if as_json:
        print_json({"checks": [c._asdict() for c in checks]})
    else:
        for check in checks:
            say(f"{'ok  ' if check.is_ok else 'FAIL'} {check.name:<24} {check.found}")
            if not check.is_ok:
                say(f"     -> {check.remedy}")
        for extra, module in _EXTRAS.items():
            state = "installed" if importlib.util.find_spec(module) else "not installed (optional)"
            say(f"     extra {extra:<18} {state}")
    return Exit.DONE if all(c.is_ok for c in checks) else Exit.REQUEST


def _machine() -> list[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    free = shutil.disk_usage(".").free
    ffmpeg = shutil.which("ffmpeg")
    line = ""
    if ffmpeg:
        done = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=False)
        line = done.stdout.splitlines()[0] if done.stdout else "unreadable"
    return [
        Check("python", sys.version_info[:2] == (3, 11), python, "use Python 3.11"),
        Check("cpus", True, str(os.cpu_count())),
        Check(
            "free disk here", free > _MIN_FREE_BYTES, f"{free / 2**30:.0f} GiB", "free some space"
        ),
        Check("ffmpeg", ffmpeg is not None, line, "apt-get install ffmpeg"),
    ]


def _packages() -> list[Check]:
    checks = []
    for name in _PACKAGES:
        try:
            checks.append(Check(name, True, version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, False, "missing", "run make setup"))
    return checks


def _rendering() -> Check:
    from schemas.errors import ConfigError
    from stages.rendering import check_renderer, renderer_ref

    try:
        check_renderer()
        return Check("off-screen rendering", True, renderer_ref().name)
    except ConfigError as error:
        return Check("off-screen rendering", False, "none", str(error))


def _stages() -> Check:
    from curation.chain import STAGE_CLASSES, build_chain
    from curation.recipe import load_recipe
    from schemas.errors import ConfigError

    try:
        build_chain(load_recipe("default", [], list(STAGE_CLASSES), options.RECIPES))
    except ConfigError as error:
        return Check("default recipe", False, "cannot run", str(error))
    return Check("default recipe", True, f"{len(STAGE_CLASSES)} stages ready")
