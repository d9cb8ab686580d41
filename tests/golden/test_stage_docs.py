"""docs/stages.md says what the code does."""

from __future__ import annotations

from scripts.stage_docs import PAGE, stages_page


def test_stage_docs_are_what_the_code_says(update_golden):
    page = stages_page()
    if update_golden:
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "run: make docs"
