"""Limits of stages: what stopped at a lower one is done again; what was done under a higher one stays."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable

from curation.chain import Chain
from curation.root.ledger import Ledger
from schemas.outcome import StageResult
from schemas.settings import limits_of


def known_results(ledger: Ledger, chain: Chain) -> dict[str, StageResult]:
    """What the ledger knows, by unit key, but for units that ``stopped_lower`` names: they are asked for again."""
    known = ledger.known_results(chain.closures)
    stopped = stopped_lower(known.values(), chain)
    if not stopped:
        return known
    ledger.commit_retry(stopped, f"limits/{secrets.token_hex(8)}")
    return ledger.known_results(chain.closures)


def stopped_lower(results: Iterable[StageResult], chain: Chain) -> list[str]:
    """Keys of the units that failed while a limit of their stage was lower than it is today."""
    today = {s.name: limits_of(s.config) for s in chain.stages}
    return sorted(
        r.unit_key
        for r in results
        if r.limits_json and _is_raised(json.loads(r.limits_json), today[r.stage])
    )


def _is_raised(then: dict[str, float | None], now: dict[str, float | None]) -> bool:
    """True if one is higher now; None is no limit.

    >>> _is_raised({"timeout_s": 9}, {"timeout_s": None}), _is_raised({"timeout_s": 9}, {"timeout_s": 8})
    (True, False)
    """
    return any(_height(now[name]) > _height(then[name]) for name in then if name in now)


def _height(limit: float | None) -> float:
    return math.inf if limit is None else limit
