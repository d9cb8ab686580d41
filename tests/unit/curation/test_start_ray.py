"""A Ray that does not start is a clear error, after a second try."""

from __future__ import annotations

import pytest
import ray

from curation.execute import start_ray
from schemas.errors import HandloomError


@pytest.fixture
def stopped(monkeypatch):
    """No Ray in this process, and a record of the attempts to start one."""
    tries: list[dict[str, object]] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    def fail_times(count):
        def init(**options):
            tries.append(options)
            if len(tries) <= count:
                raise Exception("The current node timed out during startup.")  # noqa: TRY002

        monkeypatch.setattr(ray, "init", init)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return fail_times, tries


def test_one_slow_start_is_tried_again(stopped):
    fail_times, tries = stopped
    fail_times(1)
    start_ray()
    assert len(tries) == 2


def test_a_ray_that_never_starts_is_a_clear_error(stopped):
    fail_times, tries = stopped
    fail_times(99)
    with pytest.raises(HandloomError, match=r"did not start on this machine.*timed out.*doctor"):
        start_ray()
    assert len(tries) == 2


def test_a_named_cluster_is_not_tried_twice(stopped, monkeypatch):
    fail_times, tries = stopped
    fail_times(99)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(
        HandloomError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"
    ):
        start_ray()
    assert len(tries) == 1
