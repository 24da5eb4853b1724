"""JSON of problem documents (RFC 9457)."""

from pydantic import ConfigDict, Field

from gateway.schemas.base import Output


class ProblemField(Output):
    """A wrong field."""

    field: str = Field(description='The name of the field. "" is the whole body.', examples=["prompt", "tags[1]"])
    message: str = Field(
        description="What is wrong with its value.", examples=["must have at most 2000 characters, has 2001"]
    )


class ProblemDocument(Output):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": "prompt: is required",
                    "code": "INVALID_ARGUMENT",
                    "errors": [{"field": "prompt", "message": "is required"}],
                    "request_id": "7a1c4bfe-64f8-4e0f-9d2f-0b9d2b2d7a55",
                }
            ]
        },
    )

    type: str = Field(description="Always `about:blank`.")
    title: str = Field(description="The name of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="The reason, for people.")
    code: str = Field(description="The reason, for programs: a stable name in UPPER_SNAKE_CASE.")
    errors: list[ProblemField] = Field(description="The wrong fields. Empty when no field is wrong.")
    request_id: str = Field(description="Id of the request, as in the X-Request-Id header and in the logs.")
