"""Running a child that refuses to be root, when we are root, and tying its life to ours.

PostgreSQL will not run as root. Two ways out, tried in this order:

1. become `postgres` or `nobody`, if that user can reach the folders it needs;
2. a user namespace in which root is called something else: the child keeps access to root's private folders (a clone
   below /root, a temporary folder of mode 0700) without any of them being opened to others.
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
    """Who the child is. `owner` owns its files on disk; `user` is whom it becomes; None: it stays who we are."""

    owner: int
    user: pwd.struct_passwd | None = None
    namespace: bool = False


def choose_identity(folders: Sequence[Path], existing: Path) -> Identity:
    """The identity for a child that needs to enter `folders`; files already in `existing` decide, if it exists."""
    if os.geteuid() != 0:
        return Identity(os.geteuid())
    owner = existing.stat().st_uid if existing.exists() else None
    if owner == 0:
        return Identity(0, namespace=True)
    for name in ("postgres", "nobody"):
        user = _find_user(name)
        if user is None or (owner is not None and owner != user.pw_uid):
            continue
        if owner is not None or all(_can_enter(folder, user) for folder in folders):
            return Identity(user.pw_uid, user=user)
    return Identity(0, namespace=True)


def _find_user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _can_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` may pass through every folder from the root down to `folder`, as far as it exists."""
    folder = folder.resolve()
    for step in (folder, *folder.parents):
        if not step.exists():
            continue
        status = step.stat()
        bit = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
        if not status.st_mode & bit:
            return False
    return True


def launched(command: Sequence[str], identity: Identity, death_signal: signal.Signals) -> list[str]:
    """The command that runs `command` under `identity` and sends it `death_signal` when this process dies.

    macOS knows no such signal; there the next start finds what the last one left.
    """
    user, group = "-1", "-1"
    if identity.user is not None:
        user, group = str(identity.user.pw_uid), str(identity.user.pw_gid)
    elif identity.namespace:
        user = "namespace"
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
    return [*launcher, str(os.getpid()), str(int(death_signal)), user, group, *command]
