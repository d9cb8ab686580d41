"""Functions for child processes of test_isolate.py: each goes wrong in its own way. Cheap to import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from schemas.errors import DecodeError


def echo(payload: dict) -> dict:
    print("noise on stdout")
    return {"got": payload, "pid": os.getpid()}


def bad_data(payload: dict) -> dict:
    raise DecodeError("not_video", f"bad \x1b[31m {payload['why']}")


def die(payload: dict) -> dict:
    os.kill(os.getpid(), getattr(signal, payload["signal"]))
    return {}


def leave(payload: dict) -> dict:
    os._exit(payload["code"])


def bug(payload: dict) -> dict:
    raise KeyError("oops")


def eat_memory(payload: dict) -> dict:
    return {"n": len(bytearray(payload["num_bytes"]))}


def talk_too_much(payload: dict) -> dict:
    return {"text": "x" * payload["count"]}


def hang_with_grandchild(payload: dict) -> dict:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(payload["pid_file"]).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(600)
    return {}
