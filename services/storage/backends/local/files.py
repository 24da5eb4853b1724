"""Durable files below one folder: atomic creation, no symbolic links, and a sweep of abandoned temporary files."""

import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rpc.errors import ResourceExhausted, RpcError, Unavailable
from services.storage.content import Content

TEMPORARY = ".tmp"

_FOR_OTHERS = 0o007

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # O_NONBLOCK: opening a FIFO would block
_RETRY_SECONDS = 5.0


class FileTree:
    """Files below `root`, named by relative paths with slashes.

    Every component of a path is opened with O_NOFOLLOW, relative to its parent, so that no symbolic link below the root
    is followed. Paths come from checked keys or from this package.
    """

    def __init__(self, root: Path, *, world_readable: bool = False) -> None:
        """Create the folder if it does not exist. Raises OSError.

        Unless it is `world_readable`, only the owner and the group may enter the folder: there are drafts in it. That
        closes what an earlier release has created in it, too.
        """
        self._folder_mode, self._file_mode = (0o755, 0o644) if world_readable else (0o750, 0o640)
        root.mkdir(self._folder_mode, parents=True, exist_ok=True)
        self.root = root.resolve(strict=True)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        if not world_readable and mode & _FOR_OTHERS:
            with suppress(PermissionError):  # it belongs to somebody else, who decides
                self.root.chmod(mode & ~_FOR_OTHERS)
        with self._folder("", make=False) as top, suppress(FileExistsError):
            os.mkdir(TEMPORARY, self._folder_mode, dir_fd=top)

    @property
    def scratch(self) -> Path:
        """The folder of temporary files."""
        return self.root / TEMPORARY

    def create(self, path: str, data: bytes | Content) -> bool:
        """Write a file that is complete and durable when it becomes visible. False, without a change, if it exists."""
        with self._folder(_parent(path), make=True) as folder, self._temporary(data) as (source, name):
            try:
                os.link(name, _name(path), src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                return False
            os.fsync(folder)
            return True

    def replace(self, path: str, data: bytes) -> None:
        """Replace a file atomically."""
        with self._folder(_parent(path), make=True) as folder, self._temporary(data) as (source, name):
            os.rename(name, _name(path), src_dir_fd=source, dst_dir_fd=folder)
            os.fsync(folder)

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError), self._folder(_parent(path), make=False) as folder:
            os.unlink(_name(path), dir_fd=folder)
            os.fsync(folder)

    def sync(self, path: str) -> None:
        """Make a file durable that another process may have just created. Raises FileNotFoundError."""
        with self._folder(_parent(path), make=False) as folder:
            os.fsync(folder)

    def open(self, path: str) -> int:
        """A descriptor to read a regular file, to be closed by the caller. Raises FileNotFoundError."""
        with self._folder(_parent(path), make=False) as folder:
            try:
                descriptor = os.open(_name(path), _READ, dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG):
                    raise FileNotFoundError(errno.ENOENT, "not a regular file", path) from error
                raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
        return descriptor

    def read(self, path: str) -> bytes:
        """The whole content of a file. Raises FileNotFoundError."""
        with os.fdopen(self.open(path), "rb") as file:
            return file.read()

    def view(self, path: str) -> Content:
        """The content of a file, to be closed by the caller. Raises FileNotFoundError."""
        descriptor = self.open(path)
        try:
            return Content(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str, wait_seconds: float) -> int:
        """Lock a file against other processes until the returned descriptor is closed.

        Raises BlockingIOError if another process keeps the lock for `wait_seconds`.
        """
        with self._folder(_parent(path), make=True) as folder:
            descriptor = os.open(_name(path), _READ | os.O_CREAT, self._file_mode, dir_fd=folder)
        until = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    raise
                time.sleep(0.1)

    def free_bytes(self) -> int:
        """The free space on the disk, in bytes."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def walk(self, path: str) -> Iterator[tuple[str, float]]:
        """The path and modification time (Unix seconds) of every regular file below the folder `path`."""
        try:
            with self._folder(path, make=False) as folder, os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
                plain = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
                files = [(entry.name, entry.stat(follow_symlinks=False).st_mtime) for entry in plain]
                folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return
        for name, modified in files:
            yield (f"{path}/{name}" if path else name), modified
        for name in folders:
            yield from self.walk(f"{path}/{name}" if path else name)

    def sweep_temporary(self) -> int:
        """Remove the temporary files of processes that have ended. Returns their number.

        A writer holds a lock on its file, so files that are being written are not removed.
        """
        removed = 0
        with self._folder(TEMPORARY, make=True) as folder:
            for name in os.listdir(folder):
                with suppress(FileNotFoundError):
                    removed += _remove_if_unlocked(name, folder)
        return removed

    @contextmanager
    def _temporary(self, data: bytes | Content) -> Iterator[tuple[int, str]]:
        """The folder and name of a durable new file with `data`. It is removed at the end of the block."""
        name = uuid.uuid4().hex
        with self._folder(TEMPORARY, make=True) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, self._file_mode, dir_fd=folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write_all(descriptor, data)
                os.fsync(descriptor)
                yield folder, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                os.close(descriptor)

    @contextmanager
    def _folder(self, path: str, *, make: bool) -> Iterator[int]:
        """A descriptor of a folder below the root, opened without following links."""
        descriptor = os.open(self.root, _FOLDER)
        try:
            for name in path.split("/") if path else ():
                below = _enter(descriptor, name, self._folder_mode if make else None)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def read_cached(descriptor: int, size: int, position: int) -> bytes:
    """At most `size` bytes from `position` on if they are in the page cache; empty if reading them would block."""
    buffer = bytearray(size)
    try:
        count = os.preadv(descriptor, [buffer], position, os.RWF_NOWAIT)
    except (OSError, AttributeError):  # not cached, or the file system or the platform cannot say
        return b""
    return bytes(memoryview(buffer)[:count])


def translated(error: OSError, doing: str) -> RpcError:
    """The error for the caller of a failed disk operation; details are for the log only."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"the disk is full: {doing}", reason="DISK_FULL", retry_after_seconds=_RETRY_SECONDS)
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return Unavailable(
        f"the disk does not work ({name}): {doing}", reason="DISK_FAILED", retry_after_seconds=_RETRY_SECONDS
    )


def _enter(parent: int, name: str, make_with_mode: int | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if make_with_mode is None:
            raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG) and make_with_mode is None:
            raise FileNotFoundError(errno.ENOENT, "not a folder", name) from error
        raise
    with suppress(FileExistsError):
        os.mkdir(name, make_with_mode, dir_fd=parent)
        os.fsync(parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _write_all(descriptor: int, data: bytes | Content) -> None:
    for piece in data.pieces() if isinstance(data, Content) else (data,):
        left = memoryview(piece)
        while left:
            left = left[os.write(descriptor, left) :]


def _remove_if_unlocked(name: str, folder: int) -> int:
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)
    return 1


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
