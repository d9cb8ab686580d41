"""The run report: report.json, a static page, and texts for the console."""

from curation.report.build import ReportInputs, build_report
from curation.report.text import explain_clip, render_funnel_text, render_verdict_text

__all__ = [
    "ReportInputs",
    "build_report",
    "explain_clip",
    "render_funnel_text",
    "render_verdict_text",
]
