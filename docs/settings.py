"""Writes docs/settings.md, the table of all settings: `.venv/bin/python docs/settings.py`."""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.settings import GatewaySettings
from local.settings import RunSettings
from rpc.settings import ProcessSettings, variable_names
from services.generator.settings import GeneratorSettings
from services.posts.settings import MigrationSettings, PostsSettings
from services.posts.worker.settings import WorkerSettings
from services.storage.settings import StorageSettings

PATH = Path(__file__).with_name("settings.md")

PROCESSES: tuple[tuple[str, type[ProcessSettings]], ...] = (
    ("`make run`", RunSettings),
    ("gateway", GatewaySettings),
    ("migration (`python -m services.posts.database.migrate`)", MigrationSettings),
    ("posts", PostsSettings),
    ("worker", WorkerSettings),
    ("storage", StorageSettings),
    ("generator", GeneratorSettings),
)

HEADER = """# Settings

Environment variables by process, written by `.venv/bin/python docs/settings.py` from the classes that read them. In a
container a setting can be a file in `/run/secrets`, named as the variable in lower case. Where several names are given,
the first one that is set counts.
"""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or value is None or value in ("", ()):
        return ""
    if isinstance(value, SecretStr):
        return ""
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


def render() -> str:
    """The whole page."""
    lines = [HEADER]
    for title, settings in PROCESSES:
        lines += [f"## {title}\n", "| variable | default | meaning |", "|---|---|---|"]
        prefix = settings.model_config.get("env_prefix", "")
        for name, field in settings.model_fields.items():
            variables = " ".join(f"`{variable}`" for variable in variable_names(name, field, prefix))
            lines.append(f"| {variables} | {_default(field)} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PATH.write_text(render())
