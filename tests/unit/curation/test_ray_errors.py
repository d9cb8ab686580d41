"""Errors of ours come out of Ray's wrappings as they were raised."""

from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError

from curation.ray_errors import our_error_in
from schemas.errors import ConfigError, DataError, HandloomError


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("error", [ConfigError("no root"), DataError("no_pose", "0 of 9 frames")])
def test_an_error_of_ours_is_found_through_ray_and_python(error):
    as_ray_does = RayTaskError("work", "Traceback ...", error).as_instanceof_cause()
    for wrapped in (error, as_ray_does, caused(RuntimeError("Ray Data"), as_ray_does)):
        found = our_error_in(wrapped)
        assert type(found) is type(error)
        assert str(found) == str(error)


def test_the_failures_that_ray_train_lists_are_looked_at():
    failed = RuntimeError("1 worker failed")
    failed.worker_failures = {0: caused(ValueError("outer"), HandloomError("disk full"))}
    assert str(our_error_in(failed)) == "disk full"


def test_what_is_not_ours_stays_what_it_is():
    assert our_error_in(caused(RuntimeError("a"), ValueError("b"))) is None
    assert our_error_in(None) is None
