"""The one clock and grid of all that is stored: clips, sound, latents, tokens, boxes.

A clip runs at ``FPS`` with ``SAMPLES_PER_FRAME`` samples a frame; a latent stands for
``FRAMES_PER_LATENT`` frames of ``PX_PER_LATENT`` pixels a side, a token for ``PX_PER_TOKEN``.
"""

from __future__ import annotations

FPS = 25
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
"""Whole: no frame begins between two samples."""
FRAMES_PER_LATENT = 4
PX_PER_LATENT = 8
PX_PER_TOKEN = 2 * PX_PER_LATENT
"""The network's patches are two latent pixels a side, so sides of clips are multiples of it."""
