"""What lies below the addresses that a user gave: objects to read, and all else by name and reason.

Folders and stores are told apart here for the last time: the same things get the same reasons.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from curation.inputs.remembered import file_state
from curation.root.addresses import printable, require_paths
from curation.root.store import ObjectMeta, Store, StoreOptions, is_remote, join, redact
from schemas.errors import ConfigError, HandloomError
from schemas.manifest import ROOT_MARKER

_MARKER_TEXT = b"handloom-root"
_MAX_MARKER_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """One thing below an address.

    Args:
        uri: Absolute path or bucket address, printable.
        name: The part below the address that was given: the same wherever that lies.
        num_bytes: Its size; 0 where it has none.
        read: Gives its bytes; None if it is not to be read.
        reason: Why it is not read.
        detail: What was found, for people.
        state: What changes whenever its bytes do (``remembered``); empty if nothing is known to.
    """

    uri: str
    name: str
    num_bytes: int = 0
    read: Callable[[], Iterator[bytes]] | None = None
    reason: str = ""
    detail: str = ""
    state: str = ""


def find_all(addresses: Sequence[str], options: StoreOptions, out: str = "") -> Iterator[Found]:
    """Everything below files, folders and bucket prefixes, each thing once.

    Args:
        addresses: What the user gave.
        options: How to reach stores.
        out: The output root, which is no source.

    Raises:
        ConfigError: A path does not exist, or an address is the output root or lies in it.
    """
    seen: set[str] = set()
    for address in addresses:
        _refuse_output(address, out)
        for found in _in_order(address, options, out):
            if found.uri not in seen:
                seen.add(found.uri)
                yield found
            elif not found.reason:
                yield Found(found.uri, found.name, found.num_bytes, reason="given_twice",
                            detail="an address before this one holds it, too")  # fmt: skip


def find_again(uri: str, options: StoreOptions) -> Found | None:
    """One object by its address, without a look whether it is there; None if that is no object's."""
    parent, _, name = uri.rpartition("/")
    if is_remote(uri):
        if _is_odd(uri.partition("://")[2]):
            return None
        return Found(uri, name, read=partial(Store(parent, options).stream, name))
    path = Path(uri)
    return Found(uri, name, read=partial(_chunks, path)) if path.is_file() else None


def _in_order(address: str, options: StoreOptions, out: str) -> list[Found]:
    below = _below_prefix if is_remote(address) else _below_path
    return sorted(below(address, options, out), key=lambda f: f.uri)


def place(address: str) -> str:
    """An address by which the same place is always called the same."""
    if is_remote(address):
        scheme, _, rest = address.partition("://")
        return f"{scheme}://{rest.strip('/')}"
    return str(Path(address).resolve())


def _is_below(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer.rstrip('/')}/")


def _refuse_output(address: str, out: str) -> None:
    """Refuse the output root and what lies in it; a root below an address is left out of it."""
    if out and _is_below(place(address), place(out)):
        raise ConfigError(
            f"{redact(address)} is the output root {redact(out)} or lies in it: what Handloom wrote is "
            "no source; give another --out, or another source"
        )


# --- local paths


def _below_path(address: str, _options: StoreOptions, out: str) -> Iterator[Found]:
    require_paths([address])
    path = Path(address).absolute()
    root = next((p for p in path.resolve().parents if _is_marker_file(p / ROOT_MARKER)), None)
    if root:
        yield _own_output(str(path), path.name)
    elif path.is_dir():
        yield from _below_folder(path, place(out) if out else "")
    else:  # it was asked for by name, so a link or a hidden file will do
        yield _look_at(path, path.name, path.parent, is_asked=True)


def _below_folder(root: Path, out: str) -> Iterator[Found]:
    errors: list[OSError] = []
    for current, folders, names in os.walk(root, followlinks=False, onerror=errors.append):
        here = Path(current)
        within = here.relative_to(root)
        if (ROOT_MARKER in names and _is_marker_file(here / ROOT_MARKER)) or (
            out and str(here.resolve()) == out
        ):
            folders.clear()
            yield _own_output(str(here), str(within))
            continue
        folders.sort()
        if not folders and not names and here != root:
            yield _skipped(here, within, "folder_marker", "an empty folder")
        links = [f for f in folders if (here / f).is_symlink()]
        for name in links:
            yield _skipped(here / name, within / name, "link_to_folder", "its files are not read")
        for name in sorted(names):
            yield _look_at(here / name, str(within / name), root, is_asked=False)
    for error in errors:
        path = Path(error.filename)
        yield _skipped(path, path.relative_to(root), "access_denied", f"folder: {error.strerror}")


def _look_at(path: Path, name: str, root: Path, *, is_asked: bool) -> Found:
    """What a directory's entry is; nothing is opened."""
    skipped = partial(_skipped, path, Path(name))
    if not is_asked and is_hidden(name):
        return skipped("hidden", "its name or its folder's begins with a dot")
    if not _is_utf8(str(path)):
        return skipped("name_not_utf8", "rename it: rows and reports are UTF-8")
    try:
        reason, target = ("", "") if is_asked else _bad_link(path, root)
        if reason:
            return skipped(reason, f"to {target}")
        status = path.stat()
    except OSError as error:  # gone meanwhile
        return skipped("source_missing", error.strerror or str(error))
    if not stat.S_ISREG(status.st_mode):
        return skipped("not_a_file", f"a {_KINDS.get(stat.S_IFMT(status.st_mode), 'special file')}")
    return Found(str(path), name, status.st_size, partial(_chunks, path), state=file_state(status))


