"""Sample a video from a checkpoint: twice the same request, with and without guidance by its prompt.

    python examples/sample.py my-root/train-smoke my-root out/

Person, product, sound and prompt are those of the root's first clip; give ``person=``, ``product=`` and
``prompt=`` for your own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import handloom


def main(checkpoint: str, root: str, out: str, steps: str = "20") -> None:
    """Write one mp4 for each strength of guidance."""
    for guidance in (1.0, 5.0):
        result = handloom.sample(
            checkpoint,
            root=root,
            settings={"steps": int(steps), "text_guidance": guidance, "seed": 7},
        )
        film = Path(out) / f"guidance-{guidance:g}.mp4"
        handloom.write_mp4(film, result)
        height, width = result.rgb.shape[1:3]
        print(f"{film}: {len(result.rgb)} frames, {width}x{height}")


if __name__ == "__main__":
    main(*sys.argv[1:])
