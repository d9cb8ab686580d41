"""Reports of finished runs: read what the run recorded, write the page beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.failpoints import hit
from curation.recipe import RunGates
from curation.report import ReportInputs, build_report
from curation.report.strips import Earlier
from curation.root.blobs import StoreBlobs
from curation.root.store import Store, join
from curation.root.tables import read_models
from schemas.manifest import InputLine, RunRecord
from schemas.outcome import Decision, Outcome
from schemas.report import RunReport
from schemas.rows import Clip, SourceVideo


@contextmanager
def report_inputs(store: Store, run: RunRecord) -> Iterator[ReportInputs]:
    """Read a run's rows and decisions; files fetched for them live as long as the context."""
    settings = run.recipe.get("run", {})
    gates = settings.get("gates", {}) if isinstance(settings, dict) else {}
    with tempfile.TemporaryDirectory(prefix="handloom-report-") as cache:
        yield ReportInputs(
            run=run,
            decisions=tuple(read_models(store, run.decisions, Decision)),
            sources=tuple(read_models(store, run.sources, SourceVideo)),
            clips=tuple(read_models(store, run.clips, Clip)),
            others=tuple(line for line in _lines(store, run) if line.outcome is not Outcome.KEPT),
            gates=RunGates.model_validate(gates),
            blobs=StoreBlobs(store, store.options, Path(cache)),
        )


def _lines(store: Store, run: RunRecord) -> list[InputLine]:
    return read_models(store, run.inputs, InputLine) if run.inputs else []


def write_report(store: Store, inputs: ReportInputs) -> tuple[RunReport, str]:
    """Write a run's report into the root, or find the one that is there.

    Returns:
        The report and the address of its page.
    """
    base = f"runs/{inputs.run.run_id}/report"
    try:
        report = RunReport.model_validate_json(store.read(f"{base}/report.json"))
    except FileNotFoundError:
        with tempfile.TemporaryDirectory(prefix="handloom-page-") as folder:
            report = build_report(inputs, Path(folder), _earlier_media(store, inputs.run.run_id))
            # report.json goes last: a report without it is written again
            files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
            for path in sorted(files, key=lambda p: p.name == "report.json"):
                store.put_new(f"{base}/{path.relative_to(folder)}", path)
                hit("driver.report.partial")
    return report, join(store.uri, f"{base}/index.html")


def _earlier_media(store: Store, run_id: str) -> Earlier:
    """Pictures of the newest earlier run that has a report."""
    names = {meta.name for meta in store.list("runs")}
    pages = (n.split("/")[1] for n in names if n.endswith("/report/report.json"))
    last = max((run for run in pages if run < run_id), default="")

    def take(name: str, path: Path) -> bool:
        there = f"runs/{last}/report/media/{name}"
        if there not in names:
            return False
        store.fetch(there, path)
        return True

    return take
