"""Runs a child that refuses to be root although we are root, and ends it when this process dies.

PostgreSQL does not run as root. Two ways around that, tried in this order:

1. The child becomes the user `postgres` or `nobody`, if that user can enter the folders that the child needs.
2. The child enters a user namespace in which root has another name. It can still enter root's private folders (a clone
   below /root, a temporary folder of mode 0700), and they stay closed to other users.
"""

import logging
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_OF_THE_LAUNCHER = ("run", "postgres")
"""What the launcher itself and PostgreSQL write in the folder of data."""


@dataclass(frozen=True)
class Identity:
    """The user that a child becomes. By default it keeps ours."""

    user: pwd.struct_passwd | None = None
    namespace: bool = False


SAME = Identity()
ROOT_WARNING = (
    "the services run as root; to run them as another user, give that user the folder of data (chown -R USER %s) and "
    "make the code and its .venv readable for them"
)


def of_services(data: Path) -> Identity:
    """The user that the processes of the Procfile become: the owner of the folder of data, if we are root.

    Root remains, with a warning, where root owns that folder, or where its owner cannot enter the code.
    """
    if os.geteuid() != 0:
        return SAME
    code, python = Path(__file__).parent.parent, Path(sys.executable)
    owner = data.stat().st_uid
    try:
        user = pwd.getpwuid(owner)
    except KeyError:
        user = None
    entries = [path for path in data.iterdir() if path.name not in _OF_THE_LAUNCHER]
    owns_all = all(path.stat().st_uid == owner for path in entries)
    folders = (data.absolute(), code, python.parent, python.resolve().parent)
    if owner == 0 or user is None or not owns_all or not all(_can_enter(folder, user) for folder in folders):
        log.warning(ROOT_WARNING, data)
        return SAME
    return Identity(user=user)


def home(identity: Identity) -> dict[str, str]:
    """The variables that name the user of a process, if it becomes another one."""
    user = identity.user
    return {} if user is None else {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}


def choose_identity(folders: Sequence[Path], existing: Path) -> Identity:
    """The identity for a child that must enter `folders`. If `existing` exists, its owner decides."""
    if os.geteuid() != 0:
        return Identity()
    owner = existing.stat().st_uid if existing.exists() else None
    if owner == 0:
        return Identity(namespace=True)
    for name in (_owner_of(folders[0]), "postgres", "nobody"):
        user = _find_user(name)
        if user is None or (owner is not None and owner != user.pw_uid):
            continue
        if owner is not None or all(_can_enter(folder, user) for folder in folders):
            return Identity(user=user)
    return Identity(namespace=True)


def _owner_of(folder: Path) -> str:
    """The name of the user who owns a folder, or that in which it will be made; empty for root."""
    while not folder.exists():
        folder = folder.parent
    owner = folder.stat().st_uid if folder.stat().st_uid else folder.parent.stat().st_uid
    return pwd.getpwuid(owner).pw_name if owner else ""


def _find_user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _can_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` may pass through every existing folder from the root down to `folder`."""
    folder = folder.resolve()
    for step in (folder, *folder.parents):
        if not step.exists():
            continue
        status = step.stat()
        bit = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
        if not status.st_mode & bit:
            return False
    return True


def launched(command: Sequence[str], death_signal: signal.Signals, identity: Identity = Identity()) -> list[str]:
    """The command that runs `command` as `identity` and sends it `death_signal` when this process dies.

    macOS has no such signal. There, the next start stops a PostgreSQL that outlived its owner.
    """
    user, group = "-1", "-1"
    if identity.user is not None:
        user, group = str(identity.user.pw_uid), str(identity.user.pw_gid)
    elif identity.namespace:
        user = "namespace"
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
    return [*launcher, str(os.getpid()), str(int(death_signal)), user, group, *command]
