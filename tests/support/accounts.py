"""Other accounts of the operating system, for whatever is done to files."""

from __future__ import annotations

import contextlib
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupyter_teleportal
from support.missing import missing

GROUP = 47100
"""Of a research group, which has no entry anywhere."""


@dataclass(frozen=True)
class Account:
    """An account without an entry in the system's list of users.

    Attributes:
        user: its number.
        group: its own group.
        groups: the others that it is in.
        umask: what it takes from new files' permissions.
    """

    user: int
    group: int
    groups: tuple[int, ...] = (GROUP,)
    umask: int = 0o002

    def start(self, do: Callable[[], Any]) -> Process:
        """Begin to do something under this account, in another process."""
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            result: tuple[bool, Any] = (False, "")
            try:
                os.close(reading)
                os.setgroups(self.groups)
                os.setresgid(self.group, self.group, self.group)
                os.setresuid(self.user, self.user, self.user)
                os.umask(self.umask)
                result = (True, do())
            except BaseException:  # noqa: BLE001 (it is told where it was asked for)
                result = (False, traceback.format_exc())
            finally:
                with contextlib.suppress(Exception), os.fdopen(writing, "wb") as pipe:
                    pickle.dump(result, pipe)
                os._exit(0)
        os.close(writing)
        return Process(pid, reading)

    def run(self, do: Callable[[], Any]) -> Any:
        """Do something under this account, and return what it returns.

        Raises:
            AssertionError: with what it raises.
        """
        return self.start(do).result()


class Process:
    """Something that is done under another account."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = pipe

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._pipe)

    def result(self) -> Any:
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read()
        os.waitpid(self._pid, 0)
        done, result = pickle.loads(told)
        assert done, result
        return result


ANN = Account(47001, 47001)
BOB = Account(47002, 47002)
CARL = Account(47003, 47003)
EVE = Account(47009, 47009, groups=())


def may_become_others() -> bool:
    """Whether whoever runs this may become another account, and has what it takes."""
    return os.geteuid() == 0 and all(map(shutil.which, ("setfacl", "setpriv")))


def needs_accounts() -> None:
    """Skip the test where it may not become another account, or has no lists of access."""
    if os.geteuid() != 0:
        missing("only root can become another account")
    for command, package in (("setfacl", "acl"), ("setpriv", "util-linux")):
        if shutil.which(command) is None:
            missing(f"there is no {command} (apt install {package})")


@contextlib.contextmanager
def open_to_accounts() -> Iterator[Path]:
    """A folder that other accounts can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="teleportal-accounts-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def group_folder(folder: Path, mode: int = 0o2775) -> Path:
    """A research group's folder: what is made there is the group's."""
    folder.mkdir()
    os.chown(folder, ANN.user, GROUP)
    folder.chmod(mode)
    return folder


def set_acl(path: Path, *entries: str) -> None:
    subprocess.run(["setfacl", *(f"-m{entry}" for entry in entries), path], check=True)


def python_as(account: Account) -> list[str]:
    """A command that begins Python under another account. It needs `environment_of_packages`."""
    steps = [f"umask {account.umask:o}"]
    begin = []
    hidden = [folder for folder in _needed() if _as_seen(folder) != folder]
    if hidden:
        # Below somebody's home, for instance. Where they are mounted nobody else sees.
        begin = ["unshare", "--mount"]
        steps.append("mount -t tmpfs -o mode=755 none /mnt")
        for folder in hidden:
            seen = shlex.quote(str(_as_seen(folder)))
            steps.append(f"mkdir {seen} && mount --bind {shlex.quote(str(folder))} {seen}")
    prefix = _as_seen(Path(sys.base_prefix))
    steps.append(f"export LD_LIBRARY_PATH={shlex.quote(str(prefix / 'lib'))}")
    groups = (
        f"--groups={','.join(map(str, account.groups))}" if account.groups else "--clear-groups"
    )
    who = f"--reuid={account.user} --regid={account.group} {groups}"
    python = shlex.quote(f"{prefix}/bin/python{sysconfig.get_python_version()}")
    steps.append(f'exec setpriv {who} {python} "$@"')
    return [*begin, "sh", "-c", " && ".join(steps), "sh"]


def environment_of_packages() -> dict[str, str]:
    """What has to be in the environment for a Python that is not in this one's place."""
    _, configuration, here, *packages = map(_as_seen, _needed())
    paths = [str(path) for path in (here, here / "tests", *packages)]
    return {"PYTHONPATH": os.pathsep.join(paths), "JUPYTER_CONFIG_PATH": f"{configuration}/jupyter"}


def _needed() -> list[Path]:
    """The folders with Python, Jupyter's configuration, this project and its packages."""
    here = Path(jupyter_teleportal.__file__).parents[1]
    packages = [Path(each) for each in sys.path if each.endswith("-packages")]
    return [Path(sys.base_prefix), Path(sys.prefix, "etc"), here, *packages]


def _as_seen(folder: Path) -> Path:
    """Where other accounts find one of these folders."""
    if all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents)):
        return folder
    return Path("/mnt", str(_needed().index(folder)))
