"""An installation of NDIF's own server, apart from the project: made once, and found again.

    path=$(python -m tests.remote.real.installing --install)
    ENTITRACK_NDIF=1 PYTHONPATH=$path python -m pytest -m slow -n 0 tests/remote/real

`ENTITRACK_NDIF=1` asks for the server. `ENTITRACK_NDIF_VENV` names the folder of its virtual environment, which is
otherwise kept with the user's caches, under a name that has what is in it. The path that is printed has the server's
transformers, which the client has to share.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ASKED = "ENTITRACK_NDIF"
FOLDER = "ENTITRACK_NDIF_VENV"

SAME = ("torch", "nnsight", "accelerate", "peft", "zstandard", "httpx", "fastapi", "pydantic")
"""What server and client have in one version."""
TRANSFORMERS = "transformers>=5.15,<5.23"
"""What nnsight 0.8.1 can deploy with; from 5.23 on it is not told which tokenizer to use."""
OTHERS = (
    TRANSFORMERS,
    "ray[default]==2.60.0",
    "gunicorn",
    "uvicorn[standard]",
    "python-multipart",
    "redis",
    "boto3",
    "python-dotenv",
    "pyyaml",
    "click",
    "psutil",
    "moto[server]",
)
SERVER = "ndif==0.1.2"
"""It asks for Python 3.12 and for libraries that it does not use here, and is installed without them."""

_CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_PROGRAMS = ("redis-server", "ip", "unshare", "setpriv")
_FINISHED = "finished"


class NotHere(Exception):
    """The server cannot be had on this machine, and why."""


def lacking() -> str | None:
    """Why the server cannot be started here, whatever is installed for it; None if it can."""
    if os.environ.get(ASKED) != "1":
        return f"NDIF's own server is installed (1.7 GB) and started where {ASKED}=1"
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"NDIF's server needs {', '.join(missing)}: apt-get install redis-server iproute2 util-linux"
    tried = subprocess.run([*namespaces(), "true"], capture_output=True, text=True)
    if tried.returncode:
        return f"NDIF's server needs namespaces of its own, which may not be made here: {tried.stderr.strip()}"
    return None


def namespaces() -> list[str]:
    """What starts a program in namespaces of its own: no network but loopback, and processes that end with it."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def installed() -> Path:
    """The server's virtual environment, made if it is not there yet.

    Raises:
        NotHere: It cannot be made.
    """
    wanted = [f"{name}=={version(name).partition('+')[0]}" for name in SAME]
    digest = hashlib.sha256("\n".join([*wanted, *OTHERS, SERVER, sys.version]).encode()).hexdigest()[:12]
    folder = Path(os.environ.get(FOLDER) or _CACHES / "entitrack" / f"ndif-{digest}")
    noted = folder / _FINISHED
    if not noted.exists() or noted.read_text() != digest:
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([*pip, *wanted, *OTHERS])
        _run([*pip, "--no-deps", "--ignore-requires-python", SERVER])
        shared(folder).mkdir()
        for entry in folder.glob("lib/python*/site-packages/transformers*"):
            (shared(folder) / entry.name).symlink_to(entry)
        noted.write_text(digest)
    return folder


def shared(folder: Path) -> Path:
    """What of an installation the client has to put before its own."""
    return folder / "client"


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise NotHere(f"NDIF's server cannot be installed: {' '.join(done.stderr.split())[-400:]}")


def check_shared(folder: Path) -> None:
    """Refuse a client that has another transformers than the server.

    Raises:
        NotHere: Saying how to start it.
    """
    (own,) = (entry.name for entry in shared(folder).glob("transformers-*.dist-info"))
    if own != f"transformers-{version('transformers')}.dist-info":
        problem = f"the client has transformers {version('transformers')}, the server {own.split('-')[1][:-5]}"
        raise NotHere(f"{problem}: start the client with PYTHONPATH={shared(folder)}")


def main(arguments: Sequence[str]) -> None:
    """Install, and print what belongs into the client's PYTHONPATH."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.remote.real.installing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--install", action="store_true", required=True, help="install it, if it is not there yet")
    parser.parse_args(arguments)
    try:
        print(shared(installed()))
    except NotHere as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(sys.argv[1:])
