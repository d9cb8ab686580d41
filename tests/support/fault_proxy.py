"""A small HTTP proxy on loopback that breaks chosen requests on their way to a real S3 server.

reset      the connection is reset before the server sees the request
stall      no answer, for longer than the client waits
truncate   the server's answer is cut in the middle of its body
503        SlowDown, without asking the server
lost       the server does what it is asked, its answer never arrives
archived   403 InvalidObjectState, as for an object that lies in an archive
denied     403 AccessDenied

A forgetful proxy stands for a store that knows nothing of create-if-absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

FAULTS = ("reset", "stall", "truncate", "503", "lost")
REFUSALS = {"archived": "InvalidObjectState", "denied": "AccessDenied"}
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"


@dataclass
class Plan:
    """A fault for the next ``times`` requests of a method whose path contains a text."""

    fault: str
    method: str
    path: str
    times: int


@dataclass
class FaultProxy:
    """What tests hold: plans faults, and counts what happened."""

    endpoint: str
    every: int = 0
    """If set, every n-th request gets the next fault in turn."""
    is_forgetful: bool = False
    """A PUT that If-None-Match should have stopped is called a success."""
    odd_keys: list[str] = field(default_factory=list)
    """Keys that every listing has besides its own, of one byte each: stores that tests run refuse them."""
    plans: list[Plan] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    num_requests: int = 0

    def plan(self, fault: str, method: str, path: str = "", times: int = 1) -> None:
        """Break requests to come."""
        assert fault in {*FAULTS, *REFUSALS}
        self.plans.append(Plan(fault, method, path, times))

    def choose(self, method: str, path: str) -> str:
        """The fault of a request that has come; empty for none."""
        self.num_requests += 1
        fault = ""
        for plan in self.plans:
            if plan.times and plan.method == method and plan.path in path:
                plan.times -= 1
                fault = plan.fault
                break
        if not fault and self.every and self.num_requests % self.every == 0:
            fault = FAULTS[self.num_requests // self.every % len(FAULTS)]
        if fault == "truncate" and method != "GET":
            fault = ""
        self.injected.update([fault] if fault else [])
        return fault


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of an endpoint."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    proxy = FaultProxy("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await _answer(proxy, upstream, reader, writer)
        finally:  # stalled requests end by being cancelled
            await _close(writer)

    server = do(asyncio.start_server(serve, "127.0.0.1", 0))
    proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        do(_end(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    """Stop listening and give up on requests that are still stalled."""
    server.close()
    await asyncio.sleep(0.05)  # a task that is cancelled before it begins closes nothing
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _answer(
    proxy: FaultProxy, upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one request and close: the client opens a connection for each."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    fault = proxy.choose(method, unquote(target))
    if fault == "reset":
        return _reset(writer)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    if fault == "stall":
        return await asyncio.sleep(30)
    if fault == "503":
        writer.write(
            b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            + f"Content-Length: {len(_SLOW_DOWN)}\r\n\r\n".encode()
            + _SLOW_DOWN
        )
        return await writer.drain()
    if fault in REFUSALS:
        writer.write(_refusal(REFUSALS[fault]))
        return await writer.drain()
    place = urlsplit(upstream)
    to_reader, to_writer = await asyncio.open_connection(place.hostname, place.port)
    kept = [line for line in lines if line and not line.lower().startswith("connection:")]
    try:
        to_writer.write(
            "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1") + body
        )
        await to_writer.drain()
        answer = await to_reader.read()
    finally:
        await _close(to_writer)
    if proxy.is_forgetful and method == "PUT" and answer.startswith(b"HTTP/1.1 412"):
        answer = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    if proxy.odd_keys and method == "GET" and b"</ListBucketResult>" in answer:
        answer = _with_keys(answer, proxy.odd_keys)
    if fault == "lost":
        return _reset(writer)
    if fault == "truncate":
        start = answer.index(b"\r\n\r\n") + 4
        answer = answer[: start + (len(answer) - start) // 2]
    writer.write(answer)
    return await writer.drain()


def _refusal(code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return (
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def _with_keys(answer: bytes, keys: list[str]) -> bytes:
    """A listing with more keys than the server has."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    more = "".join(
        f"<Contents><Key>{key}</Key><ETag>&#34;0&#34;</ETag><Size>1</Size>"
        "<StorageClass>STANDARD</StorageClass>"
        "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        for key in keys
    )
    body = body.replace(b"<IsTruncated>", f"{more}<IsTruncated>".encode(), 1)
    lines = [x for x in head.split(b"\r\n") if not x.lower().startswith(b"content-length:")]
    return b"\r\n".join([*lines, f"Content-Length: {len(body)}".encode(), b"", b""]) + body


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close, and wait until the socket is given back."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
