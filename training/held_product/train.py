"""Train the held-product network on made-up pictures; goes on where it was stopped.

    python -m training.held_product.train --work WORK --grounds DIR --encoder mobilenet.pt [--minutes 18]

Writes ``WORK/state.pt`` (all that is needed to go on), ``WORK/held.safetensors`` (the averaged weights, float16) and
``WORK/log.csv``: step, loss, and every few hundred steps the scores on validation pictures, whose objects, people and
grounds were never trained with.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from stages.product.held_looks import fill_held_net, to_input
from stages.product.held_net import Found, HeldNet
from training.held_product.compose import Sample, compose
from training.held_product.encoder_weights import load_encoder
from training.held_product.material import Material, load_material

_NUM_VALIDATION, _VALIDATE_EVERY, _SAVE_EVERY = 192, 250, 100
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_MIN_GROUND_BYTES = 100_000


def main() -> None:
    """Train for some minutes."""
    given = _arguments()
    cv2.setNumThreads(0)  # threads of a pool do not survive the fork of the loader's workers
    recipe = yaml.safe_load(Path(__file__).with_name("recipe.yaml").read_text(encoding="utf-8"))
    torch.manual_seed(recipe["seed"])
    grounds = [
        p
        for folder in given.grounds
        for p in folder.rglob("*")
        if p.suffix.lower() in _SUFFIXES and p.stat().st_size > _MIN_GROUND_BYTES
    ]
    trainer = Trainer(recipe, given.work, given.encoder, given.start)
    validation = _validation_batches(load_material(given.work, grounds, validation=True))
    material = load_material(given.work, grounds, validation=False)
    stream = Pictures(material, recipe["seed"] + 1 + trainer.step)
    loader = DataLoader(
        stream, batch_size=recipe["batch"], num_workers=given.workers, prefetch_factor=4
    )
    deadline = time.monotonic() + 60 * given.minutes
    for batch in loader:
        trainer.learn(batch)
        is_last = time.monotonic() > deadline or trainer.step >= recipe["steps"]
        if trainer.step % _VALIDATE_EVERY == 0 or is_last:
            trainer.note(trainer.score(validation))
        if trainer.step % _SAVE_EVERY == 0 or is_last:
            trainer.save()
        if is_last:
            break


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--grounds", type=Path, action="append", required=True)
    parser.add_argument(
        "--encoder", type=Path, help="MobileNetV2 weights (state dict); only to begin with."
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="Weights that this script wrote, to go on from with a new schedule.",
    )
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


class Pictures(IterableDataset[dict[str, Any]]):
    """Made-up pictures without end."""

    def __init__(self, material: Material, seed: int) -> None:
        self._material, self._seed = material, seed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Another stream in each worker and in each part of a training."""
        cv2.setNumThreads(1)
        info = torch.utils.data.get_worker_info()
        random = np.random.default_rng([self._seed, info.id if info else 0])
        while True:
            yield to_tensors(compose(self._material, random))


