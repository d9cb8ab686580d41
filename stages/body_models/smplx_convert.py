"""Old SMPL-X model files (pickles, archives of pickles) to plain arrays, without trusting them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from schemas.errors import ChildCrashError, ConfigError, DataError
from stages.body_models.smplx import REQUIRED, read_model
from stages.kit.isolate import ChildBudget, run_isolated

BUDGET = ChildBudget(wall_s=300, memory_bytes=6_000_000_000)
"""The largest model file has 0.6 GB of arrays in double precision; each is copied once or twice."""


def convert_smplx(source: Path, target: Path, budget: ChildBudget = BUDGET) -> dict[str, list[int]]:
    """Write the arrays that the ``smplx`` backend reads of ``source`` to ``target``; returns their shapes.

    Raises:
        ConfigError: No such file, a target that exists, a pickle that asks for more than arrays, missing or
            misshapen arrays, or a file that crashes, hangs or fills the child that reads it.
    """
    if not source.is_file():
        raise ConfigError(f"{source} is not a file")
    if target.suffix != ".npz":
        raise ConfigError(f"{target}: the converted file must end in .npz")
    if target.exists():
        raise ConfigError(f"{target} exists; give another name or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
        draft = Path(folder) / "model.npz"
        payload = {"source": str(source.resolve()), "target": str(draft), "keys": sorted(REQUIRED)}
        try:
            answer = run_isolated("stages.body_models.pickled_arrays:convert", payload, budget)
        except (ChildCrashError, DataError) as error:
            raise ConfigError(
                f"{source} cannot be read within {budget.wall_s:g} s and {budget.memory_bytes / 1e9:g} GB: "
                f"{error}"
            ) from error
        read_model(str(draft))
        draft.replace(target)
    return dict(answer["shapes"])
