"""Lips and sound embedded by SyncNet with the user's weights (``syncnet_v2.model`` of joonson/syncnet_python).

The project publishes its code under the MIT licence and asks to cite the paper; it states no licence of the weights, which
were trained on broadcasts of the BBC: take them for research until you know better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from schemas.backend import About, Backend, BackendConfig, Resources
from schemas.base import BackendRef
from schemas.settings import PIN, PLACE, KnownAs
from stages.kit.arrays import F32, Frames
from stages.kit.weight_files import check_weight_file, fill_net, sha256_of
from stages.screening.sync import WINDOW_FRAMES

if TYPE_CHECKING:
    from stages.screening.syncnet_net import SyncNet

_BATCH = 8
_SETTING = "speech.sync_backend.weights_file"
_ABOUT = About("syncnet", "torch", "code MIT, weights none", "your file")


class NoSyncConfig(BackendConfig):
    """Sync is not measured."""

    about: ClassVar[About] = About("none", "numpy", "Apache-2.0")
    name: Literal["none"] = "none"

    def build(self) -> None:
        """Nothing."""


class SyncNetConfig(BackendConfig):
    """SyncNet with your weights: by how many frames the sound is late, up to 15."""

    about: ClassVar[About] = _ABOUT
    name: Literal["syncnet"] = "syncnet"
    weights_file: Annotated[str, PLACE, KnownAs("sync_weights_file")] = ""
    """Path of syncnet_v2.model of github.com/joonson/syncnet_python, whose code is MIT and whose weights have no
    licence of their own: for research until you know better."""
    weights_sha256: Annotated[str, PIN, KnownAs("sync_weights_sha256")] = ""
    """Pins the weight file; empty for any."""

    def build(self) -> SyncNetBackend:
        """The network."""
        return SyncNetBackend(self.weights_file, self.weights_sha256)


class SyncNetBackend(Backend):
    """The network with its weights.

    Args:
        weights_file: A state dict as torch saves it; only arrays are read from it.
        pinned_sha256: What it must be; empty for any.
    """

    def __init__(self, weights_file: str, pinned_sha256: str = "") -> None:
        self._weights_file, self._pinned_sha256 = weights_file, pinned_sha256
        self._net: SyncNet | None = None

    def check(self) -> None:
        """Check the file.

        Raises:
            ConfigError: It is missing, or not the pinned one.
        """
        check_weight_file(
            self._weights_file,
            self._pinned_sha256,
            _SETTING,
            "SyncNet's weights, syncnet_v2.model of github.com/joonson/syncnet_python",
        )

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights."""
        return sha256_of(self._weights_file)

    @property
    def ref(self) -> BackendRef:
        """What reports show."""
        return BackendRef(
            name=_ABOUT.name,
            version="1",
            weights_sha256=self.weights_sha256,
            licence="weights: none stated",
        )

    @property
    def resources(self) -> Resources:
        """A large network."""
        return Resources(num_cpus=1.0, memory_bytes=2_000_000_000)

    def setup(self) -> None:
        """Load the weights.

        Raises:
            ConfigError: They are not this network's.
        """
        import torch

        from stages.screening.syncnet_net import SyncNet

        net = SyncNet()

        def read(path: str) -> dict[str, torch.Tensor]:
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251

        fill_net(net, read, self._weights_file, _SETTING)
        self._net = net.eval()

    def embed(self, lips: Frames, sound: F32) -> tuple[F32, F32]:
        """Embeddings (N,1024) of N windows of lips and of sound.

        Args:
            lips: (N+4,224,224,3) RGB; window n is frames n to n + 4.
            sound: (N,20,13).
        """
        import torch

        if self._net is None:
            self.setup()
        assert self._net is not None
        pictures = torch.from_numpy(np.ascontiguousarray(lips[..., ::-1]))  # trained on BGR
        heard, seen = [], []
        with torch.inference_mode():
            for start in range(0, len(sound), _BATCH):
                rows = range(start, min(start + _BATCH, len(sound)))
                windows = torch.stack([pictures[n : n + WINDOW_FRAMES] for n in rows])
                seen.append(self._net.embed_lips(windows.permute(0, 4, 1, 2, 3).float()).numpy())
                steps = torch.from_numpy(sound[start : start + _BATCH]).transpose(1, 2)[:, None]
                heard.append(self._net.embed_sound(steps.contiguous()).numpy())
        return np.concatenate(seen), np.concatenate(heard)
