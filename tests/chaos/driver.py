"""One run of the toy chain as a process of its own, to be killed: ``driver.py SOURCES ROOT [SETTINGS]``.

SETTINGS is JSON, see ``Settings``. The cluster is the one that RAY_ADDRESS names.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

import curation.report.build
from curation.recipe import RunConfig
from curation.report.write import report_inputs, write_report
from curation.run import Curation
from schemas.base import Model
from tests.unit.curation.toy_runs import request


class Settings(Model):
    """How a toy run is made. None of it changes a row, but for ``seconds``, which all runs share."""

    seconds: float = 0.0
    """How long each clip sleeps."""
    max_attempts: int = 3
    max_workers: int = 1
    commit_every_rows: int = 1


def toy_request(sources: str, root: str, settings: Settings) -> Curation:
    config = RunConfig(
        max_attempts_per_row=settings.max_attempts,
        commit_every_rows=settings.commit_every_rows,
        max_samples_per_shard=4,
        max_workers=settings.max_workers,
        runner="ray",
    )
    return request(sources, root, config, shards=True, quality={"seconds": settings.seconds})


def run(sources: str, root: str, settings: Settings):
    """Run and write the report, as ``handloom curate`` does."""
    wanted = toy_request(sources, root, settings)
    record = wanted.run()
    without_strips = patch.object(curation.report.build, "_MAX_STRIPS", 0)  # toy clips: no frames
    with without_strips, report_inputs(wanted.store, record) as inputs:
        report, _ = write_report(wanted.store, inputs)
    assert all(line.is_balanced for line in report.stages)
    return record


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], Settings.model_validate_json((*sys.argv, "{}")[3]))
