"""docs/commands.md and its schemas say what the commands take and print."""

from __future__ import annotations

from scripts.command_docs import PAGE, SCHEMAS, commands_page, schemas_text


def test_command_docs_are_what_the_code_says(update_golden):
    for path, text in ((PAGE, commands_page()), (SCHEMAS, schemas_text())):
        if update_golden:
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, "run: make docs"
