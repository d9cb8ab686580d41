"""The cost table of the co-generation network: FLOPs counted, seconds and memory measured in one run.

FLOPs are counted for the 14 B network on the meta device. Seconds and memory are measured with a network of
its proportions at 1/8 of its width, each variant in a process of its own; on a GPU with the 1.3 B shape at
480x832x81 in bfloat16, blocks compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from model.cost.flops import (
    BenchSize,
    CostRow,
    attention_share,
    count_attention_flops,
    count_table,
    make_inputs,
    render,
)
from model.cost.measure import expert_seconds, measured_rows
from model.network.dit import CoGenDiT
from schemas.errors import ConfigError

FULL = BenchSize("s2v-14b")
LARGE = replace(FULL, height=720, width=1280)
SMALL = BenchSize("s2v ratios", height=224, width=256, latents=20, layers=2)
QUICK = replace(SMALL, latents=4)
GPU = BenchSize("1.3b")


def beside_diffusers(size: BenchSize, device: str, threads: int) -> dict[str, float]:
    """Seconds of the plain text-to-video backbone and of diffusers' of the same size, same inputs."""
    from diffusers import WanTransformer3DModel

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = size.config(moe=False, hoi=False).replace(speech=False)
    with torch.device(device):
        ours = CoGenDiT(config).to(dtype).eval()
        theirs = WanTransformer3DModel(
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_dim,
            text_dim=config.text_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
        )
    theirs = theirs.to(dtype).eval()
    inputs = make_inputs(config, size, device, hoi=False)
    x, text = inputs.rgb_latent.to(dtype), inputs.text.to(dtype)
    if device == "cuda":
        for block in [*ours.blocks, *theirs.blocks]:
            block.compile()
    runs: dict[str, Callable[[], Any]] = {
        "handloom": lambda: ours(inputs, attention="full"),
        "diffusers": lambda: theirs(x, timestep=inputs.t, encoder_hidden_states=text),
    }
    best = dict.fromkeys(runs, float("inf"))
    with torch.inference_mode():
        for attempt in range(4):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if device == "cuda":
                    torch.cuda.synchronize()
                if attempt:  # the first run warms up
                    best[name] = min(best[name], time.perf_counter() - start)
    return best


@dataclass(frozen=True, slots=True)
class CostReport:
    """Everything that one run measured.

    Attributes:
        size: What was measured.
        counted: Rows of the 14 B network, FLOPs only.
        counted_720p: The same at 720x1280.
        measured: Rows of ``size`` with seconds and memory.
        attention_ratio: Self-attention of the asymmetric rule over full attention, FLOPs.
        expert_s: Seconds of one block's experts, grouped and in a loop, forward and backward.
        backbone_s: Seconds of a plain text-to-video forward, ours and diffusers'.
    """

    size: BenchSize
    counted: Sequence[CostRow]
    counted_720p: Sequence[CostRow]
    measured: Sequence[CostRow]
    attention_ratio: float
    expert_s: dict[str, float]
    backbone_s: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        tables = {
            "counted": self.counted,
            "counted_720p": self.counted_720p,
            "measured": self.measured,
        }
        return {k: [asdict(r) for r in rows] for k, rows in tables.items()} | {
            "size": asdict(self.size),
            "attention_asymmetric_over_full": self.attention_ratio,
            "expert_seconds": self.expert_s,
            "backbone_seconds": self.backbone_s,
        }


def measure_cost(
    device: str, *, quick: bool, threads: int, progress: Callable[[str, int, int], None]
) -> CostReport:
    """Count and measure everything.

    Raises:
        ConfigError: A GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no GPU here: run without --device cuda")
    size = GPU if device == "cuda" else QUICK if quick else SMALL
    counted, rows = count_table(FULL), []
    for row in measured_rows(size, device=device, threads=threads):
        rows.append(row)
        progress(f"measured {row.variant}", len(rows), len(counted) + 2)
    share = count_attention_flops(FULL, "asymmetric") / count_attention_flops(FULL, "full")
    torch.set_num_threads(threads)
    experts = expert_seconds(640, 32, 3, size.tokens, device=device)
    progress("measured experts", len(rows) + 1, len(counted) + 2)
    backbones = beside_diffusers(size, device, threads)
    progress("measured diffusers", len(rows) + 2, len(counted) + 2)
    return CostReport(size, counted, count_table(LARGE), rows, share, experts, backbones)


def text_of(report: CostReport, device: str, peak_tflops: float) -> str:
    """The report for people."""
    lines: list[str] = []
    tables = (("counted", report.counted, FULL), ("measured", report.measured, report.size))
    for title, table, what in tables:
        lines += [
            f"{title}: {what.name}, {what.height}x{what.width}, {what.latents} latents,"
            f" {what.tokens} tokens per stream, a = {attention_share(what):.3f}",
            *render(table),
            "",
        ]
    plain, moe = (report.counted[i].flops for i in (0, 1))
    at_480p, at_720p = (
        table[2].flops / table[3].flops for table in (report.counted, report.counted_720p)
    )
    experts, backbones = report.expert_s, report.backbone_s
    lines += [
        f"self-attention, asymmetric over full: {report.attention_ratio:.3f}",
        f"whole forward of the 14 B network, asymmetric over full: {at_480p:.3f} at 480x832, "
        f"{at_720p:.3f} at 720x1280",
        f"MoE over plain, FLOPs of the 14 B network: {moe / plain:.4f}",
        f"experts, forward and backward: grouped takes {experts['grouped'] / experts['loop']:.2f} of a loop's time",
        "plain text-to-video backbone, seconds of a forward: "
        + ", ".join(f"{name} {seconds:.3f}" for name, seconds in backbones.items()),
    ]
    if device == "cuda":
        lines += gpu_extras(report.measured, report.size, peak_tflops)
    else:
        lines.append(
            "1.3 B shape at 480x832x81 in bfloat16, compiled, tokens/s, MFU: unmeasured on GPU"
        )
    return "\n".join(lines)


def gpu_extras(rows: Sequence[CostRow], size: BenchSize, peak_tflops: float) -> list[str]:
    """Tokens per second and share of the device's peak."""
    lines = []
    for row in rows:
        assert row.seconds is not None
        streams = 1 if row.variant in ("plain", "moe") else 2
        rate = streams * size.tokens / row.seconds
        share = row.flops / row.seconds / peak_tflops / 1e12
        lines.append(
            f"{row.variant:<12}{rate:12.0f} tokens/s{share:8.1%} of {peak_tflops:.0f} TFLOP/s"
        )
    return lines
