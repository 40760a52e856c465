"""Where the peers live: a Python environment and a Node folder below .bench, each installed from its lock once."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.peer import Arena

ROOT = Path(__file__).parents[2]
BENCH = ROOT / ".bench"
LOCK = ROOT / "requirements" / "bench.txt"
BULLMQ = Path(__file__).parent / "bullmq"
_MANIFEST = tuple(BULLMQ / name for name in ("package.json", "package-lock.json", ".npmrc"))
_INSTALLED = ".installed"


@dataclass(frozen=True, slots=True)
class OurPython:
    """The environment that the harness runs in: what Postroom needs is all that is needed."""

    @property
    def executable(self) -> str:
        return sys.executable

    def lacks(self) -> str | None:
        return None

    def is_installed(self) -> bool:
        return True

    def install(self) -> None:
        print("naive arq: runs in the environment of Postroom")


@dataclass(frozen=True, slots=True)
class PeersPython:
    """.bench/python: the lock of the `bench` group, which holds what Postroom needs as well."""

    @property
    def executable(self) -> str:
        return str(BENCH / "python" / "bin" / "python")

    def lacks(self) -> str | None:
        return None

    def is_installed(self) -> bool:
        return _says(BENCH / "python", _digest(LOCK))

    def install(self) -> None:
        folder = BENCH / "python"
        if self.is_installed():
            print(f"Python peers: in {folder.relative_to(ROOT)}")
            return
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = (self.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
        subprocess.run([*pip, "-r", str(LOCK)], check=True)
        (folder / _INSTALLED).write_text(_digest(LOCK))
        print(f"Python peers: installed into {folder.relative_to(ROOT)}")


@dataclass(frozen=True, slots=True)
class Node:
    """.bench/bullmq: what `npm ci` makes of the lock beside the programs."""

    @property
    def executable(self) -> str:
        return shutil.which("node") or "node"

    def lacks(self) -> str | None:
        missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
        return f"{' and '.join(missing)} not found: install Node.js 20 or newer, with npm" if missing else None

    def is_installed(self) -> bool:
        return _says(BENCH / "bullmq", _digest(*_MANIFEST))

    def install(self) -> None:
        folder = BENCH / "bullmq"
        if self.is_installed():
            print(f"BullMQ: in {folder.relative_to(ROOT)}")
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in _MANIFEST:
            shutil.copy(path, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
        (folder / _INSTALLED).write_text(_digest(*_MANIFEST))
        print(f"BullMQ: installed into {folder.relative_to(ROOT)}")


def environment(arena: Arena) -> dict[str, str]:
    """What the programs of every peer are told."""
    own = {
        "PYTHONPATH": str(ROOT),
        "NODE_PATH": str(BENCH / "bullmq" / "node_modules"),
        "NODE_ENV": "production",
        "ARENA_REDIS_URL": arena.redis_url,
        "ARENA_SMTP_PORT": str(arena.smtp_port),
        "ARENA_MAILS": str(arena.mails),
        "ARENA_PROCESSES": str(arena.processes),
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")} | own


def _digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _says(folder: Path, digest: str) -> bool:
    path = folder / _INSTALLED
    return path.exists() and path.read_text() == digest
