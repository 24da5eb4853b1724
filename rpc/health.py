"""`python -m rpc.health HOST:PORT [SERVICE]`: exit code 0 if it is SERVING, otherwise 1; for container probes."""

import argparse
import asyncio
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


async def check(target: str, service: str = "", timeout_seconds: float = 3.0) -> bool:
    """Whether `service` at `target` is SERVING; "" is the liveness of the server. Prints the reason if it is not."""
    async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            print(f"{target}: {error.code().name}: {error.details()}", file=sys.stderr)
            return False
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        print(f"{target}: {health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Check the service that the command line names. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rpc.health", description=__doc__)
    parser.add_argument("target", help="host:port of the server")
    parser.add_argument("service", nargs="?", default="", help="full service name; empty: liveness")
    arguments = parser.parse_args()
    return 0 if asyncio.run(check(arguments.target, arguments.service)) else 1


if __name__ == "__main__":
    sys.exit(main())
