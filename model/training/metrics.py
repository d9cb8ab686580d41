"""Metrics of a training run: the log, the curves, sums over evaluation steps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.training.step import StepOutput
from schemas.durable import written_whole
from schemas.errors import ConfigError


class MetricsLog:
    """``metrics.jsonl``: one line per report. Resuming cuts lines past the checkpoint's step."""

    def __init__(self, path: Path, *, is_writer: bool) -> None:
        self._path, self._is_writer = path, is_writer
        self.lines: list[dict[str, Any]] = []

    def open(self, step: int) -> None:
        """Keep what was logged up to ``step``; start anew at 0."""
        if not self._is_writer:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if step > 0 and self._path.exists():
            self.lines = [line for line in read_lines(self._path) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        with written_whole(self._path) as partial:
            partial.write_text(text)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        self.lines.append(line)
        with self._path.open("a") as out:
            out.write(json.dumps(line) + "\n")

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """All lines of one kind."""
        return [line for line in self.lines if line["kind"] == kind]

    def panels(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """Curves for ``curves.svg``."""
        evals = self.of_kind("eval")

        def curve(lines: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
            return [(x["step"], x[key]) for x in lines if x.get(key) is not None]

        return {
            "training loss (at random noise levels)": {
                key: smooth(curve(self.of_kind("train"), key)) for key in ("rgb", "hoi", "router")
            },
            "evaluation loss (mean over fixed noise levels)": {
                key: curve(evals, key) for key in ("rgb", "hoi", "router")
            },
            "router accuracy in evaluation": {
                key: curve(evals, f"accuracy_{key}") for key in ("head", "hand", "base")
            },
        }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines; the last one is left out where the writer was killed in the middle of it.

    Raises:
        ConfigError: Something that is no line of ours stands in the file.
    """
    whole = path.read_bytes().rpartition(b"\n")[0]
    try:
        lines = [json.loads(text) for text in whole.splitlines()]
        if all(isinstance(line["step"], int) for line in lines):
            return lines
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}; move it away to go on without it"
        ) from error
    raise ConfigError(f"{path} is damaged: a step is no number; move it away to go on without it")


def smooth(points: list[tuple[float, float]], decay: float = 0.9) -> list[tuple[float, float]]:
    """Exponential mean of a curve, without the start's bias."""
    out, mean, weight = [], 0.0, 0.0
    for x, y in points:
        mean, weight = decay * mean + (1 - decay) * y, decay * weight + (1 - decay)
        out.append((x, mean / weight))
    return out


def accuracies(hits: dict[str, tuple[int, int]]) -> dict[str, float | None]:
    """Share of right tokens per class; None for a class without tokens."""
    return {f"accuracy_{k}": right / count if count else None for k, (right, count) in hits.items()}


def add_eval(
    done: StepOutput, sigma: float, sums: Counter[str], hits: Counter[str], regions: Counter[str]
) -> None:
    """Add one evaluation step to running sums."""
    for key, term in done.terms.present().items():
        value = float(term)
        sums[key] += value  # type: ignore[assignment]
        sums[f"{key}@{sigma:g}"] += value  # type: ignore[assignment]
    for name, (right, count) in done.router_hits.items():
        hits[f"{name}/right"] += right
        hits[f"{name}/all"] += count
    for name, (error, count) in done.regions.items():
        regions[f"{name}/sum"] += error * count  # type: ignore[assignment]
        regions[f"{name}/all"] += count


def eval_metrics(
    sums: Counter[str],
    hits: Counter[str],
    regions: Counter[str],
    num_clips: int,
    sigmas: Sequence[float],
) -> dict[str, Any]:
    """Turn running sums into means."""
    per_clip = {k: v / num_clips / (1 if "@" in k else len(sigmas)) for k, v in sums.items()}
    names = {k.partition("/")[0] for k in hits}
    counted = {n: (hits[f"{n}/right"], hits[f"{n}/all"]) for n in sorted(names)}
    by_region = {
        f"rgb_{name}": regions[f"{name}/sum"] / regions[f"{name}/all"]
        if regions[f"{name}/all"]
        else None
        for name in sorted({k.partition("/")[0] for k in regions})
    }
    return {**per_clip, **accuracies(counted), **by_region, "num_clips": num_clips}
