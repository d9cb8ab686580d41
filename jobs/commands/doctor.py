"""``handloom doctor``: can this machine do the work?"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from jobs import options
from jobs.console import Exit, guarded, print_json, say
from schemas.text import bytes_text

_PACKAGES = (
    "torch",
    "ray",
    "pyarrow",
    "obstore",
    "pydantic",
    "av",
    "opencv-python-headless",
    "pyrender-maintained",
    "trimesh",
    "onnxruntime",
)
_EXTRAS = {"vlm": "httpx"}
"""Extras that are no backend's."""
_MIN_FREE_DISK_BYTES = 5 << 30
_MIN_FREE_MEMORY_BYTES = 4 << 30
_RAY_ANSWER_S = 120.0


class Check(NamedTuple):
    """One line of the diagnosis."""

    name: str
    is_ok: bool
    found: str
    remedy: str = ""


@guarded
def command(
    no_ray: Annotated[
        bool, typer.Option("--no-ray", help="Do not try to start Ray, which takes seconds.")
    ] = False,
    as_json: options.Json = False,
) -> Exit:
    """Check Python, packages, ffmpeg, memory, disk, rendering, the recipe's stages, that Ray starts."""
    checks = [*_machine(), *_space(), *_packages(), *_backends(), _rendering(), _stages()]
    checks += [] if no_ray else [_ray()]
    if as_json:
        print_json("doctor", {"checks": [c._asdict() for c in checks]})
    else:
        for check in checks:
            say(f"{'ok  ' if check.is_ok else 'FAIL'} {check.name:<24} {check.found}")
            if not check.is_ok:
                say(f"     -> {check.remedy}")
        for extra, is_there in _extras().items():
            state = "installed" if is_there else "not installed (optional)"
            say(f"     extra {extra:<18} {state}")
    return Exit.DONE if all(c.is_ok for c in checks) else Exit.REQUEST


def _machine() -> list[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    ffmpeg = shutil.which("ffmpeg")
    line = ""
    if ffmpeg:
        done = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=False)
        line = done.stdout.splitlines()[0] if done.stdout else "unreadable"
    return [
        Check("python", sys.version_info[:2] == (3, 11), python, "use Python 3.11"),
        Check("cpus", True, str(os.cpu_count())),
        Check("ffmpeg", ffmpeg is not None, line, "apt-get install ffmpeg"),
    ]


def _space() -> list[Check]:
    temporary = tempfile.gettempdir()
    places = {"free disk here": ".", f"free disk in {temporary}": temporary}
    free = {name: shutil.disk_usage(place).free for name, place in places.items()}
    free["free memory"] = _free_memory_bytes()
    least = dict.fromkeys(places, _MIN_FREE_DISK_BYTES) | {"free memory": _MIN_FREE_MEMORY_BYTES}
    return [
        Check(
            name,
            size > least[name],
            bytes_text(size),
            f"at least {bytes_text(least[name])} are needed; free some",
        )
        for name, size in free.items()
    ]


def _free_memory_bytes() -> int:
    """What new processes can have, as the kernel counts it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _ray() -> Check:
    """Start Ray as a run would, let a worker answer, and stop it."""
    from curation.cluster import check_ray
    from schemas.errors import HandloomError

    begun = time.monotonic()
    try:
        found = check_ray(_RAY_ANSWER_S)
    except HandloomError as error:
        return Check("ray starts", False, "no", str(error))
    return Check("ray starts", True, f"{found}, {time.monotonic() - begun:.0f} s")


def _packages() -> list[Check]:
    checks = []
    for name in _PACKAGES:
        try:
            checks.append(Check(name, True, version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, False, "missing", "run make setup"))
    return checks


def _backends() -> list[Check]:
    """The packages of what a recipe uses unless it says otherwise."""
    from curation.chain import known_backends

    wanted = {
        about.package: about
        for _, _, about, is_default in known_backends()
        if is_default and about.weights != "none needed"  # those run on what is checked above
    }
    return [
        Check(f"backend {a.name}", a.is_installed, a.package, f"install it: {a.remedy}")
        for a in wanted.values()
    ]


def _extras() -> dict[str, bool]:
    """Every extra that some backend wants, and whether all its packages are there."""
    from curation.chain import known_backends
    from schemas.backend import BY_HAND

    found = {name: importlib.util.find_spec(module) is not None for name, module in _EXTRAS.items()}
    for _, _, about, _ in known_backends():
        if about.extra not in {"", BY_HAND}:
            found[about.extra] = found.get(about.extra, True) and about.is_installed
    return found


def _rendering() -> Check:
    from schemas.errors import ConfigError
    from stages.body_models.rendering import check_renderer, renderer_ref

    try:
        check_renderer()
        return Check("off-screen rendering", True, renderer_ref().name)
    except ConfigError as error:
        return Check("off-screen rendering", False, "none", str(error))


def _stages() -> Check:
    from curation.chain import build_chain
    from curation.recipe import load_recipe
    from curation.stage_list import STAGE_CLASSES
    from schemas.errors import ConfigError

    try:
        build_chain(load_recipe("default", [], list(STAGE_CLASSES), options.CURATE_RECIPES))
    except ConfigError as error:
        return Check("default recipe", False, "cannot run", str(error))
    return Check("default recipe", True, f"{len(STAGE_CLASSES)} stages ready")
