"""Operation: capabilities, liveness, readiness, metrics."""

from fastapi import APIRouter, Depends, Request, Response
from frontispiece.generator.v1 import generator_pb2
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.cache.answers import Answer
from gateway.context import AppContext
from gateway.routes.dependencies import EDITOR, Context, only_known_query
from gateway.routes.problems import EDITOR_READ, problem
from gateway.routes.reads import OpenRead
from gateway.schemas.capabilities import Capabilities, Readiness

router = APIRouter(tags=["operations"])
reads = APIRouter(tags=["operations"], route_class=OpenRead)

_LOADING = "the model is loading"


@router.get(
    "/api/capabilities",
    responses=EDITOR_READ,
    dependencies=[*EDITOR, Depends(only_known_query)],
    summary="Models and limits",
)
async def get_capabilities(app: Context) -> Capabilities:
    """The models with the range of each parameter, the load of the generator, and the limits of all fields."""
    response = await app.clients.generator.GetCapabilities(generator_pb2.GetCapabilitiesRequest())
    return Capabilities.from_messages(response)


@reads.get("/healthz", responses={401: problem(401)}, response_model=dict[str, str], summary="Liveness")
async def healthz(request: Request) -> Answer:
    """Succeeds while the process runs."""
    return Answer.json({"status": "alive"}, {"cache-control": "no-store"})


@router.get(
    "/readyz",
    responses={401: problem(401), 503: {"model": Readiness, "description": "A service is not ready."}},
    summary="Readiness",
)
async def readyz(app: Context, response: Response) -> Readiness:
    """Whether all services are ready. After a start the generator is not ready until its model is loaded."""
    failing = await app.clients.failing()
    app.generator_was_ready |= "generator" not in failing
    if app.stopping.is_set():
        failing["gateway"] = "STOPPING"
    response.headers["cache-control"] = "no-store"
    response.status_code = 503 if failing else 200
    return Readiness(ready=not failing, failing=failing, message=_message(app, failing))


def _message(app: AppContext, failing: dict[str, str]) -> str:
    """The state in words. A generator that has not been ready since the start is taken to be loading its model."""
    loading = failing.get("generator") == "NOT_SERVING" or not app.generator_was_ready
    states = [_LOADING if name == "generator" and loading else f"{name} is not ready" for name in failing]
    return "; ".join(states) or "ready"


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        401: problem(401),
    },
    summary="Metrics",
)
async def get_metrics(app: Context) -> Response:
    """The metrics of the gateway in the text format of Prometheus."""
    body = app.metrics.exposition()
    return Response(body, media_type=CONTENT_TYPE_LATEST, headers={"cache-control": "no-store"})
