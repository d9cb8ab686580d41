"""Read training samples: typed values, tensors, and the frames that they were made of.

    python examples/read_shards.py my-root film.mp4

The root may be an s3:// address: only the shards that are read are copied.
"""

from __future__ import annotations

import sys

import numpy as np

import handloom


def tensor(stored: handloom.StoredTensor) -> np.ndarray:
    """A stored tensor as an array; ``torch.from_numpy`` takes it from here."""
    return np.frombuffer(stored.data, stored.dtype).reshape(stored.shape)


def main(address: str, film: str) -> None:
    """Print every sample's shapes and scores, and write the first one as a film."""
    with handloom.open(address) as root:
        samples = root.samples()  # a sequence: torch.utils.data.DataLoader takes it as it is
        for sample in samples:
            rgb, hoi = tensor(sample.rgb_latent), tensor(sample.hoi_latent)
            assert rgb.shape == hoi.shape  # frame for frame beside each other
            hands = sum(box is not None for box in sample.right_hand_boxes_frame)
            print(f"{sample.clip_id} {rgb.shape} {sample.codec}: {sample.prompt}")
            print(
                f"    right hand in {hands} frames, mask {sample.scores['objects.confidence']:.2f}"
            )

        shown = root.decode(samples[0])
        handloom.write_mp4(film, shown)  # and the structure stream beside it
        print(f"{film}: {len(shown.rgb)} frames at {shown.fps} per second")


if __name__ == "__main__":
    main(*sys.argv[1:])
