"""Runs a child that refuses to be root although we are root, and ends it when this process dies.

PostgreSQL does not run as root. Two ways around that, tried in this order:

1. The child becomes the user `postgres` or `nobody`, if that user can enter the folders that the child needs.
2. The child enters a user namespace in which root has another name. It can still enter root's private folders (a clone
   below /root, a temporary folder of mode 0700), and they stay closed to other users.
"""

import os
import pwd
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """The user that a child becomes. By default it keeps ours."""

    user: pwd.struct_passwd | None = None
    namespace: bool = False


def choose_identity(folders: Sequence[Path], existing: Path) -> Identity:
    """The identity for a child that must enter `folders`. If `existing` exists, its owner decides."""
    if os.geteuid() != 0:
        return Identity()
    owner = existing.stat().st_uid if existing.exists() else None
    if owner == 0:
        return Identity(namespace=True)
    for name in ("postgres", "nobody"):
        user = _find_user(name)
        if user is None or (owner is not None and owner != user.pw_uid):
            continue
        if owner is not None or all(_can_enter(folder, user) for folder in folders):
            return Identity(user=user)
    return Identity(namespace=True)


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
