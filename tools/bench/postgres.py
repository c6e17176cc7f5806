"""PostgreSQL for comparison: one primary, two synchronous standbys, TLS, its stock settings otherwise."""

from __future__ import annotations

import math
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.authority import Authority
from tools.bench import pgbench
from tools.bench.figures import Conditions, Load, Row
from tools.bench.generator import Span
from tools.bench.proc import descendants, real_disk
from tools.bench.subject import row
from tools.bench.window import CORES, Watch
from tools.dev.cluster_folder import free_ports
from tools.dev.guard import guarded
from tools.errors import BenchImpossible

USER = "postgres"
STANDBYS = ("s1", "s2")
SYSTEM = "PostgreSQL"
READY_S = 30.0
"""Three servers on a slow disk; then one is broken."""
COMMAND_S = 60.0
"""initdb, and a copy of what it made, on a slow disk."""
WARM_UP_S = 2.0
"""pgbench connects in this time as well."""
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
max_connections = 200
fsync = on
synchronous_commit = on
ssl = on
ssl_ca_file = 'ca.pem'
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
"""
_ACCESS = """
hostssl all all 127.0.0.1/32 scram-sha-256
hostssl replication all 127.0.0.1/32 scram-sha-256
"""


class Postgres:
    """The three servers, in a folder of their own. A context manager: servers and folder end with it, and
    with this process, even when that is killed.
    """

    name = SYSTEM

    def __init__(self, places: Sequence[Path], ids: int, document_bytes: int) -> None:
        """`places` are folders to try, in this order: the first that the user postgres can enter is taken.

        Raises `BenchImpossible` where there are no binaries, or no such place.
        """
        self._bin = binaries()
        self._folder = _folder(places)
        self._ids = ids
        self._document = pgbench.document(document_bytes)
        self._ports = dict(zip(("primary", *STANDBYS), free_ports(1 + len(STANDBYS)), strict=True))
        self._password = secrets.token_hex(16)
        self._environment = {**os.environ, "PGPASSWORD": self._password, "LC_ALL": "C"}
        self._stack = ExitStack()
        self._conditions: Conditions | None = None

    def __enter__(self) -> Self:
        """Start, and return once both standbys are synchronous. Raises `BenchImpossible`."""
        try:
            # when this process is killed: a server whose folder is gone ends within a minute, by itself
            self._stack.enter_context(guarded(self._folder, remove=True))
            filesystem = real_disk(self._folder)
            self._make_primary()
            self._start("primary")
            for name in STANDBYS:
                self._make_standby(name)
                self._start(name)
            self._ask(f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({', '.join(STANDBYS)})'")
            self._ask("SELECT pg_reload_conf()")
            self._wait_synchronous()
            self._ask(pgbench.TABLE)
            self._conditions = self._check(filesystem)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def measure(self, load: Load, seconds: float) -> Row:
        """Run pgbench with `load` and measure a window of `seconds`."""
        assert self._conditions is not None
        watch = Watch(self._pids, self._ports["primary"])
        logs = self._folder / f"log-{secrets.token_hex(4)}"
        logs.mkdir()
        (logs / "script.sql").write_text(pgbench.script(load, self._ids))
        begin_s = time.monotonic() + WARM_UP_S
        span = Span(begin_s, begin_s + seconds)
        epoch_s = time.time() - time.monotonic()
        with self._pgbench(load, logs, math.ceil(WARM_UP_S + seconds) + 1) as process:
            try:
                observed = watch.observe(span, [process.pid])
                _, errors = process.communicate(timeout=COMMAND_S)
            finally:
                process.kill()
        if process.returncode:
            raise BenchImpossible(f"pgbench: {_last_line(errors)}")
        lines = [line for path in logs.glob("log.*") for line in path.read_text().splitlines()]
        took = pgbench.latencies_us(lines, span.begin_s + epoch_s, span.end_s + epoch_s, load.in_flight)
        piped = load.in_flight > 1
        note = "times are of whole pipelines; the server commits one after the other" if piped else ""
        return row(self.name, load, self._conditions, seconds, took, observed, note=note)

    def _pgbench(self, load: Load, logs: Path, run_s: int) -> subprocess.Popen[str]:
        command = [
            str(self._bin / "pgbench"), self._uri("primary"), "--no-vacuum", "--protocol=prepared",
            f"--client={load.connections}", f"--jobs={min(load.connections, CORES)}", f"--time={run_s}",
            f"--file={logs / 'script.sql'}", f"--define=doc={self._document}",
            "--log", f"--log-prefix={logs / 'log'}",
        ]  # fmt: skip
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def _make_primary(self) -> None:
        data, password = self._folder / "primary", self._folder / "password"
        password.write_text(self._password)
        _give([password])
        self._run(
            "initdb", "-D", str(data), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8"
        )
        with (data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS.format(port=self._ports["primary"]))
        (data / "pg_hba.conf").write_text(_ACCESS)
        authority = Authority.create("bench")
        cert, key = authority.issue_node("pg-1", ["127.0.0.1", "localhost"]).save(data, "server")
        ca, _ = authority.save(self._folder)
        shutil.copy(ca, data / "ca.pem")
        for path in (ca, data / "ca.pem"):
            path.chmod(0o644)
        _give([cert, key, data / "ca.pem"])

    def _make_standby(self, name: str) -> None:
        data = self._folder / name
        source = f"{self._uri('primary')} application_name={name} password={self._password}"
        self._run("pg_basebackup", "-d", source, "-D", str(data), "-X", "stream", "-R", "-c", "fast")
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"\nport = {self._ports[name]}\n")

    def _start(self, name: str) -> None:
        log = self._folder / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                as_postgres([str(self._bin / "postgres"), "-D", str(self._folder / name)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        self._stack.callback(_stop, process, self._folder / name)
        deadline = time.monotonic() + READY_S
        ask = as_postgres(
            [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._ports[name])]
        )
        while not _succeeds(ask, self._environment):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchImpossible(f"{SYSTEM} does not start: {_last_line(log.read_text())}")
            time.sleep(0.1)

    def _wait_synchronous(self) -> None:
        deadline = time.monotonic() + READY_S
        count = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum' AND state = 'streaming'"
        while self._ask(count) != str(len(STANDBYS)):
            if time.monotonic() > deadline:
                raise BenchImpossible(f"the standbys of {SYSTEM} do not follow within {READY_S:g} s")
            time.sleep(0.1)

    def _check(self, filesystem: str) -> Conditions:
        """The conditions as the server itself names them."""
        synced = f"{self._ask('SHOW fsync')}, synchronous_commit {self._ask('SHOW synchronous_commit')}"
        tls = self._ask("SELECT string_agg(DISTINCT version, ', ') FROM pg_stat_ssl WHERE ssl").replace(
            "v", " "
        )
        plain = self._ask(
            "SELECT count(*) FROM pg_stat_replication r LEFT JOIN pg_stat_ssl s USING (pid) WHERE NOT s.ssl"
        )
        if plain != "0":
            raise BenchImpossible(f"{plain} standbys of {SYSTEM} follow without TLS")
        policy = self._ask("SHOW synchronous_standby_names")
        return Conditions(policy, synced, tls, filesystem, f"{SYSTEM} {self._ask('SHOW server_version')}")

    def _pids(self) -> list[int]:
        return [pid for name in ("primary", *STANDBYS) for pid in _family(self._folder / name)]

    def _uri(self, name: str) -> str:
        return (
            f"host=127.0.0.1 port={self._ports[name]} user={USER} dbname=postgres"
            f" sslmode=verify-full sslrootcert={self._folder / 'ca.pem'}"
        )

    def _ask(self, sql: str) -> str:
        return self._run("psql", "-X", "-A", "-t", "-q", "-d", self._uri("primary"), "-c", sql)

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs; what it printed. Raises `BenchImpossible`."""
        return _output(as_postgres([str(self._bin / program), *arguments]), self._environment)


