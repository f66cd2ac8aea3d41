"""A real S3 server on loopback for tests: SeaweedFS, which checks signatures and honours `If-None-Match: *`."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from flaky_proxy import FlakyProxy
from ports import free_ports
from pyarrow import fs

KEY, SECRET, REGION = "tester-key-id", "hush-this-is-the-secret", "eu-test-1"
BUCKET = "tests"
PATIENCE = 60  # seconds for the server to start on a busy machine
PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
)
TRIES = 3  # to start it, with other ports each time


def weed() -> str | None:
    """The server's program, where the package that brings it is installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


class ObjectStore:
    """The server, and the proxy through which everyone reaches it."""

    def __init__(self, folder: Path, proxy: FlakyProxy):
        self.proxy = proxy
        self._log = open(folder / "weed.log", "wb")  # noqa: SIM115 (open as long as the server runs)
        for _ in range(TRIES):
            self._start(folder)
            if self._is_up():
                break
            self._end()
        else:
            self._log.close()
            raise RuntimeError(f"the S3 server did not start: {Path(self._log.name).read_text()[-2000:]}")
        proxy.upstream = self._direct
        self.files.create_dir(BUCKET)
        self._places = 0

    def place(self) -> str:
        """A prefix of its own, `bucket/n`. Not a bucket of its own: the server lays out files anew for each."""
        self._places += 1
        return f"{BUCKET}/{self._places}"

    @property
    def files(self) -> fs.S3FileSystem:
        """Past the proxy, to look at what is there."""
        return fs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            region=REGION,
            scheme="http",
            endpoint_override=f"127.0.0.1:{self._direct}",
            allow_bucket_creation=True,
        )

    def names(self, under: str) -> list[str]:
        """Keys below bucket/prefix, relative to it, sorted."""
        found = self.files.get_file_info(fs.FileSelector(under, recursive=True, allow_not_found=True))
        return sorted(info.path[len(under) + 1 :] for info in found if info.is_file)

    def put(self, path: str, content: bytes | str) -> None:
        with self.files.open_output_stream(path) as sink:
            sink.write(content if isinstance(content, bytes) else content.encode())

    def read(self, path: str) -> bytes:
        with self.files.open_input_stream(path) as source:
            return source.read()

    def close(self) -> None:
        self._end()
        self._log.close()

    def _start(self, folder: Path) -> None:
        self._direct, *others = free_ports(1 + len(PORTS))
        self._process = subprocess.Popen(
            self._command(folder, dict(zip(PORTS, others, strict=True))),
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ends_with_us,
        )

    def _end(self) -> None:
        self._process.kill()  # there is nothing to keep, and it takes its time to end in good order
        self._process.wait()

    def _command(self, folder: Path, ports: dict[str, int]) -> list[str]:
        who = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "identities.json").write_text(json.dumps({"identities": [who]}))
        (folder / "data").mkdir(exist_ok=True)
        flags = ports | {
            "s3.port": self._direct,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": folder / "identities.json",
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "dir": folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "volume.max": 64,
            "master.volumeSizeLimitMB": 64,
            "master.telemetry": "false",
        }
        options = [f"-{name}={value}" for name, value in flags.items()]
        return [weed(), "-logtostderr=true", "server", "-filer", "-s3", *options]

    def _is_up(self) -> bool:
        """Once it is; False where it ended, as it does where another has taken one of its ports, or takes too long."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._direct}/", timeout=2)
            except urllib.error.HTTPError:  # it asks for a signature: it is up
                return True
            except OSError:
                time.sleep(0.1)
        return False


def _ends_with_us() -> None:
    """A test run that is killed closes nothing: on Linux the kernel then ends the server."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
