"""`python -m local.checks`: read the settings of every process, name the wrong ones, exit with 2 if there are any.

The launcher runs it beside the start of the gateway, so that a wrong setting is named before the links are printed.
"""

import contextlib
import io
import os
import sys

from rpc.settings import ProcessSettings, load


def wrong() -> list[str]:
    """One line for each wrong setting in the environment of this process."""
    # Each process gets the address when the database runs.
    os.environ.setdefault("POSTS_DATABASE_URL", "postgresql://127.0.0.1/frontispiece")
    lines: dict[str, None] = {}
    for cls in _classes():
        output = io.StringIO()
        with contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
            load(cls)
        lines |= dict.fromkeys(output.getvalue().splitlines())
    return list(lines)


def _classes() -> tuple[type[ProcessSettings], ...]:
    from gateway.settings import GatewaySettings
    from services.generator.settings import GeneratorSettings
    from services.posts.settings import MigrationSettings, PostsSettings
    from services.posts.worker.settings import WorkerSettings
    from services.storage.settings import StorageSettings

    return GatewaySettings, MigrationSettings, PostsSettings, WorkerSettings, StorageSettings, GeneratorSettings


if __name__ == "__main__":
    found = wrong()
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    sys.exit(2 if found else 0)