def to_tensors(sample: Sample) -> dict[str, Any]:
    """Input (5,N,N), truth (N/2,N/2), held."""
    half = cv2.resize(sample.mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return {
        "x": to_input(sample.picture, sample.hands, sample.before),
        "mask": half.astype(np.float32),
        "held": np.float32(sample.is_held),
    }


def _validation_batches(material: Material) -> list[dict[str, Any]]:
    random = np.random.default_rng(123)
    samples = [to_tensors(compose(material, random)) for _ in range(_NUM_VALIDATION)]
    return [
        torch.utils.data.default_collate(samples[i : i + 32]) for i in range(0, _NUM_VALIDATION, 32)
    ]


class Trainer:
    """Network, optimiser and averaged weights."""

    def __init__(
        self, recipe: dict[str, Any], work: Path, encoder: Path | None, start: Path | None = None
    ) -> None:
        self._recipe, self._work, self.step = recipe, work, 0
        self._net = HeldNet().to(memory_format=torch.channels_last)  # a quarter faster on CPUs
        self._optimiser = torch.optim.AdamW(
            [p for p in self._net.parameters() if p.requires_grad],
            lr=recipe["learning_rate"],
            weight_decay=recipe["weight_decay"],
        )
        state = work / "state.pt"
        if state.exists():
            self._average = copy.deepcopy(self._net)
            saved = torch.load(state, weights_only=True)  # noqa: TID251 - our own
            self._net.load_state_dict(saved["net"])
            self._average.load_state_dict(saved["average"])
            self._optimiser.load_state_dict(saved["optimiser"])
            self.step = saved["step"]
        else:
            if start is not None:
                fill_held_net(self._net, str(start), "--start")
            elif encoder is not None:
                load_encoder(self._net, encoder)
            self._average = copy.deepcopy(self._net)
        self._average.eval()
        self._loss = math.nan

    def learn(self, batch: dict[str, Any]) -> None:
        """One step."""
        self._set_rates()
        self._net.train()
        found = self._net(batch["x"].contiguous(memory_format=torch.channels_last))
        loss = self._loss_of(found, batch)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._net.parameters(), 2.0)
        self._optimiser.step()
        self.step += 1
        self._follow()
        value = float(loss.detach())
        self._loss = value if math.isnan(self._loss) else 0.98 * self._loss + 0.02 * value

    def _set_rates(self) -> None:
        done = self.step / self._recipe["steps"]
        warm = min(1.0, (self.step + 1) / self._recipe["warmup_steps"])
        share = warm * max(0.5 * (1 + math.cos(math.pi * min(done, 1.0))), 0.01)
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe["learning_rate"] * share

    def _loss_of(self, found: Found, batch: dict[str, Any]) -> torch.Tensor:
        truth = batch["mask"]
        cross = functional.binary_cross_entropy_with_logits(found.mask, truth)
        chance = found.mask.sigmoid()
        shared, total = (chance * truth).sum((1, 2)), chance.sum((1, 2)) + truth.sum((1, 2))
        dice = 1 - (2 * shared + 1) / (total + 1)
        held = functional.binary_cross_entropy_with_logits(found.held, batch["held"])
        with torch.no_grad():
            target = iou(found.mask > 0, truth > 0.5)
        quality = functional.binary_cross_entropy_with_logits(
            found.quality, target, weight=batch["held"]
        )
        scores = self._recipe["score_weight"] * (held + quality)
        return cross + self._recipe["dice_weight"] * dice.mean() + scores

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self._recipe["ema_decay"], (1 + self.step) / (10 + self.step))
        for mine, new in zip(
            self._average.state_dict().values(), self._net.state_dict().values(), strict=True
        ):
            if mine.dtype.is_floating_point:
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)

    @torch.no_grad()
    def score(self, batches: list[dict[str, Any]]) -> dict[str, float]:
        """Scores of the averaged network on validation pictures."""
        overlap, errors, wrong, empty, num_empty = [], [], 0, 0, 0
        for batch in batches:
            found, held = self._average(batch["x"]), batch["held"] > 0.5
            same = iou(found.mask > 0, batch["mask"] > 0.5)
            overlap += same[held].tolist()
            errors += (found.quality.sigmoid() - same)[held].abs().tolist()
            wrong += int(((found.held > 0) != held).sum())
            area = (found.mask > 0).float().mean(dim=(1, 2))
            num_empty += int((~held).sum())
            empty += int(((area > 0.002) & (found.held > 0) & ~held).sum())
        return {
            "J": float(np.mean(overlap)),
            "J_over_0.7": float(np.mean(np.array(overlap) >= 0.7)),
            "held_wrong": wrong / _NUM_VALIDATION,
            "empty_with_mask": empty / max(num_empty, 1),
            "quality_error": float(np.mean(errors)),
        }

    def note(self, scores: dict[str, float]) -> None:
        """Add a line to the log."""
        path = self._work / "log.csv"
        line = {"step": self.step, "loss": round(self._loss, 4)}
        line |= {name: round(value, 4) for name, value in scores.items()}
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(line), lineterminator="\n")
            if is_new:
                out.writeheader()
            out.writerow(line)

    def save(self) -> None:
        """Write the state whole or not at all, and the weights to ship."""
        temporary = self._work / "state.pt.tmp"
        torch.save(
            {
                "net": self._net.state_dict(),
                "average": self._average.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
            },
            temporary,
        )
        temporary.replace(self._work / "state.pt")
        weights = {
            name: (t.half() if t.dtype == torch.float32 else t).contiguous()
            for name, t in self._average.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        save_file(weights, self._work / "held.safetensors", {"steps": str(self.step)})


def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(b,) of masks (b,h,w); 1 where both are empty."""
    either = (a | b).sum((1, 2))
    return torch.where(either > 0, (a & b).sum((1, 2)) / either.clamp(min=1), 1.0).float()


if __name__ == "__main__":
    main()
