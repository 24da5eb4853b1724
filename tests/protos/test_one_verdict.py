"""Each limit of each field has the verdict of rpc.validation at the service that has the method and at the gateway."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from frontispiece.storage.v1 import images_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway.app import create_app
from gateway.errors import rest_name
from gateway.settings import GatewaySettings
from local.postgres import Postgres
from rpc.errors import from_call
from tests.protos.limit_cases import METHODS, Case, cases
from tests.protos.rest import NO_ROUTE, NOT_FOUND, NOT_IN_REST, OTHER_REASONS, ROUTES, Route, has_field, send
from tests.protos.servers import SECONDS, TOKEN, Servers, started
from tests.protos.verdicts import completed, field_of, upload, violations

CASES = cases()

FAULTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
"""Codes that are no verdict."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """The servers, once for all methods."""
    name = f"verdict_{uuid.uuid4().hex[:8]}"
    await postgres.create_database(name)
    async with started(postgres.url(name), tmp_path_factory.mktemp("verdict"), CASES) as running:
        yield running


async def service_verdict(servers: Servers, case: Case) -> dict[str, str]:
    """The refused fields, each with the reason. Raises AssertionError for a fault."""
    method = case.method
    start = servers.call(method, GetMessageClass(method.output_type))
    call = start(upload(case) if method.client_streaming else case.request, timeout=SECONDS)
    try:
        await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        if error.code() in FAULTS:
            raise AssertionError(f"{error.code().name}: {error.details()}") from error
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return {violation.field: violation.description for violation in from_call(error).violations}
    finally:
        call.cancel()
    return {}


def gateway_verdict(response: httpx2.Response, case: Case) -> dict[str, str]:
    """The refused fields by their names in REST. Raises AssertionError for a fault."""
    assert response.status_code < 500, f"{response.status_code}: {response.text[:200]}"
    assert response.status_code not in {400, 401, 405, 413, 415, 429}, f"{response.status_code}: {response.text[:200]}"
    if response.is_success:
        return {}
    document = response.json()
    if (code := NOT_FOUND.get((case.method.name, field_of(case)))) and not case.is_accepted:
        assert document["code"] == code, f"{document['code']}, not {code}"
        return {rest_name(case.field): violations(case)[case.field]}
    if document["code"] in OTHER_REASONS:
        return {}
    return {error["field"]: error["message"] for error in document["errors"]}


def deviation(case: Case, field: str, found: dict[str, str]) -> str:
    """How a verdict on a field differs from that of rpc.validation; "" if it does not."""
    refused = {
        name: text for name, text in found.items() if name == field or name.startswith((f"{field}[", f"{field}."))
    }
    expected = violations(case).get(case.field)
    if expected is None:
        return f"refused {refused}" if refused else ""
    if field not in refused:
        return f"not refused: {expected}; but {found}"
    # JSON has names for the values of an enum, so its type refuses a value that the enum does not have.
    return "" if refused[field] == expected or case.limit == "defined" else f"{refused[field]!r}, not {expected!r}"


def label(case: Case, where: str, problem: str) -> str:
    """A line of the failure."""
    return f"{case.method.name} {case.field} {case.limit} {'edge' if case.is_accepted else 'beyond'} {where}: {problem}"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("method", [one for one in METHODS if one.input_type.fields], ids=lambda one: one.full_name)
async def test_the_service_and_the_gateway_have_the_verdict_of_the_checker(
    servers: Servers, method: MethodDescriptor
) -> None:
    deviations = []
    for case in (completed(one, servers.stored) for one in CASES if one.method is method):
        try:
            if problem := deviation(case, case.field, await service_verdict(servers, case)):
                deviations.append(label(case, "service", problem))
        except AssertionError as fault:
            deviations.append(label(case, "service", str(fault)))
        for route in () if (method.name, field_of(case)) in NOT_IN_REST else ROUTES.get(method.name, ()):
            try:
                found = gateway_verdict(await send(servers.client, route, case), case)
                if problem := deviation(case, rest_name(case.field), found):
                    deviations.append(label(case, route.path, problem))
            except AssertionError as fault:
                deviations.append(label(case, route.path, str(fault)))
    assert not deviations, "\n".join(deviations)


def wire_cases() -> list[tuple[Case, int]]:
    """The cases with an integer at its maximum, each with an integer that no message can hold."""
    found = []
    for case in CASES:
        if case.limit == "max" and case.is_accepted and case.method.name in ROUTES:
            field: Any = case.method.input_type
            for step in field_of(case).split("."):
                field = getattr(field, "message_type", field).fields_by_name[step]
            if field.cpp_type not in {field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT}:
                found += [(case, value) for value in (-(2**63) - 1, 2**64, 10**400)]
    return [(case, value) for case, value in found if (case.method.name, field_of(case)) not in NOT_IN_REST]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_integer_that_no_message_can_hold_is_refused_with_its_name(servers: Servers) -> None:
    deviations = []
    for case, value in wire_cases():
        for route in ROUTES[case.method.name]:
            response = await send(servers.client, route, completed(case, servers.stored), value)
            fields = [error["field"] for error in response.json()["errors"]] if response.status_code == 422 else []
            if fields != [rest_name(case.field)]:
                deviations.append((case.method.name, route.path, case.field, value, response.status_code, fields))
    assert not deviations


KEYS = [
    "generated/a(1).png",
    "generated/" + "/".join(["x" * 200, "y" * 200, "z" * 100]),
    "generated/" + "/".join(["x" * 200, "y" * 200, "z" * 101]),
    "generated/a b.png",
    "generated/.a.png",
    "generated/é.png",
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[:24]}-{len(key)}")
async def test_an_image_is_served_if_the_contract_accepts_its_key(servers: Servers, key: str) -> None:
    existing = servers.stored["key"]
    for folder in (servers.media, servers.media / ".meta"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes((folder / existing).read_bytes().replace(existing.encode(), key.encode()))
    request = images_pb2.GetImageRequest(key=key)
    case = Case(METHODS[0], request, "key", "example", is_accepted=True)
    response = await servers.client.get("/media/" + key)
    assert response.status_code == (404 if violations(case) else 200), response.text


def rest_fields() -> list[tuple[MethodDescriptor, Route, str]]:
    """Each tested field of a method that REST has."""
    found = {(case.method.name, field_of(case)): case.method for case in CASES}
    return [(method, route, field) for (name, field), method in found.items() for route in ROUTES.get(name, ())]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    clients: Any = None  # no request is sent
    return create_app(GatewaySettings(), clients, TOKEN).openapi()


def test_a_field_is_in_rest_or_listed_with_the_reason(document: dict[str, Any]) -> None:
    missing, needless = [], []
    for method, route, field in rest_fields():
        name = rest_name(field)
        is_sent = has_field(document, route, name) or (method.name, field) in NOT_FOUND
        is_listed = (method.name, field) in NOT_IN_REST
        if not is_sent and not is_listed:
            missing.append((method.name, route.path, field))
        if is_sent and is_listed:
            needless.append((method.name, route.path, field))
    assert (missing, needless) == ([], [])


def test_the_lists_name_existing_fields_and_methods_only() -> None:
    tested = {(case.method.name, field_of(case)) for case in CASES}
    assert (NOT_IN_REST.keys() | NOT_FOUND.keys()) <= tested
    assert {name for name, _ in NOT_IN_REST | NOT_FOUND} <= ROUTES.keys()
    with_fields = {method.name for method in METHODS if method.input_type.fields}
    assert ROUTES.keys() | NO_ROUTE.keys() == with_fields
    assert not ROUTES.keys() & NO_ROUTE.keys()
