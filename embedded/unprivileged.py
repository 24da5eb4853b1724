"""Running a child that refuses to be root, when we are root, and tying its life to ours.

PostgreSQL will not run as root. Two ways out, tried in this order:

1. become `postgres` or `nobody`, if that user can reach the folders it needs;
2. a user namespace in which root is called something else: the child keeps access to root's private folders (a clone
   below /root, a temporary folder of mode 0700) without any of them being opened to others.
"""

import ctypes
import os
import pwd
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_INSIDE_UID = 1000


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


def child_setup(identity: Identity, death_signal: signal.Signals) -> Callable[[], None]:
    """What the child runs between fork and exec: take the identity, then get `death_signal` when our process dies.

    The order matters: changing the user clears the death signal. macOS has neither; there it does nothing, and the
    next start finds what the last one left.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    linux = hasattr(libc, "prctl")

    def setup() -> None:
        if identity.user is not None:
            os.setgroups([])
            os.setgid(identity.user.pw_gid)
            os.setuid(identity.user.pw_uid)
        elif identity.namespace:
            _enter_namespace(libc)
        if linux:
            libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return setup


def _enter_namespace(libc: ctypes.CDLL) -> None:
    if libc.unshare(_CLONE_NEWUSER) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"PostgreSQL may not run as root and no user namespace can be made: {os.strerror(error)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_INSIDE_UID} 0 1")
    Path("/proc/self/gid_map").write_text(f"{_INSIDE_UID} 0 1")
