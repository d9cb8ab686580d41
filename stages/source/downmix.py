"""Two channels to one: the mean, unless it cancels what both hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.kit.arrays import F32

_OPPOSED = 2.0
"""The difference carries so many times the sum's energy: channels of equal level are correlated below -1/3."""
_FULL_SCALE = 32767.0


def mix_down(stereo: NDArray[np.int16]) -> F32:
    """Mix samples (N,2) to (N,) f32 in [-1, 1].

    A microphone or cable with swapped poles gives the same sound in opposite phase: the channels' mean is silence,
    and half their difference is the sound. Unrelated channels, or one that is silent, have a sum as strong as the
    difference: their mean is right.

    >>> left = np.array([100, -200, 300], np.int16)
    >>> (mix_down(np.stack([left, -left], axis=1)) * 32767).round().tolist()
    [100.0, -200.0, 300.0]
    """
    channels = stereo.astype(np.float32) / _FULL_SCALE
    half_sum = channels.mean(axis=1)
    half_difference = (channels[:, 0] - channels[:, 1]) / 2
    is_opposed = np.sum(half_difference**2) > _OPPOSED * np.sum(half_sum**2)
    return np.asarray(half_difference if is_opposed else half_sum)
