"""Adding a backend takes one file (tests/support/toy_people.py) and one member of its stage's choice."""

from __future__ import annotations

import pickle
import re
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field, ValidationError

from schemas.backend import by_name
from schemas.mistakes import explain_validation
from schemas.settings import BESIDE
from stages.screening.detect import DetectConfig, DetectStage
from stages.screening.mediapipe_count import MediapipeConfig
from stages.screening.ultralytics_people import UltralyticsConfig
from tests.support.clips import make_clip
from tests.support.toy_people import ToyConfig


class WithToy(DetectConfig):
    """The stage's settings, with one choice more."""

    backend: Annotated[
        MediapipeConfig | UltralyticsConfig | ToyConfig,
        Field(discriminator="name"),
        by_name("mediapipe"),
        BESIDE,
    ] = MediapipeConfig()


class Detect(DetectStage):
    config_type = WithToy


def test_the_stage_works_with_it_and_says_so(files):
    stage = Detect(WithToy(backend={"name": "toy", "num_people": 2}))
    stage.check()
    pickle.loads(pickle.dumps(stage)).setup()
    row = make_clip(files, num_target=6, num_motion=0, height=96, width=64)
    frames = np.zeros((6, 96, 64, 3), np.uint8)
    row = row.replace(media=row.media.replace(video=files.put_video(frames)))
    found = stage.process(row, files).rows[0]
    assert stage.gate(found).reason == "multiple_people"
    facet = getattr(found, stage.facet)
    assert facet.people_backend.name == "toy"
    assert facet.max_person_count == 2


def test_everything_else_is_derived():
    default, toy = Detect(WithToy()), Detect(WithToy(backend="toy"))
    assert default.fingerprint == DetectStage(DetectConfig()).fingerprint
    other = Detect(WithToy(backend={"name": "toy", "num_people": 3}))
    assert len({default.fingerprint, toy.fingerprint, other.fingerprint}) == 3
    assert [(s, a.name, d) for s, a, d in Detect.known_backends()] == [
        ("backend", "mediapipe", True),
        ("backend", "ultralytics", False),
        ("backend", "toy", False),
    ]
    assert toy.resources.memory_bytes == 1_600_000_000
    assert "ToyConfig" in WithToy.model_json_schema()["$defs"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"backend": "tyo"}, "detect.backend: there is no 'tyo'; did you mean toy?"),
        ({"backend": {"name": "toy", "num_peple": 1}}, "detect.backend.num_peple: unknown key; did you mean num_people?"),
        ({"backend": {"name": "toy", "num_people": -1}}, r"detect.backend.num_people: Input should be greater .* \(got -1\)"),
        ({"num_peple": 1}, "detect.num_peple: unknown key"),
    ],
)  # fmt: skip
def test_mistakes_name_the_key_as_a_recipe_spells_it(settings, told):
    with pytest.raises(ValidationError) as caught:
        WithToy.model_validate(settings)
    assert re.match(told, explain_validation(caught.value, "detect", WithToy))


def test_resources_can_be_set_and_change_no_result():
    plain = Detect(WithToy())
    set_ = Detect(WithToy(resources={"num_gpus": 0.25, "num_cpus": 2}))
    assert (set_.resources.num_gpus, set_.resources.num_cpus) == (0.25, 2)
    assert set_.resources.memory_bytes == plain.resources.memory_bytes
    assert set_.fingerprint == plain.fingerprint
