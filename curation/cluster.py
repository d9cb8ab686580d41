"""Starting the embedded Ray on a machine that may be busy, or joining the cluster that the environment names.

Left alone, Ray waits 30 s for its node, and its raylet gives up after 15 s when one of its helpers is slow to tell
the port it chose. Here the ports are chosen beforehand, the dashboard stays out, the wait is longer, and of a start
that failed nothing is left running before the second one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import worker as ray_worker

from curation.held_stderr import held_back_stderr
from curation.ray_processes import (
    Started,
    adapted_ray,
    stop_processes,
    why_ray_does_not_start,
)
from schemas.errors import ConfigError, HandloomError

_log = logging.getLogger(__name__)
_KNOCK_S = 10.0
_AGENT_WAIT_MS = 600_000
_OBJECT_STORE_BYTES = 1 << 30
_CHATTY = (
    "ray._private.authentication.authentication_token_setup",  # "token authentication is enabled"
    "ray.data._internal.progress",  # "progress bars disabled": we asked for it
    "ray.data._internal.execution.streaming_executor_state",  # says what it then raises
)


def start_ray(*, needs_api_server: bool = False) -> None:
    """Connect to the cluster that the environment names, or start a private one on this machine.

    Args:
        needs_api_server: Start Ray's own as well: Ray Train asks it how its actors are.

    Raises:
        ConfigError: A variable that makes Ray unpickle foreign files is set.
        HandloomError: Ray does not start, or no cluster answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        return
    _check_environment()
    with _own_sigterm():
        _join_or_start(needs_api_server)


def check_ray(timeout_s: float) -> str:
    """Start or join Ray as a run would, have a worker answer, and leave again.

    Args:
        timeout_s: For the worker's answer; starting has its own limit.

    Returns:
        What there is, for people.

    Raises:
        HandloomError: Ray does not start, or no worker answers.
    """
    start_ray()
    try:
        where = ray.get(ray.remote(_host_name).remote(), timeout=timeout_s)
        have = ray.cluster_resources()
    except Exception as error:
        raise HandloomError(
            f"Ray started, but no worker answered in {timeout_s:.0f} s ({error}); memory may be short, or "
            "another Ray's leftovers in the way: ray stop --force ends them all"
        ) from error
    finally:
        ray.shutdown()
    return f"{have.get('CPU', 0):g} CPUs, {have.get('GPU', 0):g} GPUs, a worker answered on {where}"


def _host_name() -> str:
    return socket.gethostname()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep who minds SIGTERM: Ray's own handler would end the driver without a word, its lease left behind."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread: Ray set none either
            signal.signal(signal.SIGTERM, before)


def _join_or_start(needs_api_server: bool) -> None:
    # or Ray prints what its raylets say on standard output, where a document of --json may be
    ray_worker.print_to_stdstream = _to_log
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address := os.environ.get("RAY_ADDRESS"):
        _join(options, address)
        return
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # ours lives and dies with the cluster
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _start(
        options
        | {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        },
        needs_api_server,
    )


def _to_log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:  # noqa: ARG001 - Ray's
    for line in data["lines"]:
        _log.info("ray: %s", line)


def _check_environment() -> None:
    # the variables that would let Ray unpickle foreign Parquet metadata
    for name in (
        "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
        "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
        "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    ):
        if os.environ.get(name):
            raise ConfigError(f"{name} is set: Ray would run code from Parquet files; unset it")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it writes past our progress bars
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_agent_register_timeout_ms", str(_AGENT_WAIT_MS))
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _join(options: dict[str, object], address: str) -> None:
    try:
        _knock(address)
        with held_back_stderr():
            ray.init(**options)
    except Exception as error:
        ray.shutdown()
        raise HandloomError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); check the address and that Ray "
            "and Python have the same versions there, or unset it to run on this machine alone"
        ) from error


def _knock(address: str) -> None:
    """Find out in seconds that nobody listens: Ray itself would try for minutes.

    Raises:
        OSError: Nobody does.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d+)", address)
    if found is None:
        return  # "auto" and the like: Ray knows where that is
    for is_last in (False, False, True):
        try:
            socket.create_connection((found[1], int(found[2])), timeout=_KNOCK_S).close()
        except OSError:
            if is_last:
                raise
            time.sleep(1)
        else:
            return


def _start(options: dict[str, object], needs_api_server: bool) -> None:
    """Start a cluster, twice at most."""
    for is_last in (False, True):
        begun = Started()
        try:
            with held_back_stderr(), adapted_ray(begun, needs_api_server):
                ray.init(**options)
        except Exception as error:
            ray.shutdown()
            stop_processes(begun)
            if is_last:
                raise HandloomError(why_ray_does_not_start(error, begun)) from error
        else:
            return
