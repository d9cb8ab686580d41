"""Run one of our own functions in a disposable child process.

Decoders of hostile bytes crash, loop and eat memory. A child costs about 0.3 s and may die alone:

    parent   run_isolated("stages.source.probe_worker:probe_file", {...}, ChildBudget(...))
    child    python -m stages.kit.isolate     payload on stdin, one JSON document back on a private pipe

The child leads its own process group, dies with its parent, cannot exceed its address space and is
killed with its whole group when the wall clock runs out or it says too much.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import logging
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ChildCrashError, ConfigError, DataError, DecodeError

log = logging.getLogger(__name__)

Payload = dict[str, Any]

_FATAL_SIGNALS = (
    "SIGSEGV",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGILL",
    "SIGKILL",
    "SIGTERM",
    "SIGSYS",
)
CHILD_REASONS = frozenset(
    {
        "timeout",
        "out_of_memory",
        "crash_exit",
        "crash_other",
        "child_error",
        "child_output_too_large",
    }
    | {f"crash_{name}" for name in _FATAL_SIGNALS}
)
"""Every code of a ``ChildCrashError`` raised here."""

_PR_SET_PDEATHSIG = 1
_DETAIL_CHARS = 600
_STDERR_TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ChildBudget:
    """What a child may use.

    Args:
        wall_s: Wall-clock seconds from start to answer.
        memory_bytes: Address space (``RLIMIT_AS``), which counts mappings, not only resident pages.
        max_output_bytes: Length of the answer.
    """

    wall_s: float
    memory_bytes: int
    max_output_bytes: int = 64_000_000


def run_isolated(function: str, payload: Payload, budget: ChildBudget) -> Payload:
    """Call ``function(payload)`` in a child process and return its JSON answer.

    Args:
        function: ``package.module:name`` of a function that takes and returns a JSON-able dict.
        payload: Its argument.
        budget: What the child may use.

    Raises:
        DecodeError: The function raised a ``DataError``; the code is kept.
        ChildCrashError: The child died (``crash_SIGSEGV``), ran out of time or memory, or broke.
        ConfigError: The function raised one, such as ffmpeg not being installed.
    """
    child = _start(budget, function)
    try:
        answer, stderr, verdict = _talk(child, json.dumps(payload).encode(), budget)
    finally:
        _kill_group(child)
    if verdict or child.returncode != 0:
        log.warning("%s ended badly; it said: %s", function, clean_text(_text(stderr)))
    if verdict:
        raise ChildCrashError(verdict, f"{function}: {budget}; {_last_words(stderr)}")
    if child.returncode != 0:
        code = _exit_code(child.returncode, stderr)
        raise ChildCrashError(code, f"{function}: {_last_words(stderr)}")
    try:
        return _unpack(function, answer)
    except ChildCrashError:
        log.warning("%s broke; it said: %s", function, clean_text(_text(stderr)))
        raise


def _start(budget: ChildBudget, function: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OPENBLAS_NUM_THREADS": "1",  # each idle BLAS thread would reserve address space
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    argv = [
        sys.executable,
        "-m",
        "stages.kit.isolate",
        function,
        str(os.getpid()),
        str(budget.memory_bytes),
    ]
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        process_group=0, env=env, bufsize=0,
    )  # fmt: skip


def _talk(
    child: subprocess.Popen[bytes], request: bytes, budget: ChildBudget
) -> tuple[bytes, bytes, str]:
    """Feed the request and read both pipes until they close: (answer, stderr tail, verdict)."""
    assert child.stdin
    assert child.stdout
    assert child.stderr
    deadline = time.monotonic() + budget.wall_s
    answer, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        os.set_blocking(child.stdin.fileno(), False)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        selector.register(child.stdout, selectors.EVENT_READ)
        selector.register(child.stderr, selectors.EVENT_READ)
        rest = memoryview(request)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return bytes(answer), bytes(stderr), "timeout"
            for key, _ in selector.select(left_s):
                if key.fileobj is child.stdin:
                    rest = _write_some(child.stdin.fileno(), rest)
                    if not rest:
                        selector.unregister(child.stdin)
                        child.stdin.close()
                    continue
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is child.stdout:
                    answer += chunk
                else:
                    stderr = (stderr + chunk)[-_STDERR_TAIL_BYTES:]
            if len(answer) > budget.max_output_bytes:
                return bytes(answer[:1000]), bytes(stderr), "child_output_too_large"
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(answer), bytes(stderr), "timeout"
    return bytes(answer), bytes(stderr), ""


def _write_some(descriptor: int, rest: memoryview) -> memoryview:
    try:
        return rest[os.write(descriptor, rest) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:  # the child died before it had read everything: its exit code tells why
        return rest[:0]


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody may be left in it
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            pipe.close()


def _exit_code(returncode: int, stderr: bytes) -> str:
    if returncode < 0:
        name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else ""
        if name == "SIGABRT" and b"bad_alloc" in stderr:
            return "out_of_memory"
        return f"crash_{name}" if name in _FATAL_SIGNALS else "crash_other"
    return "crash_exit"


def _unpack(function: str, answer: bytes) -> Payload:
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise ChildCrashError("child_error", f"{function}: no JSON answer ({error})") from error
    match document:
        case {"result": dict(result)}:
            return result
        case {"data_error": [str(code), str(detail)]}:
            raise DecodeError(code, detail)
        case {"config_error": str(message)}:
            raise ConfigError(message)
        case {"crash": [str(code), str(detail)]}:
            raise ChildCrashError(code, f"{function}: {detail}")
        case _:
            raise ChildCrashError("child_error", f"{function}: unexpected answer {document!r:.200}")


def _text(stderr: bytes) -> str:
    return stderr.decode(errors="replace")


def _last_words(stderr: bytes) -> str:
    """What a dying child said, without the frames of a traceback: those go to the log."""
    lines = [line for line in _text(stderr).splitlines() if line and not _is_frame(line)]
    return clean_text(" ".join(lines))[-_DETAIL_CHARS:]


def _is_frame(line: str) -> bool:
    return line.startswith((" ", "Traceback ", "Current thread ", "Thread ", "Extension modules:"))


def clean_text(text: str) -> str:
    """Replace control characters, which container metadata may carry into logs and pages.

    >>> clean_text("a\\x1b[31mb\\nc")
    'a [31mb c'
    """
    return "".join(c if c.isprintable() else " " for c in text).strip()


def one_line(error: BaseException) -> str:
    """What happened, in one line, without a traceback.

    >>> one_line(KeyError("a\\nb"))
    "KeyError: 'a\\\\nb'"
    """
    text = getattr(error, "strerror", None) or str(error)
    return clean_text(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:300]


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"(in {frames[-1].name}, line {frames[-1].lineno})" if frames else ""


def _limit(parent_pid: int, memory_bytes: int) -> None:
    """Die with the parent; bound memory; leave no core files."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(function: str, payload: Payload) -> Payload:
    module, _, name = function.partition(":")
    try:
        return {"result": getattr(importlib.import_module(module), name)(payload)}
    except DataError as error:
        return {"data_error": [error.code, clean_text(error.detail)[:_DETAIL_CHARS]]}
    except ConfigError as error:
        return {"config_error": str(error)}
    except MemoryError as error:
        return {"crash": ["out_of_memory", clean_text(str(error))]}
    except Exception as error:  # noqa: BLE001 - the border of the process: the parent hears of a crash
        traceback.print_exc()  # for the log; a row's detail is one line
        return {"crash": ["child_error", f"{one_line(error)} {_place(error)}"[:_DETAIL_CHARS]]}


def main(argv: list[str]) -> None:
    """Serve one call: the child's side."""
    function, parent_pid, memory_bytes = argv
    _limit(int(parent_pid), int(memory_bytes))
    answer_fd = os.dup(1)
    os.set_inheritable(answer_fd, False)
    os.dup2(2, 1)  # what libraries print must not end up in the answer
    payload = json.loads(sys.stdin.buffer.read())
    data = json.dumps(_answer(function, payload)).encode()
    with os.fdopen(answer_fd, "wb") as out:
        out.write(data)
    sys.stderr.flush()
    os._exit(0)  # skip the teardown of native libraries: the answer is out


if __name__ == "__main__":
    main(sys.argv[1:])
