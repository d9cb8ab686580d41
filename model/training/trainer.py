"""The trainer: a plain function. Ray, signals and consoles are its callers' business.

Every random number depends on (seed, step, rank), every order on (seed, epoch). Stopping after any step and
resuming from its checkpoint gives the same weights, bit for bit on CPU, as never having stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.training.batch_order import BatchOrder
from model.training.build import build_network, build_optimiser, learning_rate, resolve_device
from model.training.config import TrainConfig
from model.training.curves import curves_svg
from model.training.data import Batch, ClipStore, collate
from model.training.handshake import check_buckets, handshake
from model.training.metrics import MetricsLog, accuracies, add_eval, eval_metrics
from model.training.shard_reader import ShardReader, shard_paths
from model.training.split import leak_groups, split_holdout
from model.training.state import (
    FeatureSpaces,
    TrainState,
    check_resume,
    dataset_digest,
    latest_checkpoint,
    read_state,
    restore,
    save_checkpoint,
)
from model.training.step import StepOutput, attention_at, eval_step, train_step
from schemas.errors import ConfigError, ModelOutputError

Report = Callable[[dict[str, Any]], None]
METRICS_FILE, CURVES_FILE = "metrics.jsonl", "curves.svg"


def _silent(_: dict[str, Any]) -> None:
    """Report to nobody."""


def _identity(model: nn.Module) -> nn.Module:
    return model


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a training run.

    Attributes:
        rank: Index of this process; rank 0 writes.
        world_size: Number of processes.
        wrap: Makes a data-parallel module of the network (``ray.train.torch.prepare_model``, say). Motion
            dropout leaves parameters unused: let it find unused parameters.
    """

    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _identity


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Steps done in all.
        is_stopped: True when ``should_stop`` ended it early.
        checkpoint: The last checkpoint.
        first_eval: Metrics of the first evaluation of the whole run (also from before a resume).
        last_eval: Metrics of the last one.
    """

    step: int
    is_stopped: bool
    checkpoint: Path
    first_eval: dict[str, Any] = field(default_factory=dict)
    last_eval: dict[str, Any] = field(default_factory=dict)


def train(
    config: TrainConfig,
    source: Path | Sequence[Path],
    out: Path,
    *,
    report: Report = _silent,
    should_stop: Callable[[], bool] = _never,
    resume: bool = False,
    worker: Worker | None = None,
) -> TrainResult:
    """Train on the shards of a snapshot.

    Args:
        config: What to do.
        source: An output root (its latest snapshot), a snapshot's json, or shard files.
        out: Folder for checkpoints, ``metrics.jsonl`` and ``curves.svg``.
        report: Gets every metric line, on rank 0.
        should_stop: Asked after every step; True writes a checkpoint and ends the run.
        resume: Go on from the latest checkpoint in ``out``; without one, start.
        worker: This process's place in a data-parallel run.

    Raises:
        ConfigError: Shards and network do not fit, or ``out`` holds another run.
        ResumeMismatchError: The checkpoint belongs to other settings or clips.
        ModelOutputError: ``loss_not_finite``.
    """
    return _Run(config, source, out, report, worker or Worker()).execute(should_stop, resume)


class _Run:
    """State of one run in one process."""

    def __init__(
        self,
        config: TrainConfig,
        source: Path | Sequence[Path],
        out: Path,
        report: Report,
        worker: Worker,
    ) -> None:
        self.config, self.out, self.report, self.worker = config, out, report, worker
        self.network = config.network.build()
        self.device = resolve_device(config.device)
        reader = ShardReader(shard_paths(source), verify_names=config.data.verify_names)
        handshake(reader.index, self.network)
        self.store = ClipStore(reader, config.data.transcode)
        self.train_clips, self.eval_clips = split_holdout(
            leak_groups(reader.index), config.data.num_holdout
        )
        check_buckets([self.store.bucket(i) for i in range(len(self.store))], self.network)
        self.buckets = [self.store.bucket(i) for i in self.train_clips]
        self.order = BatchOrder(self.buckets, config.data.batch_size, config.seed)
        self.model = build_network(config, self.network).to(self.device)
        self.optimiser = build_optimiser(self.model, config.optimiser)
        self.ema = self._start_ema()
        self.log = MetricsLog(out / METRICS_FILE, is_writer=worker.rank == 0)

    def execute(self, should_stop: Callable[[], bool], resume: bool) -> TrainResult:
        """Run to the end or until asked to stop."""
        step = self._begin(resume)
        wrapped = self.worker.wrap(self.model)
        is_stopped, checkpoint = False, latest_checkpoint(self.out)
        if step == 0:
            self._evaluate(step)
        while step < self.config.steps and not is_stopped:
            self._step(wrapped, step)
            step += 1
            is_stopped = should_stop()
            is_last = step == self.config.steps
            if is_last or step % self.config.eval_every == 0:
                self._evaluate(step)
            if is_last or is_stopped or step % self.config.checkpoint_every == 0:
                checkpoint = self._save(step)
        self._draw()
        assert checkpoint is not None
        evals = self.log.of_kind("eval")
        return TrainResult(
            step, is_stopped, checkpoint, *(evals[0], evals[-1]) if evals else ({}, {})
        )

    def _begin(self, resume: bool) -> int:
        found = latest_checkpoint(self.out)
        if found is not None and not resume:
            raise ConfigError(
                f"{self.out} already holds {found.name}: go on with --resume, or train into a new folder"
            )
        if self.config.steps == 0:
            raise ConfigError("steps_full + steps_asymmetric is 0: nothing to train")
        step = 0
        if found is not None:
            state = read_state(found)
            check_resume(state, self._state(state.step))
            restore(found, self.model, self.optimiser, self.ema)
            step = state.step
        self.log.open(step)
        return step

    def _step(self, wrapped: nn.Module, step: int) -> None:
        batch = self._batch(
            [
                self.train_clips[i]
                for i in self.order.batch(step, self.worker.rank, self.worker.world_size)
            ]
        )
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            done = train_step(wrapped, batch, self.config, step, self.worker.rank)
        if not bool(torch.isfinite(done.terms.total)):
            raise ModelOutputError(
                "loss_not_finite", f"step {step}, clips {batch.clip_ids}: lower the learning rate"
            )
        if done.terms.total.requires_grad:  # a dropout may leave out all that learns
            done.terms.total.backward()
        norm = nn.utils.clip_grad_norm_(
            [p for p in self.model.parameters() if p.grad is not None],
            self.config.optimiser.grad_clip,
        )
        self.optimiser.step()
        self._average()
        if (step + 1) % self.config.log_every == 0:
            self._emit(
                {"kind": "train", "step": step + 1, **self._train_metrics(done, step, float(norm))}
            )

    def _train_metrics(self, done: StepOutput, step: int, norm: float) -> dict[str, Any]:
        terms = done.terms
        return {
            "attention": attention_at(step, self.config),
            "loss": float(terms.total.detach()),
            **{key: float(term.detach()) for key, term in terms.present().items()},
            "grad_norm": norm,
            "lr": self.optimiser.param_groups[0]["lr"],
            **accuracies(done.router_hits),
        }

    def _evaluate(self, step: int) -> None:
        """Loss at fixed noise levels; on held-out clips where there are some."""
        chosen = (self.eval_clips or self.train_clips)[: self.config.eval_clips]
        attention = attention_at(max(0, step - 1), self.config)
        sums, hits, regions = Counter[str](), Counter[str](), Counter[str]()
        for number in chosen:
            batch = self._batch([number])
            for sigma in self.config.eval_sigmas:
                with self._autocast():
                    done = eval_step(self.model, batch, self.config, sigma, attention)
                add_eval(done, sigma, sums, hits, regions)
        metrics = eval_metrics(sums, hits, regions, len(chosen), self.config.eval_sigmas)
        held_out = bool(self.eval_clips)
        self._emit(
            {
                "kind": "eval",
                "step": step,
                "attention": attention,
                "is_held_out": held_out,
                "num_held_out": len(self.eval_clips),
                **metrics,
            }
        )

    def _emit(self, line: dict[str, Any]) -> None:
        if self.worker.rank == 0:
            self.log.write(line)
            self.report(line)

    def _batch(self, numbers: Sequence[int]) -> Batch:
        return collate([self.store[i] for i in numbers], self.network).to(self.device)

    def _autocast(self) -> Any:
        if self.config.dtype == "bfloat16" and self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def _start_ema(self) -> dict[str, Tensor] | None:
        if self.config.optimiser.ema_decay is None:
            return None
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    @torch.no_grad()
    def _average(self) -> None:
        decay = self.config.optimiser.ema_decay
        if self.ema is None or decay is None:
            return
        for name, parameter in self.model.named_parameters():
            self.ema[name].lerp_(parameter, 1 - decay)

    def _save(self, step: int) -> Path:
        target = self.out / f"step-{step:08d}"
        if self.worker.rank == 0:
            save_checkpoint(
                self.out,
                self._state(step),
                self.model,
                self.optimiser,
                self.ema,
                self.config.shard_bytes,
            )
            self._draw()
        return target

    def _state(self, step: int) -> TrainState:
        index = self.store.index
        (shape, _), _ = Counter(self.buckets).most_common(1)[0]
        _, num_latents, height, width = shape
        sounds = (e.audio_encoder for e in index if e.audio_shape)
        audio = next(sounds, None) if self.network.has_audio else None
        motion = max((e.motion_shape[1] for e in index if e.motion_shape), default=0)
        return TrainState(
            step=step,
            network=self.network,
            resume_key=self.config.resume_key,
            dataset_sha256=dataset_digest(index),
            spaces=FeatureSpaces(
                codec=index[0].codec,
                rgb_statistics=index[0].rgb_statistics,
                hoi_statistics=index[0].hoi_statistics,
                text_encoder=index[0].text_encoder,
                audio_encoder=audio,
                latent_shape=(num_latents, height, width),
                num_motion_latents=motion,
            ),
        )

    def _draw(self) -> None:
        if self.worker.rank == 0:
            (self.out / CURVES_FILE).write_text(curves_svg(self.log.panels()))
