"""Quality and speed of a codec on clips: python benchmarks/codec.py CLIP... [--size 480x832].

Frames are area-averaged to the size; PSNR is over all frames, latents stored as float16 as in shards.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

import cv2
import numpy as np
import torch
from pydantic import TypeAdapter

from model.codecs.codec_choice import CodecChoice
from model.codecs.video import as_array, encode_frames, round_trip_psnr_db
from stages.kit.media import read_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--size", default="480x832", help="width x height, multiples of 8")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--codec", default="dct")
    parser.add_argument("--folder", help="weights of wan2.1-vae")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    chosen = {"name": args.codec} | ({"folder": args.folder} if args.folder else {})
    codec = TypeAdapter(CodecChoice).validate_python(chosen).build().opened
    print("| clip | frames | PSNR dB | encode ms/frame | decode ms/frame | KB/frame |")
    print("|---|---|---|---|---|---|")
    for path in args.clips:
        frames = _frames(path, args.frames, (width, height))
        start = time.process_time()
        latents = as_array(encode_frames(codec, frames))
        middle = time.process_time()
        psnr = round_trip_psnr_db(codec, frames, torch.from_numpy(latents).float())
        decode = time.process_time() - middle
        per_frame = 1000 / len(frames)
        print(
            f"| {path.name} | {len(frames)} | {psnr:.2f} | {(middle - start) * per_frame:.1f} | "
            f"{decode * per_frame:.1f} | {latents.nbytes / len(frames) / 1024:.1f} |"
        )


def _frames(path: Path, count: int, size: tuple[int, int]) -> np.ndarray:
    frames = read_video(path)
    count = min(count, 1 + 4 * ((len(frames) - 1) // 4))
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames[:count]])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