def binaries() -> Path:
    """The newest installed version's programs. Raises `BenchImpossible`."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if not found:
        raise BenchImpossible("no PostgreSQL in /usr/lib/postgresql/*/bin", hint="install its server package")
    newest = max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)])
    missing = [
        name for name in ("initdb", "pg_basebackup", "pgbench", "psql") if not (newest / name).exists()
    ]
    if missing:
        raise BenchImpossible(f"{newest} has no {', '.join(missing)}")
    return newest


def as_postgres(command: Sequence[str]) -> list[str]:
    """The command as the user postgres, when we are root; PostgreSQL's servers refuse to run as root."""
    return ["runuser", "-u", USER, "--", *command] if os.geteuid() == 0 else list(command)


def _folder(places: Sequence[Path]) -> Path:
    """A new folder that the servers' user owns. Raises `BenchImpossible`."""
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(USER)
        except KeyError:
            raise BenchImpossible(f"there is no user {USER}, and the server refuses to run as root") from None
        if shutil.which("runuser") is None:
            raise BenchImpossible("there is no runuser, and the server refuses to run as root")
    for place in places:
        if _succeeds(as_postgres(["test", "-x", str(place)]), os.environ):
            folder = Path(tempfile.mkdtemp(prefix="redwire-bench-postgres-", dir=place))
            _give([folder])
            return folder
    raise BenchImpossible(f"the user {USER} can enter none of {', '.join(map(str, places))}")


def _give(paths: Sequence[Path]) -> None:
    if os.geteuid() == 0:
        for path in paths:
            shutil.chown(path, USER, USER)


def _output(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """What `command` prints. Raises `BenchImpossible` where it fails."""
    done = _ended(command, environment)
    if done.returncode:
        raise BenchImpossible(f"{' '.join(command[:6])}: {_last_line(done.stderr)}")
    return done.stdout.strip()


def _succeeds(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    return _ended(command, environment).returncode == 0


def _ended(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, in a folder that everybody may enter.

    Raises `BenchImpossible` where it cannot be run, or does not end in time.
    """
    try:
        return subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchImpossible(f"{command[0]}: {error}") from error


def _family(data: Path) -> list[int]:
    return descendants(pid) if (pid := _postmaster(data)) else []


def _postmaster(data: Path) -> int:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def _stop(process: subprocess.Popen[bytes], data: Path) -> None:
    """Fast shutdown, and no later than that at once."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        pid = _postmaster(data)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
