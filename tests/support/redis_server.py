"""A real `redis-server` of our own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import hiredis
import redis
import trustme

from jupyter_teleportal.transports.redis.accounts import account_rules, hash_password
from jupyter_teleportal.transports.redis.options import DEFAULT_KEY_PREFIX
from jupyter_teleportal.transports.redis.scripts import SCRIPTS
from support.missing import missing
from support.processes import ChildProcess, free_port
from support.programs import require_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class RedisServer:
    """`redis-server` on a free port, with its data in a folder of its own.

    With `persistent=True` it keeps an append-only file, so that data outlives `kill()`. With
    `shares` nobody comes in without a password, and `url` is that of an account with the rights
    that a hub gives, which reaches these shares alone. With `tls` nobody comes in without, and
    whoever comes has to trust `authority`, the path of a certificate.
    """

    ACCOUNT, PASSWORD = "teleportal:sync:confined", "the account's password"
    ADMIN, ADMIN_PASSWORD = "admin", "the administrator's password"

    def __init__(
        self,
        directory: Path,
        *,
        persistent: bool = True,
        port: int | None = None,
        shares: Sequence[str] = (),
        tls: bool = False,
    ):
        self._binary = require_binary("redis-server", "valkey-server")
        self.directory = directory
        self.persistent = persistent
        self.shares = tuple(shares)
        self.tls = tls
        self.port = port or free_port()
        self._process: ChildProcess | None = None

    @property
    def authority(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}-tls") / "authority.pem"

    @property
    def options(self) -> dict[str, str]:
        """What servers are given besides the URL, as `redis_options`."""
        return {"ssl_ca_certs": str(self.authority)} if self.tls else {}

    @property
    def url(self) -> str:
        """What servers are given."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same by way of another port, of a proxy."""
        account = f"{quote(self.ACCOUNT)}:{quote(self.PASSWORD)}@" if self.shares else ""
        return f"redis{'s' if self.tls else ''}://{account}127.0.0.1:{port}/0"

    @property
    def admin_url(self) -> str:
        account = f"{self.ADMIN}:{quote(self.ADMIN_PASSWORD)}@" if self.shares else ""
        return f"redis://{account}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(
        self, timeout: float = 10.0, *, load_scripts: bool = True, load_delay_us: int = 0
    ) -> None:
        """Start it and wait until it answers PING; load the scripts, as a hub does, where
        accounts may not. With a delay for each command that it loads, in microseconds, wait
        until it answers that it is loading."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = ChildProcess(
            [
                self._binary,
                *self._listen(),
                *("--bind", "127.0.0.1"),
                *("--dir", str(self.directory)),
                *("--save", ""),
                *("--appendonly", "yes" if self.persistent else "no"),
                *("--daemonize", "no"),
                *(("--key-load-delay", str(load_delay_us)) if load_delay_us else ()),
                *self._users(),
            ],
            log_path=self.directory / "redis.log",
            cwd=self.directory,
        )
        self._wait_until(self._loads if load_delay_us else self._answers, timeout)
        if self.shares and load_scripts and not load_delay_us:
            self.load_scripts()

    def wait_until_loaded(self, timeout: float = 30.0) -> None:
        """Wait until it has loaded its data; load the scripts."""
        self._wait_until(self._answers, timeout)
        if self.shares:
            self.load_scripts()

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running or time.monotonic() > deadline:
                log = (self.directory / "redis.log").read_text(errors="replace")
                self.kill()
                if self.tls and "tls-port" in log:
                    missing(f"needs a {Path(self._binary).name} that was built with TLS")
                raise AssertionError(f"redis-server did not start:\n{log}")
            time.sleep(0.02)

    def load_scripts(self) -> None:
        with self.cli() as client:
            for script in SCRIPTS:
                client.script_load(script.source)

    def take_right(self, command: str) -> None:
        """Let the account not run `command` any more."""
        with self.cli() as client:
            client.execute_command("ACL", "SETUSER", self.ACCOUNT, f"-{command}")

    def give_rights(self) -> None:
        """Give the account the rights that a hub gives, whatever it had before."""
        with self.cli() as client:
            client.execute_command("ACL", "SETUSER", self.ACCOUNT, *self._rules())

    def _rules(self) -> list[str]:
        return account_rules(DEFAULT_KEY_PREFIX, self.shares, hash_password(self.PASSWORD))

    def _listen(self) -> list[str]:
        if not self.tls:
            return ["--port", str(self.port)]
        folder = self.authority.parent
        if not self.authority.exists():
            folder.mkdir()
            certificates(folder, "127.0.0.1")
        return [
            *("--port", "0"),
            *("--tls-port", str(self.port)),
            *("--tls-cert-file", str(folder / "certificate.pem")),
            *("--tls-key-file", str(folder / "key.pem")),
            *("--tls-ca-cert-file", str(self.authority)),
            *("--tls-auth-clients", "no"),
        ]

    def _users(self) -> list[str]:
        if not self.shares:
            return []
        everything = ("on", f"#{hash_password(self.ADMIN_PASSWORD)}", "~*", "&*", "+@all")
        return [
            # Redis 7.0 reads the append-only file with its rights.
            *("--user", "default", "off", "~*", "&*", "+@all"),
            *("--user", self.ADMIN, *everything),
            *("--user", self.ACCOUNT, *self._rules()),
        ]

    def _answers(self) -> bool:
        try:
            with self.cli() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _loads(self) -> bool:
        try:
            with self.cli() as client:
                client.ping()
        except redis.BusyLoadingError:
            return True
        except redis.RedisError:
            pass
        return False

    def stop(self) -> None:
        """Leave in good order (the append-only file is flushed)."""
        if self._process is not None:
            self._process.terminate()
            self._process = None

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self, *, keep_data: bool = True) -> None:
        """Kill it and start it on the same port, with or without its data."""
        self.kill()
        if not keep_data:
            shutil.rmtree(self.directory)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.freeze()

    def resume(self) -> None:
        assert self._process is not None
        self._process.thaw()

    def roll_back(self, folder: Path) -> None:
        """Kill it and start it with the data that `copy_data` has put into `folder`."""
        self.kill()
        shutil.rmtree(self.directory)
        shutil.copytree(folder, self.directory)
        self.start()

    def copy_data(self, folder: Path) -> None:
        """Copy the data as they are now, as a replica that lags behind has them."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.directory, folder)

    def cli(self, **options: Any) -> redis.Redis:
        """A plain synchronous client (bytes in, bytes out), the administrator's."""
        if self.shares and "username" not in options:
            options |= {"username": self.ADMIN, "password": self.ADMIN_PASSWORD}
        if self.tls:
            options |= {"ssl": True, **self.options}
        return redis.Redis(
            host="127.0.0.1", port=self.port, socket_timeout=10, client_name="test", **options
        )

    def everything(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with every byte string in its value, and every active channel.

        Yields (where, bytes) pairs; keys and channels come with themselves as the bytes.
        """
        with self.cli() as client:
            for key in client.scan_iter(count=1000):
                yield b"key", key
                for part in _parts(client, key):
                    yield key, part
            for channel in client.pubsub_channels("*"):
                yield b"channel", channel
            for channel in client.pubsub_shardchannels("*"):
                yield b"shard channel", channel


def certificates(folder: Path, *hosts: str) -> None:
    """Make an authority, and a certificate of it for `hosts`: `authority.pem`, `certificate.pem`
    and `key.pem` in `folder`."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*hosts)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")


