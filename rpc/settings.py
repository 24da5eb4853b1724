"""Settings from environment variables: read once at start, logged with secrets masked, invalid ones named."""

import difflib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from rpc.logs import LogFormat

log = logging.getLogger(__name__)


def _is_target(value: str) -> str:
    value = value.strip()
    if not _TARGET.fullmatch(value):
        raise ValueError("must be host:port or a gRPC address such as dns:///name:port")
    return value


_TARGET = re.compile(r"\S*[^\s:/]:\d{1,5}")

Target = Annotated[str, AfterValidator(_is_target)]
"""The address of another service: "host:port", "dns:///name:port" or "ipv4:1.2.3.4:1,1.2.3.5:1"."""


def _is_of_kubernetes(name: str, value: str | None) -> bool:
    """Whether a variable is a link to a Service, such as GATEWAY_PORT=tcp://10.0.0.5:8080 of a Service `gateway`."""
    return name.upper().endswith("_PORT") and re.fullmatch(r"(tcp|udp|sctp)://\S+", value or "") is not None


class ProcessSettings(BaseSettings):
    """The settings of every process. A subclass sets `env_prefix` and adds its own."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of pydantic-settings, without the variables that Kubernetes sets."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {n: v for n, v in env_settings.env_vars.items() if not _is_of_kubernetes(n, v)}
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="FRONTISPIECE_LOG_LEVEL", description="Least severe level that is logged."
    )
    log_format: LogFormat = Field(
        "console",
        validation_alias="FRONTISPIECE_LOG_FORMAT",
        description="`console` for people, `json` for machines.",
    )


class ServerSettings(ProcessSettings):
    """The settings of every gRPC server."""

    listen: str = Field("127.0.0.1:0", description="Address and port to listen on; port 0 selects a free one.")
    reflection: bool = Field(False, description="Serve gRPC reflection; for development.")
    lame_duck_seconds: float = Field(
        0.5, ge=0, le=60, description="Seconds of service at shutdown after health has become NOT_SERVING."
    )
    drain_seconds: float = Field(
        5.0, ge=0, le=3600, description="Seconds that calls in progress have to end at shutdown."
    )
    max_message_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest message that is accepted, in bytes."
    )
    max_concurrent_rpcs: int = Field(
        1000,
        ge=1,
        description="Largest number of concurrent calls, health checks included; more are RESOURCE_EXHAUSTED.",
    )


SettingsT = TypeVar("SettingsT", bound=ProcessSettings)

SECRETS_FOLDER = Path("/run/secrets")
"""The folder where container engines mount secrets. A file with the name of a variable, in lower case, sets it."""


def variable_names(name: str, field: FieldInfo, prefix: str) -> list[str]:
    """The environment variables that set a field; the preferred one is the first."""
    alias = field.validation_alias
    if alias is None:
        return [(prefix + name).upper()]
    if isinstance(alias, str):
        return [alias]
    return [choice for choice in getattr(alias, "choices", []) if isinstance(choice, str)]


def load(cls: type[SettingsT]) -> SettingsT:
    """Read the settings of a process. An invalid one is named on standard error, and the exit code is 2."""
    try:
        return cls(_secrets_dir=SECRETS_FOLDER if SECRETS_FOLDER.is_dir() else None)
    except ValidationError as error:
        prefix = cls.model_config.get("env_prefix", "")
        for problem in error.errors(include_input=False, include_url=False):
            location = str(problem["loc"][0]) if problem["loc"] else ""
            field = cls.model_fields.get(location)
            variable = variable_names(location, field, prefix)[0] if field else location or cls.__name__
            print(f"setting {variable}: {problem['msg']}", file=sys.stderr)
        raise SystemExit(2) from None


def describe(settings: ProcessSettings) -> dict[str, str]:
    """The effective settings by environment variable, with secrets masked."""
    cls = type(settings)
    prefix = cls.model_config.get("env_prefix", "")
    described: dict[str, str] = {}
    for name, field in cls.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "********" if value.get_secret_value() else ""
        described[variable_names(name, field, prefix)[0]] = str(value)
    return described


def announce(settings: ProcessSettings) -> None:
    """Log the effective settings, and a warning for each variable that looks like a misspelt name of one."""
    described = describe(settings)
    log.info("settings", extra=described)
    prefix = type(settings).model_config.get("env_prefix", "")
    for variable in sorted(os.environ):
        if variable in described and _is_of_kubernetes(variable, os.environ[variable]):
            log.warning("%s=%s is ignored: it is a link of Kubernetes, not a port", variable, os.environ[variable])
        if prefix and variable.startswith(prefix) and variable not in described:
            close = difflib.get_close_matches(variable, described, n=1, cutoff=0.8)
            if close:
                log.warning("unknown setting %s is ignored; did you mean %s?", variable, close[0])
