"""For those who run it: capabilities, liveness, readiness, metrics."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from frontispiece.generator.v1 import generator_pb2
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.messages import capabilities as messages
from gateway.routes.responses import EDITOR, EDITOR_READ
from gateway.schemas import capabilities as schemas
from gateway.state import Gateway, gateway

router = APIRouter(tags=["operations"])

Here = Annotated[Gateway, Depends(gateway)]


@router.get("/api/capabilities", responses=EDITOR_READ, dependencies=EDITOR, summary="What the generator can do")
async def get_capabilities(here: Here) -> schemas.Capabilities:
    """Models, the range of each parameter, and how busy the generator is."""
    answer = await here.clients.generator.GetCapabilities(generator_pb2.GetCapabilitiesRequest())
    return messages.capabilities(answer)


@router.get("/healthz", summary="Is the gateway alive?")
async def healthz(response: Response) -> dict[str, str]:
    """Answers as long as the process does."""
    response.headers["cache-control"] = "no-store"
    return {"status": "alive"}


@router.get(
    "/readyz",
    responses={503: {"model": schemas.Readiness, "description": "A service does not answer."}},
    summary="Can the gateway do its work?",
)
async def readyz(here: Here, response: Response) -> schemas.Readiness:
    """Asks the three services and tells which do not answer."""
    failing = await here.clients.failing()
    if here.stopping.is_set():
        failing["gateway"] = "STOPPING"
    response.headers["cache-control"] = "no-store"
    response.status_code = 503 if failing else 200
    return schemas.Readiness(ready=not failing, failing=failing)


@router.get("/metrics", response_class=Response, summary="Metrics for Prometheus")
async def get_metrics(here: Here) -> Response:
    """Counters in Prometheus's text format."""
    body = here.metrics.exposition()
    return Response(body, media_type=CONTENT_TYPE_LATEST, headers={"cache-control": "no-store"})
