"""What really happened, out of the wrappings that an error gets on its way from a Ray worker."""

from __future__ import annotations

from schemas.errors import HandloomError


def our_error_in(error: BaseException | None) -> HandloomError | None:
    """The HandloomError that a worker raised, as it was raised there; None where there is none."""
    from ray.exceptions import RayError

    while error is not None:
        failures = getattr(error, "worker_failures", None) or {}  # Ray Train: by rank
        for failure in failures.values():
            found = our_error_in(failure)
            if found:
                return found
        # what Ray makes to look like an error of ours is a wrapping too
        if isinstance(error, HandloomError) and not isinstance(error, RayError):
            return type(error)(*error.args)
        cause = getattr(error, "cause", None)
        error = cause if isinstance(cause, BaseException) else error.__cause__
    return None
