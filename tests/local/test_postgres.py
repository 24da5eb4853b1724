"""The PostgreSQL of `make run`: it starts, keeps its data through every kind of end, and touches no other process."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest

from local import binaries
from local.postgres import Postgres, PostgresError


async def _value(server: Postgres, statement: str) -> object:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def _alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while _alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class TestStart:
    async def test_initialises_a_database_and_accepts_connections(self, tmp_path: Path) -> None:
        with Postgres(tmp_path / "pg") as server:
            await server.create_database()
            await server.create_database()
            connection = await asyncpg.connect(server.url())
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()

    async def test_refuses_a_wrong_password(self, tmp_path: Path) -> None:
        with Postgres(tmp_path / "pg") as server:
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(
                    host="127.0.0.1", port=server.port, user="frontispiece", password="no", database="postgres"
                )

    def test_keeps_the_folder_private(self, tmp_path: Path) -> None:
        with Postgres(tmp_path / "pg"):
            assert (tmp_path / "pg" / "data").stat().st_mode & 0o777 == 0o700
            assert (tmp_path / "pg" / "password").stat().st_mode & 0o777 == 0o600

    def test_second_owner_is_refused(self, tmp_path: Path) -> None:
        with Postgres(tmp_path / "pg"):
            with pytest.raises(PostgresError, match="another Frontispiece uses"):
                Postgres(tmp_path / "pg").start()

    async def test_starts_below_a_folder_only_we_can_enter(self, tmp_path: Path) -> None:
        private = tmp_path / "private"
        private.mkdir(mode=0o700)
        with Postgres(private / "pg") as server:
            assert await _value(server, "SELECT 1") == 1
        assert private.stat().st_mode & 0o777 == 0o700
        with Postgres(private / "pg") as server:  # and again, with the data that is there
            assert await _value(server, "SELECT 1") == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its rights")
    async def test_root_becomes_another_user_who_can_enter_the_folder(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            with Postgres(Path(folder, "pg")) as server:
                assert await _value(server, "SELECT 1") == 1
                assert Path(f"/proc/{server.process_id}").stat().st_uid != 0
                assert Path(folder, "pg", "data").stat().st_uid != 0

    def test_missing_binaries_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(binaries.BinariesNotFoundError, match="POSTS_DATABASE_URL"):
            Postgres(tmp_path / "pg", binaries_folder=str(tmp_path / "nothing")).start()

    def test_data_of_another_major_version_is_not_opened(self, tmp_path: Path) -> None:
        data = tmp_path / "pg" / "data"
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("9\n")
        with pytest.raises(binaries.BinariesNotFoundError, match="PostgreSQL 9"):
            Postgres(tmp_path / "pg").start()


class TestEnd:
    async def test_data_is_kept_over_a_clean_restart(self, tmp_path: Path) -> None:
        with Postgres(tmp_path / "pg") as server:
            await _value(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
        with Postgres(tmp_path / "pg") as server:
            assert await _value(server, "SELECT count(*) FROM kept") == 1000

    async def test_data_is_kept_when_the_server_is_killed(self, tmp_path: Path) -> None:
        server = Postgres(tmp_path / "pg")
        server.start()
        await _value(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
        pid = server.process_id
        os.kill(pid, signal.SIGKILL)
        assert _gone(pid)
        server.stop()
        server.start()
        assert await _value(server, "SELECT count(*) FROM kept") == 1000
        server.stop()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
    async def test_dies_with_its_owner(self, tmp_path: Path) -> None:
        program = (
            "import sys, time; from pathlib import Path; from local.postgres import Postgres;"
            "p = Postgres(Path(sys.argv[1])); p.start(); print(p.process_id, flush=True); time.sleep(60)"
        )
        owner = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "pg")], stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
        owner.wait()
        owner.stdout.close()
        assert _gone(pid)
        with Postgres(tmp_path / "pg") as server:
            assert await _value(server, "SELECT 1") == 1

    async def test_process_in_a_stale_pid_file_is_not_touched(self, tmp_path: Path) -> None:
        with Postgres(tmp_path / "pg"):
            pass
        bystander = subprocess.Popen(["sleep", "60"])
        data = tmp_path / "pg" / "data"
        (data / "postmaster.pid").write_text(f"{bystander.pid}\n{data}\n1\n5432\n\n\n  1 1\nready   \n")
        with Postgres(tmp_path / "pg") as server:
            assert await _value(server, "SELECT 1") == 1
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()

    async def test_interrupted_initdb_is_made_again(self, tmp_path: Path) -> None:
        data = tmp_path / "pg" / "data"
        data.mkdir(parents=True)
        (data / "half").write_text("written")
        with Postgres(tmp_path / "pg") as server:
            assert await _value(server, "SELECT 1") == 1
