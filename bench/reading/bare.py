"""`python -m bench.reading.bare fastapi|starlette PORT`: one route that returns a constant, and nothing else."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def bare_fastapi() -> Any:
    """FastAPI as its tutorial begins."""
    app = FastAPI()

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    return app


def bare_starlette() -> Any:
    """Starlette as its tutorial begins."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    return Starlette(routes=[Route("/healthz", healthz)])


if __name__ == "__main__":
    apps = {"fastapi": bare_fastapi, "starlette": bare_starlette}
    uvicorn.run(apps[sys.argv[1]](), port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off")
