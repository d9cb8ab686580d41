"""Print the cost table of the co-generation network.

    python benchmarks/model_cost.py                 # on this machine's CPU, one thread
    python benchmarks/model_cost.py --quick         # a smaller clip
    python benchmarks/model_cost.py --device cuda   # 1.3 B shape at 480x832x81, bfloat16, compiled

FLOPs are counted for the 14 B network on the meta device. Seconds and memory are measured with a
network of its proportions at 1/8 of its width, each variant in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace

import torch

from model.bench import (
    BenchSize,
    attention_share,
    count_attention_flops,
    count_table,
    make_inputs,
    render,
)
from model.bench_measure import expert_seconds, measured_rows
from model.dit import CoGenDiT

FULL = BenchSize("s2v-14b")
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
    runs = {
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


def gpu_extras(rows, size: BenchSize, peak_tflops: float) -> list[str]:
    """Tokens per second and share of the device's peak."""
    lines = []
    for row in rows:
        streams = 1 if row.variant in ("plain", "moe") else 2
        rate, share = (
            streams * size.tokens / row.seconds,
            row.flops / row.seconds / peak_tflops / 1e12,
        )
        lines.append(
            f"{row.variant:<12}{rate:12.0f} tokens/s{share:8.1%} of {peak_tflops:.0f} TFLOP/s"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smaller clip for the measured part")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="dense bf16 peak of the GPU"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here: run without --device cuda")
    size = GPU if args.device == "cuda" else QUICK if args.quick else SMALL

    counted, rows = count_table(FULL), []
    for row in measured_rows(size, device=args.device, threads=args.threads):
        rows.append(row)
        print(f"  measured {row.variant}", file=sys.stderr)
    share = count_attention_flops(FULL, "asymmetric") / count_attention_flops(FULL, "full")
    torch.set_num_threads(args.threads)
    experts = expert_seconds(640, 32, 3, size.tokens, device=args.device)
    backbones = beside_diffusers(size, args.device, args.threads)
    if args.json:
        tables = {"counted": counted, "measured": rows}
        found = {k: [asdict(r) for r in v] for k, v in tables.items()}
        found |= {
            "attention_asymmetric_over_full": share,
            "expert_seconds": experts,
            "backbone_seconds": backbones,
        }
        print(json.dumps(found, indent=1))
        return
    for title, table, what in (("counted", counted, FULL), ("measured", rows, size)):
        print(
            f"\n{title}: {what.name}, {what.height}x{what.width}, {what.latents} latents,"
            f" {what.tokens} tokens per stream, a = {attention_share(what):.3f}"
        )
        print("\n".join(render(table)))
    print(f"\nself-attention, asymmetric / full: {share:.3f}")
    print(f"MoE / plain, FLOPs of the 14 B network: {counted[1].flops / counted[0].flops:.4f}")
    faster = experts["loop"] / experts["grouped"]
    print(
        f"experts, forward and backward: grouped is {faster:.2f} times as fast as a loop {experts}"
    )
    print(f"plain text-to-video backbone, seconds of a forward: {backbones}")
    if args.device == "cuda":
        print("\n".join(gpu_extras(rows, size, args.peak_tflops)))
    else:
        print("GPU (1.3 B shape, 480x832x81, bfloat16, compiled, tokens/s, MFU): unmeasured on GPU")


if __name__ == "__main__":
    main()
