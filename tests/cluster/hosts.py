"""Simulated hosts: each has its own network, process and mount namespaces and file system, and runs sshd.

run.py runs this inside namespaces of its own, so that everything is gone when it ends.
python hosts.py NAME ADDRESS ROOT SHARED      the first process of one host
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER = "ray"
BRIDGE = "lan"
NEEDED = {
    "ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "unshare": "util-linux",
    "nsenter": "util-linux", "ss": "iproute2", "pg_ctlcluster": "postgresql", "useradd": "passwd",
}  # fmt: skip
"""Command -> the Debian or Ubuntu package that has it."""

PYTHON = tuple(Path(path).resolve() for path in (Path(__file__).parents[2], sys.prefix, sys.base_prefix))
"""Folders of this machine that every host needs: the project, its environment, and that environment's Python."""

SSHD = """
AuthorizedKeysFile /home/%u/.ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
MaxStartups 100
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Host:
    """A running host."""

    name: str
    address: str
    process: int
    """The first process of its process namespace, as seen from outside."""

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.process), "--all", "--root", "--wd=/", *command]

    def _as_user(self, *command: str) -> list[str]:
        user = [
            "setpriv",
            "--reuid",
            USER,
            "--regid",
            USER,
            "--init-groups",
            "env",
            "-i",
            f"HOME=/home/{USER}",
            f"USER={USER}",
        ]
        return self._inside(*user, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", *command)

    def run(self, *command: str, timeout: float = 600, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the host, as its ordinary user. Raises RuntimeError if it fails (`check`)."""
        done = subprocess.run(
            self._as_user(*command), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def shell(self, script: str, timeout: float = 600, check: bool = True) -> str:
        """The output of a script, run by an interactive shell as `ray exec` does."""
        return self.run("bash", "-ic", f"cd; {script}", timeout=timeout, check=check).stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the host, with its output as a pipe."""
        return subprocess.Popen(self._as_user(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def root(self, *command: str) -> str:
        """The output of a command in the host, run as root."""
        return subprocess.run(self._inside(*command), capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print a step, and how long it took."""
    print(f"--- {name}", flush=True)
    start = time.monotonic()
    yield
    print(f"--- {name}: {time.monotonic() - start:.0f} s", flush=True)


def missing() -> list[str]:
    """The packages that are needed and not installed."""
    return sorted({package for command, package in NEEDED.items() if not shutil.which(command)})


def mount_memory(folder: Path) -> None:
    """Mount a folder for the hosts' files in memory, which is gone with the namespaces."""
    _words("mount", "-t", "tmpfs", "tmpfs", str(folder))


def start(names: Sequence[str], folder: Path) -> list[Host]:
    """Start hosts of these names on one bridge, each reachable from the others by ssh with one generated key."""
    _words("ip", "link", "set", "lo", "up")
    _words("ip", "link", "add", BRIDGE, "type", "bridge")
    _words("ip", "link", "set", BRIDGE, "up")
    key, shared = folder / "key", folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    _words("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hosts", "-f", str(key))
    hosts = []
    for number, name in enumerate(names, start=1):
        root = _file_system(folder / name, key)
        command = ["unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child"]
        words = [sys.executable, str(Path(__file__).resolve()), name, _address(number), str(root), str(shared)]
        outer = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL)
        host = Host(name, _address(number), _child(outer.pid))
        _connect(host, number)
        hosts.append(host)
    for host in hosts:
        _wait_for_ssh(host)
    return hosts


def _address(number: int) -> str:
    return f"10.77.0.{number}"


def _words(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _file_system(folder: Path, key: Path) -> Path:
    """This machine's files, with a layer of the host's own above them."""
    upper, work, root = (folder / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir(parents=True)
    _words("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(root))
    for path in PYTHON:  # the hosts' user is not root, and has to read them
        for parent in [path, *path.parents][:-1]:
            inside = root / parent.relative_to("/")
            inside.chmod(inside.stat().st_mode | 0o055)
    _words("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", USER)
    ssh = root / "home" / USER / ".ssh"
    ssh.mkdir(mode=0o700)
    shutil.copy(key, ssh / "id_ed25519")
    shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
    owner = ssh.parent.stat()
    for path in (ssh, *ssh.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)
    (root / "etc/ssh/hosts_sshd_config").write_text(SSHD)
    for old in (root / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    return root


def _child(parent: int) -> int:
    file = Path(f"/proc/{parent}/task/{parent}/children")
    for _ in range(100):
        if found := file.read_text().split():
            return int(found[0])
        time.sleep(0.05)
    raise RuntimeError("a host did not start")


def _connect(host: Host, number: int) -> None:
    _words("ip", "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", str(host.process))
    _words("ip", "link", "set", f"to{number}", "master", BRIDGE, "up")
    inside = ["nsenter", "--target", str(host.process), "--net", "ip"]
    _words(*inside, "link", "set", "lo", "up")
    _words(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
    _words(*inside, "link", "set", "eth0", "up")


def _wait_for_ssh(host: Host) -> None:
    for _ in range(100):
        if host.run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/22", check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{host.name}: no sshd")


def be_host(name: str, address: str, root: Path, shared: Path) -> None:
    """Be the first process of a host: mount /srv/shared, which all hosts see, and a /proc, /tmp, /run and /dev/shm of its own,
    start sshd, and reap processes that end."""
    _words("hostname", name)
    for kind, at in (("proc", "proc"), ("tmpfs", "tmp"), ("tmpfs", "run")):
        _words("mount", "-t", kind, kind, str(root / at))
    (root / "srv/shared").mkdir(parents=True, exist_ok=True)
    _words("mount", "--bind", str(shared), str(root / "srv/shared"))
    for at in ("sys", "dev"):
        _words("mount", "--rbind", f"/{at}", str(root / at))
    (root / "dev/shm").mkdir(exist_ok=True)
    _words("mount", "-t", "tmpfs", "tmpfs", str(root / "dev/shm"))
    for folder in ("tmp", "dev/shm"):
        (root / folder).chmod(0o1777)
    for path in PYTHON:
        inside = root / path.relative_to("/")
        if not inside.exists():  # it is below /tmp
            inside.mkdir(parents=True)
            _words("mount", "--bind", str(path), str(inside))
    os.chroot(root)
    os.chdir("/")
    Path("/run/sshd").mkdir()
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    _words("ssh-keygen", "-A")
    subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/hosts_sshd_config"], stdin=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)  # fmt: skip
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    be_host(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
