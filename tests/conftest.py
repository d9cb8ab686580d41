"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("handloom", deadline=None, derandomize=True)
settings.load_profile("handloom")
os.environ.setdefault("YOLO_OFFLINE", "true")

REPO = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files on purpose")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared sample videos; skips where they are absent."""
    folder = Path(os.environ.get("HANDLOOM_SHARED_DATA", REPO.parent / "shared" / "data"))
    if not (folder / "videos").is_dir():
        pytest.skip(f"no shared sample data at {folder}; set HANDLOOM_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def trials(shared_data) -> Path:
    """Small inputs that once failed, each standing for a kind of fault; skips where they are absent."""
    folder = shared_data / "trials"
    if not folder.is_dir():
        pytest.skip(f"no trial inputs at {folder}")
    return folder


@pytest.fixture(scope="session")
def ray_cluster():
    """A private two-CPU Ray on this machine for the whole session."""
    import ray

    from curation.cluster import start_ray

    start_ray()
    yield
    ray.shutdown()
