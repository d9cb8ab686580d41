"""Training under Ray Train: the plain trainer in one worker process, followed through its metrics file."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation.root.ledger import Ledger
from curation.root.store import Store
from model.training.config import TrainConfig
from model.training.trainer import METRICS_FILE
from schemas.errors import ConfigError, HandloomError
from schemas.manifest import ROOT_MARKER

Metrics = dict[str, Any]


def train_under_ray(
    config: TrainConfig,
    root: Path,
    out: Path,
    *,
    resume: bool,
    on_metrics: Callable[[Metrics], None],
) -> None:
    """Run ``model.training.trainer.train`` in a Ray Train worker and report its metrics as they come.

    Raises:
        ConfigError: The trainer refused the request.
        HandloomError: Training failed.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    from curation.cluster import start_ray
    from curation.ray_errors import our_error_in

    start_ray(needs_api_server=True)
    mark = out.absolute() / f".seen-{secrets.token_hex(8)}"
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "root": str(root.absolute()),
            "out": str(out.absolute()),
            "resume": resume,
            "mark": str(mark),
        },
        scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=has_gpu),
        run_config=ray.train.RunConfig(name="train", storage_path=str(out.absolute() / "ray")),
    )
    finished = threading.Event()
    follower = threading.Thread(
        target=follow, args=(out / METRICS_FILE, on_metrics, finished), daemon=True
    )
    follower.start()
    try:
        trainer.fit()
    except Exception as error:  # Ray wraps what the worker raised
        cause = our_error_in(error)
        if cause is not None:
            raise cause from error
        raise HandloomError(f"training failed: {str(error).splitlines()[-1]}") from error
    finally:
        finished.set()
        follower.join(timeout=5)
        mark.unlink(missing_ok=True)


def train_worker(settings: dict[str, Any]) -> None:
    """The function that Ray Train runs."""
    import ray.train
    import torch

    from model.training.trainer import train

    check_mark(Path(settings["mark"]))
    if not torch.cuda.is_available():
        torch.set_num_threads(os.cpu_count() or 1)  # Ray would leave it at one
    result = train(
        TrainConfig.model_validate(settings["config"]),
        Path(settings["root"]),
        Path(settings["out"]),
        resume=settings["resume"],
    )
    ray.train.report({"step": result.step})


def check_mark(mark: Path) -> None:
    """Prove in the worker that it writes where the driver will read.

    Raises:
        ConfigError: It runs on a machine with another disk.
    """
    if not mark.exists():
        raise ConfigError(
            f"{socket.gethostname()} does not see {mark.parent}, checkpoints would lie on its own disk: give "
            "--out on a mount that all nodes share, or unset RAY_ADDRESS to train on this machine"
        )


def follow(path: Path, on_metrics: Callable[[Metrics], None], finished: threading.Event) -> None:
    """Hand on every whole line of a growing JSON-lines file until ``finished``, each line once.

    A resumed run writes the file anew, without the lines past its checkpoint: those that stand in both are
    not handed on again, those that are computed again are.
    """
    seen: list[bytes] = []
    while True:
        is_last = finished.wait(0.5)
        lines = _whole_lines(path)
        common = 0
        while common < min(len(seen), len(lines)) and seen[common] == lines[common]:
            common += 1
        for line in lines[common:]:
            on_metrics(json.loads(line))
        seen = lines
        if is_last:
            return


def _whole_lines(path: Path) -> list[bytes]:
    """Lines that are written to their end: some megabytes in the longest run."""
    return path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []


def check_local_root(root: str) -> Path:
    """Training reads a local root.

    Raises:
        ConfigError: It is remote, or no Handloom root.
        InvariantError: Its history is not whole.
    """
    path = Path(root)
    if "://" in root:
        raise ConfigError(
            f"{root}: training reads a local root; copy its dataset/ and blobs/ first"
        )
    if not (path / ROOT_MARKER).is_file():
        raise ConfigError(
            f"{root} is not a Handloom root; make one with: handloom curate SRC --out {root}"
        )
    Ledger(Store(root)).check_history()
    return path
