"""Seconds and memory of the cost table's variants, measured on a real device."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn

from model.cost.flops import BenchSize, CostRow, Variant, build, count_table, make_inputs, stage_of
from model.network.inputs import DiTInputs
from model.network.moe import Expert, mix_experts


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of the fastest forward and the memory it took above the resting network."""

    seconds: float
    peak_bytes: int | None


def measure(
    size: BenchSize,
    variant: Variant,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    repeats: int = 5,
    compiled: bool = False,
) -> Measured:
    """Run forwards of one variant. Give each variant a process of its own for clean memory figures.

    Args:
        size: Network and clip.
        variant: What to run.
        device: ``cpu`` or ``cuda``.
        dtype: Type of the weights.
        repeats: Timed forwards after one untimed.
        compiled: Compile every block.
    """
    model = build(size, variant, device, dtype)
    inputs = make_inputs(model.config, size, device, hoi=model.config.hoi_branch)
    if compiled:
        for block in model.blocks:
            block.compile()
    with torch.inference_mode():
        resting = _reset_peak(device)
        model(inputs, attention=stage_of(variant))
        peak = _peak(device)
        seconds = [_timed(model, inputs, variant, device) for _ in range(repeats)]
    used = None if peak is None or resting is None else peak - resting
    return Measured(min(seconds), used)


def _timed(model: nn.Module, inputs: DiTInputs, variant: Variant, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    model(inputs, attention=stage_of(variant))
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _reset_peak(device: str) -> int | None:
    """Reset the high-water mark; return the memory in use now, or None if it cannot be read."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    marks = Path("/proc/self/clear_refs")
    if not marks.exists():
        return None
    marks.write_text("5")
    return _status("VmRSS")


def _peak(device: str) -> int | None:
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return _status("VmHWM") if Path("/proc/self/status").exists() else None


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def expert_loop(
    x: Float[Tensor, "b n d"], weights: Float[Tensor, "b n k"], experts: Sequence[Expert]
) -> Float[Tensor, "b n d"]:
    """Experts one after the other: what ``mix_experts`` replaces."""
    out = torch.zeros_like(x)
    for k, expert in enumerate(experts):
        hidden = nnf.gelu(expert.fc1(x), approximate="tanh")
        out = out + weights[..., k, None] * expert.fc2(hidden)
    return out


def expert_seconds(
    dim: int, hidden: int, num_experts: int, tokens: int, *, device: str = "cpu", repeats: int = 5
) -> dict[str, float]:
    """Fastest run in seconds of the experts of one block, grouped and in a loop, forward and backward."""
    with torch.device(device):
        experts = [Expert(dim, hidden) for _ in range(num_experts)]
        x = torch.randn(1, tokens, dim, requires_grad=True)
        weights = torch.rand(1, tokens, num_experts)
    result = {}
    for name, function in (("grouped", mix_experts), ("loop", expert_loop)):
        taken = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            torch.autograd.backward(function(x, weights, experts).sum())
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        result[name] = min(taken[1:])  # the first run warms up
    return result


def measure_in_child(
    size: BenchSize, variant: Variant, device: str, threads: int, repeats: int
) -> Measured:
    """Measure one variant with a fixed number of threads; bfloat16 and compiled on a GPU."""
    torch.set_num_threads(threads)
    gpu = device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    return measure(size, variant, device=device, dtype=dtype, repeats=repeats, compiled=gpu)


def measured_rows(
    size: BenchSize, *, device: str = "cpu", threads: int = 1, repeats: int = 5
) -> Iterator[CostRow]:
    """Yield the counted rows of a size with seconds and memory, each from a process of its own."""
    context = multiprocessing.get_context("spawn")
    for row in count_table(size):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            job = pool.submit(measure_in_child, size, row.variant, device, threads, repeats)
            got = job.result()
        yield replace(row, seconds=got.seconds, peak_bytes=got.peak_bytes)
