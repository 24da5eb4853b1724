"""The folder of all data: made when it is missing, closed to other users."""

import os
import stat
from pathlib import Path

from local.supervisor import StartError

_OTHERS = 0o077
_OTHERS_BUT_ENTER = 0o066


def prepare(data: Path) -> None:
    """Make the folder, and let what this process and its children create be readable by their user only.

    As root, others may still enter folders whose names they know, because PostgreSQL becomes another user there.
    Raises StartError if the folder cannot be written.
    """
    withheld = _OTHERS_BUT_ENTER if os.geteuid() == 0 else _OTHERS
    os.umask(withheld)
    run = data / "run"
    try:
        is_ours = not data.exists() or (data / "token").exists()
        run.mkdir(parents=True, exist_ok=True)
        status = data.stat()
        # A folder that we did not make, such as /tmp, keeps its mode.
        if is_ours and status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX:
            data.chmod(stat.S_IMODE(status.st_mode) & ~withheld)
        if not os.access(run, os.W_OK):
            raise StartError(f"FRONTISPIECE_DATA: {run} cannot be written")
    except OSError as error:
        raise StartError(f"FRONTISPIECE_DATA: {run} cannot be made: {error.strerror}") from error
