"""As root, the services become the owner of the folder of data, where that is possible."""

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import unprivileged
from local.unprivileged import SAME, home, launched, of_services

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of `nobody` that everybody can enter, and a Python and code that `nobody` can read."""
    if not SYSTEM_PYTHON.exists():
        pytest.skip("there is no Python that all users can read")
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        os.chown(folder, user.pw_uid, user.pw_gid)
        code = Path(folder, "code", "local")
        code.mkdir(parents=True)
        os.chown(code.parent, user.pw_uid, user.pw_gid)
        monkeypatch.setattr(unprivileged, "__file__", str(code / "unprivileged.py"))
        monkeypatch.setattr(unprivileged.sys, "executable", str(SYSTEM_PYTHON))
        yield Path(folder)


def test_services_become_the_owner_of_the_data(data: Path) -> None:
    identity = of_services(data)
    assert identity.user is not None
    assert identity.user.pw_name == "nobody"
    assert home(identity)["USER"] == "nobody"
    launcher = Path(__file__).parent.parent.parent / "local" / "launcher.py"
    command = launched(["id", "-un"], signal.SIGTERM, identity)
    command = [str(launcher) if part.endswith("launcher.py") else part for part in command]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "nobody"


def test_services_stay_root_in_a_folder_of_root_and_say_so(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.chown(data, 0, 0)
    assert of_services(data) == SAME
    assert "chown" in caplog.text


def test_services_stay_root_while_something_in_the_folder_is_roots(data: Path) -> None:
    """It could not be read: a folder that was used by root before."""
    (data / "token").touch()
    assert of_services(data) == SAME


def test_services_stay_root_where_the_owner_cannot_enter_the_code(data: Path) -> None:
    os.chmod(data / "code", 0o700)
    os.chown(data / "code", 65533, 65533)
    assert of_services(data) == SAME
