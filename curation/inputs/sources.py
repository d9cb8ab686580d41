"""Naming raw sources by content, with a line for every input, used or not."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from curation.inputs.listing import Found, find_again, find_all
from curation.inputs.remembered import Identity, Known, is_settled
from curation.root.store import (
    AccessDeniedError,
    ObjectArchivedError,
    ObjectChangedError,
    StoreOptions,
    redact,
)
from schemas.errors import ConfigError, HandloomError, TransientError
from schemas.manifest import InputLine
from schemas.outcome import SKIPPED, Outcome
from schemas.rows import SourceVideo

_THREADS = 8
_MAX_DEAD_IN_A_ROW = 16


@dataclass(frozen=True, slots=True)
class SourceList:
    """What was found: one row per distinct content, and a line for each input that is no row."""

    rows: tuple[SourceVideo, ...]
    others: tuple[InputLine, ...] = ()
    fresh: tuple[Identity, ...] = ()
    """What was hashed and may be remembered."""
    unread: tuple[Found, ...] = ()
    """What a look without reading knows no content of."""

    @property
    def lines(self) -> tuple[InputLine, ...]:
        """Every input, by address."""
        used = (
            InputLine(uri=r.uri, row_id=r.row_id, num_bytes=r.num_bytes, outcome=Outcome.KEPT)
            for r in self.rows
        )
        return tuple(sorted([*used, *self.others], key=lambda line: line.uri))

    @property
    def reasons(self) -> Counter[str]:
        """Why inputs are no rows, counted."""
        return Counter(line.reason for line in self.others)


def list_sources(
    addresses: Sequence[str],
    options: StoreOptions,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    out: str = "",
    known: Known | None = None,
    read: bool = True,
    limit: int | None = None,
) -> SourceList:
    """Find everything below the given files, folders and bucket prefixes, and hash what can be read.

    Args:
        addresses: What the user gave.
        options: How to reach stores.
        progress: Told how many of all objects are hashed.
        out: The output root: it is no source.
        known: Objects that need no hashing while their state is the same.
        read: False looks only: objects that are not known are ``unread``.
        limit: Use so many files at most, the first in the order of their addresses.

    Raises:
        ConfigError: A path does not exist, there is nothing to read, or all access is denied.
        TransientError: The store does not answer.
    """
    found = sorted(find_all(addresses, options, out), key=lambda f: f.uri)
    found = found if limit is None else _limited(found, limit)
    known = known or {}
    unread = [] if read else [f for f in found if f.read and (f.uri, f.state) not in known]
    missing = {f.uri for f in unread}
    listed = _name_all([f for f in found if f.uri not in missing], progress, known)
    listed = replace(listed, unread=tuple(unread))
    if not unread and not any(line.reason not in SKIPPED for line in listed.lines):
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(listed.reasons.items()))
        raise ConfigError(
            f"no files in {[redact(a) for a in addresses]}"
            f"{f' ({told})' if told else ''}; expected raw videos"
        )
    failed = [line for line in listed.others if line.reason not in SKIPPED]
    if not listed.rows and {line.reason for line in failed} == {"access_denied"}:
        raise ConfigError(f"none of {len(failed)} files can be read: {failed[0].detail}")
    return listed


def _limited(found: Sequence[Found], limit: int) -> list[Found]:
    """The first files as they are, the others as inputs that are left out on purpose."""
    detail = f"behind the first {limit} files, and no more were wanted"
    files = [f for f in found if f.read is not None]
    others = [f for f in found if f.read is None]
    late = [replace(f, read=None, reason="over_limit", detail=detail) for f in files[limit:]]
    return [*files[:limit], *others, *late]


def list_again(
    rows: Sequence[SourceVideo],
    others: Sequence[InputLine],
    failed: Sequence[InputLine],
    options: StoreOptions,
) -> SourceList:
    """The inputs of an earlier run, of which those that could not be read are tried again."""
    again = [f for line in failed if (f := find_again(line.uri, options))]
    fresh = _name_all(again, lambda _done, _total: None, {})
    tried = {f.uri for f in again}
    left = [line for line in failed if line.uri not in tried]
    ids = {line.uri: line.row_id for line in failed}
    still = [
        line.replace(row_id=ids[line.uri]) if line.outcome is Outcome.FAILED else line
        for line in fresh.others
    ]
    known = {row.content_sha256: row for row in rows}
    new = [row for row in fresh.rows if row.content_sha256 not in known]
    copies = [_duplicate(r, known[r.content_sha256].uri) for r in fresh.rows if r not in new]
    return SourceList((*rows, *new), (*others, *left, *still, *copies))


def _name_all(
    found: Sequence[Found], progress: Callable[[int, int], None], known: Known
) -> SourceList:
    objects = [f for f in found if f.read]
    others = [_line(f, f.reason, f.detail) for f in found if not f.read]
    first: dict[str, SourceVideo] = {}
    fresh: list[Identity] = []
    dead, begun_ns = 0, time.time_ns()
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, (source, named) in enumerate(_ordered(pool, objects, known), 1):
            if isinstance(named, SourceVideo):
                fresh += _identity(source, named, known, begun_ns)
                original, dead = first.setdefault(named.content_sha256, named), 0
                others += [] if original is named else [_duplicate(named, original.uri)]
            else:
                others.append(named)
                dead = dead + 1 if named.reason == "unreadable" else 0
                if dead == _MAX_DEAD_IN_A_ROW:
                    raise TransientError(f"{dead} files in a row cannot be read: {named.detail}")
            progress(done, len(objects))
    return SourceList(tuple(first.values()), tuple(others), tuple(fresh))


def _identity(
    found: Found, named: SourceVideo, known: Known, begun_ns: int
) -> tuple[Identity, ...]:
    """What may be remembered of an object: nothing if it could change without a new state."""
    is_known = (found.uri, found.state) in known
    if is_known or not found.state or not is_settled(found.state, begun_ns):
        return ()
    return (
        Identity(uri=found.uri, state=found.state, num_bytes=named.num_bytes,
                 content_sha256=named.content_sha256),
    )  # fmt: skip


def _ordered(
    pool: ThreadPoolExecutor, objects: Sequence[Found], known: Known
) -> Iterable[tuple[Found, SourceVideo | InputLine]]:
    """Name objects in parallel, few ahead, so that a store that died is found out soon."""
    waiting = iter(objects)
    queue = [(f, pool.submit(_name_object, f, known)) for f in islice(waiting, 2 * _THREADS)]
    while queue:
        found, named = queue.pop(0)
        yield found, named.result()
        queue += [(f, pool.submit(_name_object, f, known)) for f in islice(waiting, 1)]


def _duplicate(row: SourceVideo, original: str) -> InputLine:
    return InputLine(
        uri=row.uri, row_id=row.row_id, num_bytes=row.num_bytes, outcome=Outcome.DROPPED,
        reason="duplicate_content", detail=f"same content as {original}",
    )  # fmt: skip


def _line(found: Found, reason: str, detail: str) -> InputLine:
    return InputLine(
        uri=found.uri,
        row_id=hashlib.sha256(b"input " + found.name.encode()).hexdigest()[:16],
        num_bytes=found.num_bytes,
        outcome=Outcome.DROPPED if reason in SKIPPED else Outcome.FAILED,
        reason=reason,
        detail=detail,
    )


def _recalled(found: Found, known: Known) -> SourceVideo | None:
    seen = known.get((found.uri, found.state))
    if seen is None:
        return None
    return SourceVideo(uri=found.uri, num_bytes=seen.num_bytes, content_sha256=seen.content_sha256)


def _name_object(found: Found, known: Known) -> SourceVideo | InputLine:
    """Name an object by what is remembered of it, or by its content."""
    return _recalled(found, known) or _hash_object(found)


def _hash_object(found: Found) -> SourceVideo | InputLine:
    """Name an object by its content; one that changes under our hands gets a second chance."""
    assert found.read
    reason, detail = "", ""
    for _ in range(2):
        digest, num_bytes = hashlib.sha256(), 0
        try:
            for chunk in found.read():
                digest.update(chunk)
                num_bytes += len(chunk)
        except FileNotFoundError:
            reason, detail = "source_missing", "it went away while it was listed"
        except ObjectChangedError:
            reason, detail = "source_changed", "it changed while it was read, twice"
        except AccessDeniedError as error:
            return _line(found, "access_denied", str(error))
        except ObjectArchivedError as error:
            return _line(found, "archived", str(error))
        except (HandloomError, OSError) as error:
            return _line(found, "unreadable", str(error))
        except ValueError as error:  # the client's own idea of a key
            return _line(found, "odd_key", str(error).splitlines()[0])
        else:
            return SourceVideo(
                uri=found.uri, num_bytes=num_bytes, content_sha256=digest.hexdigest()
            )
    return _line(found, reason, detail)
