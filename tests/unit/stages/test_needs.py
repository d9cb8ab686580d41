"""``needs`` is exactly what ``process`` reads: one too few leaves stale rows, one too many computes in vain.

Every stage runs on a row that has all facets and notes which of them are asked for. Settings are those under which
a stage reads most: a backend that reads less may declare no less.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from curation.chain import STAGE_CLASSES, build_chain
from curation.recipe import Recipe
from schemas.rows import Clip, Row, SourceVideo
from schemas.sample import ShardPlan
from stages.files import Files
from stages.packing.shards import plan_shards
from tests.support import facets
from tests.support.clips import make_clip
from tests.unit.stages.body.test_body_and_structure import make_clip as body_clip
from tests.unit.stages.body.test_body_and_structure import object_masks
from tests.unit.stages.product import held_scene
from tests.unit.stages.screening.test_detect import FakePeople
from tests.unit.stages.source.synth import source_of, textured, write_source

CHAIN = build_chain(Recipe(name="needs", stages={}))
MAKERS = {stage.facet: stage.name for stage in CHAIN.stages if stage.facet} | {"media": "segment"}
"""By field of a row: the stage that fills it. Segment emits clips and fills what is their own."""

_watches: list[set[str]] = []


def _note(field: str) -> None:
    if _watches and field in MAKERS:
        _watches[-1].add(MAKERS[field])


class _Watched:
    """Notes which stages' fields are read."""

    def __getattribute__(self, name: str) -> Any:
        _note(name)
        return super().__getattribute__(name)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for name, value in super().__iter__():
            _note(name)
            yield name, value

    def with_facet(self, name: str, facet: Any) -> Any:
        """A copy touches every field without asking what it says."""
        with _watch():
            return super().with_facet(name, facet)


class WatchedSource(_Watched, SourceVideo):
    """A source that is watched."""


class WatchedClip(_Watched, Clip):
    """A clip that is watched."""


class WatchedPlan(_Watched, ShardPlan):
    """A shard's plan that is watched, with its clips."""

    clips: tuple[WatchedClip, ...]


@contextmanager
def _watch() -> Iterator[set[str]]:
    _watches.append(set())
    try:
        yield _watches[-1]
    finally:
        _watches.pop()


def watched(row: Row) -> Any:
    if isinstance(row, ShardPlan):
        return WatchedPlan(clips=tuple(watched(clip) for clip in row.clips))
    kind = WatchedSource if isinstance(row, SourceVideo) else WatchedClip
    return kind.model_validate(dict(row))


def with_all_facets(clip: Clip) -> Clip:
    """The clip with every facet: those it lacks point at no real file."""
    missing = {
        name: getattr(facets, f"{name}_facet")()
        for name, value in clip
        if name in MAKERS and value is None
    }
    return clip.replace(**missing)


class Rows:
    """A real row for each stage, small."""

    def __init__(self, request: pytest.FixtureRequest, files: Files) -> None:
        self._request, self._files = request, files

    def probe(self) -> SourceVideo:
        path = write_source(self._files.scratch / "source.mp4", textured(40))
        return source_of(path)

    def segment(self) -> SourceVideo:
        return self.probe().replace(probe=facets.probe_facet())

    def quality(self) -> Clip:
        return make_clip(self._files)

    speech = latents = quality

    def detect(self) -> Clip:
        return held_scene.clip_of(self._held, self._files)

    objects = detect

    def references(self) -> Clip:
        return held_scene.with_objects(self._held, self._files)

    def triplets(self) -> Clip:
        return _process("references", self.references(), self._files)

    def caption(self) -> Clip:
        in_hand = self._held.truth.any(axis=(1, 2))[:, None].repeat(2, axis=1).astype("u1")
        return held_scene.with_objects(self._held, self._files, in_hand=in_hand)

    def body(self) -> Clip:
        truth = self._request.getfixturevalue("truth")
        return body_clip(self._files, truth, object_masks(truth))

    def structure(self) -> Clip:
        return _process("body", self.body(), self._files)

    def shards(self) -> ShardPlan:
        row = with_all_facets(_process("latents", self.latents(), self._files))
        return plan_shards([row], 1)[0]

    @property
    def _held(self) -> held_scene.HeldScene:
        return self._request.getfixturevalue("held")


SETTINGS: dict[str, dict[str, Any]] = {
    "segment": {
        "detector": "pyscenedetect",
        "num_frames": 9,
        "max_motion_frames": 5,
        "stride_frames": 9,
        "buckets": ((128, 224), (224, 128), (160, 160)),
    },
    "quality": {"read_text": False},
    "speech": {"score_sound": False},
    "objects": {"backend": "cues"},
    "references": {"look_again": False},
}
"""Without the networks that see nothing but the frames which the others see too."""


def _stage(name: str, **settings: Any) -> Any:
    stage = build_chain(Recipe(name="n", stages={name: SETTINGS.get(name, {}) | settings}))[name]
    if name == "detect":
        stage._people = FakePeople()
    else:
        stage.setup()
    return stage


def _process(name: str, row: Any, files: Files) -> Any:
    return _stage(name).process(row, files).rows[0]


@pytest.mark.parametrize("name", STAGE_CLASSES)
def test_a_stage_needs_exactly_what_it_reads(name, request, files):
    row = getattr(Rows(request, files), name)()
    if isinstance(row, Clip):
        row = with_all_facets(row)
    stage = _stage(name)
    with _watch() as seen:
        stage.process(watched(row), files)
    assert seen - {name} == set(stage.needs)


def test_the_watch_sees_a_field_that_is_read_and_none_that_is_copied(files):
    row = watched(with_all_facets(make_clip(files)))
    with _watch() as seen:
        row.with_facet("quality", facets.quality_facet())
    assert seen == set()
    with _watch() as seen:
        assert row.detect is not None
    assert seen == {"detect"}
