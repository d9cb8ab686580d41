"""Flow between key frames: what the engine gives, each direction on its own, computed once."""

from __future__ import annotations

import numpy as np

from stages.kit.masks import iou
from stages.product import flow
from stages.product.scene import load_scene
from tests.unit.stages.product import held_scene


def test_each_pair_is_the_engines_and_computed_once(monkeypatch):
    clip = held_scene.render(6)
    scene = load_scene(clip.frames, clip.landmarks, 240)
    make, asked = flow.make_flow, []

    class Counts:
        def __init__(self, **how):
            self.engine = make(**how)

        def calc(self, *given):
            asked.append(given)
            return self.engine.calc(*given)

    monkeypatch.setattr(flow, "make_flow", Counts)
    flows = flow.KeyFlows(scene.grey)
    there, back = flows.back(4, 0), flows.back(0, 4)
    assert flows.back(4, 0) is there
    assert len(asked) == 2
    assert np.array_equal(there, make().calc(scene.grey[4], scene.grey[0], None))
    moved = [flow.warp(clip.truth[0], there), flow.warp(clip.truth[0], back)]
    right, wrong = (iou(mask, clip.truth[4]) for mask in moved)
    assert right > 0.8 > wrong