def _bad_link(path: Path, root: Path) -> tuple[str, str]:
    """Why a link is not followed, and where it leads; empty for what is none, or leads to a file of the tree."""
    if not path.is_symlink():
        return "", ""
    try:
        target = path.resolve()
    except RuntimeError:  # pathlib's word for a circle of links
        return "broken_link", printable(str(path.readlink()))
    if not target.is_relative_to(root.resolve()):
        return "link_out_of_tree", printable(str(target))
    return ("", "") if target.exists() else ("broken_link", printable(str(path.readlink())))


_KINDS = {
    stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device",
}  # fmt: skip


def _skipped(path: Path, name: Path, reason: str, detail: str) -> Found:
    return Found(printable(str(path)), printable(str(name)), reason=reason, detail=detail)


def _own_output(uri: str, name: str) -> Found:
    return Found(printable(uri), printable(name), reason="handloom_root",
                 detail="what Handloom wrote is no source")  # fmt: skip


def _is_marker_file(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            return _MARKER_TEXT in handle.read(_MAX_MARKER_BYTES)
    except OSError:
        return False


def _chunks(path: Path) -> Iterator[bytes]:
    yield from Store(str(path.parent)).stream(path.name)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def is_hidden(name: str) -> bool:
    """True if a part of a relative name begins with a dot.

    >>> is_hidden("a/.git/b"), is_hidden("./a.mp4")
    (True, False)
    """
    return any(p.startswith(".") and p not in {".", ".."} for p in name.split("/"))


# --- buckets


def _below_prefix(address: str, options: StoreOptions, out: str) -> Iterator[Found]:
    address = address.rstrip("/")
    store = Store(address, options)
    listed = list(store.list())
    if listed:
        yield from _sorted_out(store, address, listed, out)
        return
    bucket, _, key = address.partition("://")[2].partition("/")
    if not key:
        return
    parent, _, name = address.rpartition("/")
    single = Store(parent, options)
    one = single.head(name)
    if one is None:
        raise ConfigError(f"{redact(address)}: bucket {bucket!r} has no such object or prefix")
    read = partial(single.stream, name)
    yield Found(address, name, one.num_bytes, read, state=_bucket_state(one))


def _sorted_out(
    store: Store, address: str, listed: Sequence[ObjectMeta], out: str
) -> Iterator[Found]:
    """Tell the objects of a listing apart."""
    sizes = {m.name: m.num_bytes for m in listed}
    roots = _roots(store, address, sizes, out)
    for prefix in roots:
        yield _own_output(join(address, prefix), prefix)
    folders = {str(p) for name in sizes for p in PurePosixPath(name).parents}
    for meta in listed:
        name, num_bytes = meta.name, meta.num_bytes
        if any(_is_below(name, root) or not root for root in roots):
            continue
        uri = join(address, name)
        reason, detail = _why_not_read(store, name, num_bytes, folders)
        if reason:
            yield Found(uri, name, num_bytes, reason=reason, detail=detail)
        else:
            read = partial(store.stream, name)
            yield Found(uri, name, num_bytes, read, state=_bucket_state(meta))


def _bucket_state(meta: ObjectMeta) -> str:
    return f"{meta.version}/{meta.num_bytes}" if meta.version else ""


def _roots(store: Store, address: str, names: dict[str, int], out: str) -> list[str]:
    """Prefixes below a store that are output roots, the outermost alone."""
    found = [
        name.rpartition("/")[0]
        for name, num_bytes in names.items()
        if name.rpartition("/")[2] == ROOT_MARKER
        and num_bytes <= _MAX_MARKER_BYTES
        and _is_marker(store, name)
    ]
    here = place(address)
    if out and _is_below(place(out), here) and place(out) != here:
        own = place(out)[len(here) + 1 :]
        found += [own] if any(_is_below(n, own) for n in names) else []
    outermost: list[str] = []
    for prefix in sorted(set(found), key=len):
        if not any(_is_below(prefix, o) or not o for o in outermost):
            outermost.append(prefix)
    return outermost


def _is_marker(store: Store, name: str) -> bool:
    try:
        return _MARKER_TEXT in store.read(name)
    except (FileNotFoundError, HandloomError):
        return False


def _why_not_read(store: Store, name: str, num_bytes: int, folders: set[str]) -> tuple[str, str]:
    if _is_odd(name):
        return "odd_key", f"{name!r}: no client asks for such a key; copy it to another one"
    if is_hidden(name):
        return "hidden", "its name or its folder's begins with a dot"
    if num_bytes == 0 and (
        name in folders or name.endswith("_$folder$") or not _may_be_there(store, name)
    ):
        return "folder_marker", "an empty object that stands for a folder"
    return "", ""


def _is_odd(key: str) -> bool:
    """True for a key that the client refuses, or takes for another one."""
    is_control = any(ord(c) < 32 or ord(c) == 127 for c in key)
    return is_control or not {"", ".", ".."}.isdisjoint(key.split("/"))


def _may_be_there(store: Store, name: str) -> bool:
    try:
        return store.head(name) is not None
    except HandloomError:
        return True  # reading it will say what is wrong