class Monitor:
    """Records everything that MONITOR shows, from the start to the end of a `with` block."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._seen = bytearray()

    def __enter__(self) -> Monitor:
        self._socket = socket.create_connection(("127.0.0.1", self._server.port))
        if self._server.shares:
            words = (b"AUTH", self._server.ADMIN.encode(), self._server.ADMIN_PASSWORD.encode())
            self._socket.sendall(hiredis.pack_command(words))
            assert self._socket.recv(5) == b"+OK\r\n"
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := self._socket.recv(65536):
                self._seen += chunk

    @property
    def seen(self) -> bytes:
        """All commands so far, with their arguments; bytes that are not ASCII are escaped."""
        return bytes(self._seen)


def _parts(client: redis.Redis, key: bytes) -> Iterator[bytes]:
    """All byte strings in the value of one key, whatever its type."""
    kind = client.type(key)
    if kind == b"string":
        yield client.get(key) or b""
    elif kind == b"hash":
        for field, value in client.hgetall(key).items():
            yield field
            yield value
    elif kind == b"set":
        yield from client.smembers(key)
    elif kind == b"zset":
        for member, _score in client.zrange(key, 0, -1, withscores=True):
            yield member
    elif kind == b"list":
        yield from client.lrange(key, 0, -1)
    elif kind == b"stream":
        for entry_id, fields in client.xrange(key):
            yield entry_id
            for field, value in fields.items():
                yield field
                yield value
    elif kind != b"none":
        raise AssertionError(f"a key of an unexpected type {kind!r}: {key!r}")
