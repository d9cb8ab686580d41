"""Pictures of the accuracy bench: right, wrong and missed pixels have their own colours."""

from __future__ import annotations

import numpy as np

from jobs.bench.pictures import strip


def test_hits_errors_and_joints_are_told_apart():
    frames = np.full((12, 40, 60, 3), 100, np.uint8)
    found, true = np.zeros((2, 12, 40, 60), bool)
    found[:, 10:20, 10:30] = True
    true[:, 10:20, 20:40] = True
    joints = np.full((12, 2, 2), np.nan, np.float32)
    joints[:, 0] = (50, 30)
    picture = strip(frames, found, true, joints)
    assert picture.shape == (20, 6 * 30, 3)
    wrong, hit, missed = picture[7, 7], picture[7, 12], picture[7, 17]
    assert wrong.argmax() == 0
    assert hit.argmax() == 1
    assert missed.argmax() == 2
    assert picture[15, 25].tolist() == [255, 220, 0]
    assert picture[2, 2].tolist() == [100, 100, 100]
