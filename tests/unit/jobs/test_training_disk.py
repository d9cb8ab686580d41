"""A trainer on another machine's disk is refused before its first step."""

from __future__ import annotations

import pytest

from jobs.training import check_mark, train_worker
from schemas.errors import ConfigError


def test_a_worker_that_does_not_see_the_output_folder_writes_nothing(tmp_path):
    settings = {"config": {}, "root": str(tmp_path), "out": str(tmp_path / "out"), "resume": False}
    with pytest.raises(ConfigError, match=r"does not see .*/out.* mount that all nodes share"):
        train_worker({**settings, "mark": str(tmp_path / "out" / ".seen-1")})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".seen-1").touch()
    check_mark(tmp_path / ".seen-1")
