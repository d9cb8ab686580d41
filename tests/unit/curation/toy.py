"""A tiny chain over the real row types: what the engine needs to be tested without real stages."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq

from curation.chain import Chain, closure_fingerprints
from schemas.backend import Backend
from schemas.errors import ChildCrashError, ConfigError, DataError
from schemas.facets import CaptionFacet
from schemas.rows import Clip, SourceVideo
from schemas.sample import ShardFacet, ShardPlan
from schemas.settings import LIMIT
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.files import Files
from tests.support.facets import TOY, media_facet, quality_facet, silent_facet


class CutConfig(StageConfig):
    num_clips: int = 2
    max_chars: Annotated[int, LIMIT] = 100


class CutStage(Stage[CutConfig, SourceVideo, Clip]):
    """Fan-out: sources whose text is ``bad`` fail, ``crash`` quarantine, ``short`` are dropped."""

    name, facet, needs = "segment", "", ()
    config_type, row_in, row_out = CutConfig, SourceVideo, Clip
    reasons = frozenset({"too_short", "too_long", "bad_text"})

    def process(self, row: SourceVideo, files: Files) -> Kept[Clip] | Dropped:
        text = files.source(row).read_text()
        if text.startswith("bad"):
            raise DataError("bad_text", text)
        if len(text) > self.config.max_chars:
            raise DataError("too_long", f"{len(text)} characters, at most {self.config.max_chars}")
        if text.startswith("crash"):
            raise ChildCrashError("crash_SIGSEGV", text)
        if text.startswith("needs ") and not Path(text.removeprefix("needs ")).exists():
            raise ChildCrashError("crash_SIGBUS", text)
        if text.startswith("lost "):
            place = files.scratch if text.endswith("scratch") else files.put_bytes(b"x", ".bin")
            path = place if isinstance(place, Path) else files.local(place)
            raise FileExistsError(f"{path / 'x'} is lost")
        if text.startswith("bug"):
            raise ZeroDivisionError(text)
        if text.startswith("once ") and not Path(text.removeprefix("once ")).exists():
            Path(text.removeprefix("once ")).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith("wrong request"):
            raise ConfigError(text)
        if text.startswith("short"):
            return Dropped("too_short", text)
        video = files.put_bytes(text.encode(), ".txt")
        return Kept(tuple(self._clip(row, video, i) for i in range(self.config.num_clips)))

    def _clip(self, row: SourceVideo, video, index: int) -> Clip:
        digest = hashlib.sha256(f"{row.content_sha256}/{index}/{self.fingerprint}".encode())
        return Clip(
            clip_id=digest.hexdigest()[:16],
            source_id=row.row_id,
            start_s=index,
            end_s=index + 1,
            motion_start_s=index,
            media=media_facet(video=video),
        )


class SharpGate(GateConfig):
    min_sharpness: float = 0.0
    drops_twins: bool = False


class SharpConfig(StageConfig):
    scale: float = 1.0
    seconds: float = 0.0
    """How long a clip takes: time in which something can be killed."""
    gate: SharpGate = SharpGate()


class SharpStage(Stage[SharpConfig, Clip, Clip]):
    name, facet, needs = "quality", "quality", ("segment",)
    config_type, row_in, row_out = SharpConfig, Clip, Clip
    reasons = frozenset({"blurry", "twin"})

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        time.sleep(self.config.seconds)
        size = len(files.local(row.media.video).read_bytes())
        facet = quality_facet(sharpness=size * self.config.scale, motion_px=1)
        return Kept((row.with_facet("quality", facet),))

    def gate(self, row: Clip) -> Dropped | None:
        if row.quality.sharpness < self.config.gate.min_sharpness:
            return Dropped("blurry", f"{row.quality.sharpness}")
        return None

    def gate_all(self, rows) -> dict[str, Dropped]:
        """One clip per sharpness, if the gate says so."""
        first: dict[float, str] = {}
        for row in sorted(rows, key=lambda r: r.clip_id):
            first.setdefault(row.quality.sharpness, row.clip_id)
        return {
            r.clip_id: Dropped("twin", first[r.quality.sharpness], first[r.quality.sharpness])
            for r in rows
            if self.config.gate.drops_twins and first[r.quality.sharpness] != r.clip_id
        }


class LoudConfig(StageConfig):
    level: int = 1


class ToyBackend(Backend):
    ref = TOY


class LoudStage(Stage[LoudConfig, Clip, Clip]):
    name, facet, needs = "speech", "speech", ("segment",)
    config_type, row_in, row_out = LoudConfig, Clip, Clip
    reasons = frozenset()

    def __init__(self, config: LoudConfig) -> None:
        super().__init__(config)
        self.backends = (ToyBackend(),)

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        facet = silent_facet()
        return Kept((row.with_facet("speech", facet),))


class PickGate(GateConfig):
    drops: tuple[str, ...] = ()


class PickConfig(StageConfig):
    gate: PickGate = PickGate()


class PickStage(Stage[PickConfig, Clip, Clip]):
    """Of a later group; its gate drops the clips that it is told to drop."""

    name, facet, needs = "caption", "caption", ("segment",)
    config_type, row_in, row_out = PickConfig, Clip, Clip
    reasons = frozenset({"unwanted"})

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        facet = CaptionFacet(prompt="p", hoi_prompt="h", backend=TOY)
        return Kept((row.with_facet("caption", facet),))

    def gate(self, row: Clip) -> Dropped | None:
        return Dropped("unwanted") if row.clip_id in self.config.gate.drops else None


class PackConfig(StageConfig):
    pass


class PackStage(Stage[PackConfig, ShardPlan, ShardPlan]):
    """Shards of all that clips say of themselves: what the real stage does, without pixels."""

    name, facet, needs = "shards", "shard", ("segment", "quality", "speech")
    config_type, row_in, row_out = PackConfig, ShardPlan, ShardPlan
    reasons = frozenset()

    def process(self, row: ShardPlan, files: Files) -> Kept[ShardPlan] | Dropped:
        path = files.scratch / "shard.parquet"
        rows = [{"clip_id": c.clip_id, "clip": c.model_dump_json()} for c in row.clips]
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
        facet = ShardFacet(file=files.put(path, ".parquet"), num_samples=len(rows))
        return Kept((row.with_facet("shard", facet),))


def toy_chain(*, shards: bool = False, **configs) -> Chain:
    """Three stages in two groups; ``caption`` and ``shards`` are groups of their own."""
    stages = (
        CutStage(CutConfig(**configs.get("segment", {}))),
        SharpStage(SharpConfig(**configs.get("quality", {}))),
        LoudStage(LoudConfig(**configs.get("speech", {}))),
    )
    stages += (PickStage(PickConfig(**configs["caption"])),) if "caption" in configs else ()
    stages += (PackStage(PackConfig()),) if shards else ()
    return Chain(stages, closure_fingerprints(stages))


def write_sources(folder: Path, texts: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder
