"""What a training run is: one typed configuration; recipes are files of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.codecs.transcode import Transcode
from model.network.config import DiTConfig, Mode, preset
from model.training.losses import ObjectiveConfig
from schemas.base import Model
from schemas.facets import Share
from schemas.mistakes import parse_settings
from schemas.recipes import read_recipe


class NetworkConfig(Model):
    """Size and mode of the network.

    Args:
        preset: A size of ``model.network.config.PRESETS``.
        mode: ``paper`` or ``official``.
        overrides: Fields of ``DiTConfig`` that replace the preset's.
        weights: Files or folders with starting weights, read in order; empty starts from scratch.
        recompute_blocks: Save memory by recomputing blocks in the backward pass.
    """

    preset: str = "smoke"
    mode: Mode = "paper"
    overrides: dict[str, Any] = Field(default_factory=dict)
    weights: tuple[str, ...] = ()
    recompute_blocks: bool = False

    def build(self) -> DiTConfig:
        """Return the network's configuration.

        Raises:
            ConfigError: Unknown preset or field.
        """
        return preset(self.preset, self.mode, **self.overrides)


class DataConfig(Model):
    """What is read and how.

    Args:
        batch_size: Clips per step and rank.
        transcode: Shrink ``dct`` latents at loading (see ``model.training.data.Transcode``); None trains on the
            latents as they are.
        num_holdout: At most so many clips are kept out of training for evaluation, whole groups of one source
            or of near-duplicates at a time (see ``model.training.split``); 0 evaluates on training clips, and the
            metrics say so.
        verify_names: Check that content-named shards have the sha256 of their name.
    """

    batch_size: int = Field(default=1, ge=1)
    transcode: Transcode | None = None
    num_holdout: int = Field(default=0, ge=0)
    verify_names: bool = True


class DropoutConfig(Model):
    """How often a condition is taken away, so that guidance and first clips work.

    Args:
        text: Both prompts of a sample become zero rows.
        audio: The sound of a sample becomes zeros.
        motion: The motion context of a batch is left out.
    """

    text: Share = 0.1
    audio: Share = 0.1
    motion: Share = 0.4


class OptimiserConfig(Model):
    """AdamW and its schedule.

    Args:
        learning_rate: Peak.
        weight_decay: On matrices only.
        betas: Moments' decay.
        schedule: ``cosine`` to a tenth of the peak over the run, or ``constant``.
        warmup_steps: Linear rise from a third of the peak.
        grad_clip: Largest gradient norm.
        ema_decay: Keep an exponential moving average of the weights; None does not.
        trainable: Patterns of the parameters that learn.
    """

    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    grad_clip: float = Field(default=1.0, gt=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    trainable: tuple[str, ...] = ("*",)


class TrainConfig(Model):
    """One training run.

    Args:
        name: Recipe's name.
        description: For people.
        steps_full: Stage 1: steps with full attention between the streams.
        steps_asymmetric: Stage 2: steps in which RGB no longer sees HOI.
        seed: Seed of order, noise, noise levels, dropouts and fresh weights.
        device: Torch device; ``auto`` takes CUDA where there is one.
        dtype: Computation type on CUDA (weights stay float32). CPU always computes in float32.
        log_every: Steps between metric lines.
        eval_every: Steps between evaluations; the first is before step 1, the last after the last step.
        eval_sigmas: Noise levels of the evaluation.
        eval_clips: At most so many clips are evaluated.
        checkpoint_every: Steps between checkpoints; there is one at the end.
        shard_bytes: A checkpoint's tensors are split into files of at most this size.
    """

    name: str = "custom"
    description: str = ""
    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    dropout: DropoutConfig = DropoutConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    steps_full: int = Field(default=5000, ge=0)
    steps_asymmetric: int = Field(default=2000, ge=0)
    seed: int = 0
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    log_every: int = Field(default=1, ge=1)
    eval_every: int = Field(default=500, ge=1)
    eval_sigmas: tuple[Share, ...] = Field(default=(0.1, 0.3, 0.5, 0.7, 0.9), min_length=1)
    eval_clips: int = Field(default=8, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
    shard_bytes: int = Field(default=8 << 30, ge=1)

    @property
    def steps(self) -> int:
        """Length of the whole run."""
        return self.steps_full + self.steps_asymmetric

    @property
    def resume_key(self) -> dict[str, Any]:
        """What must be equal for a run to go on from a checkpoint."""
        free = {
            "name",
            "description",
            "device",
            "log_every",
            "eval_every",
            "eval_sigmas",
            "eval_clips",
            "checkpoint_every",
            "shard_bytes",
        }
        return self.model_dump(mode="json", exclude=free)


def load_train_recipe(source: str | Path, changes: Sequence[str], folder: Path) -> TrainConfig:
    """Read a recipe of training by name (from ``folder``) or path and apply ``a.b=c`` changes.

    Raises:
        ConfigError: No such recipe, not YAML, an unknown key, or a value that does not fit.
    """
    raw = read_recipe(source, folder, changes)
    return parse_settings(TrainConfig, raw.settings, source=raw.label)
