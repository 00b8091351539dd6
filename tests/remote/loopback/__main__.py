"""A server that speaks nnsight's protocol, on the loopback interface, for tests.

It runs in a process of its own in which `entitrack` cannot be imported, follows NDIF's protocol (`entitrack/runtime`
has a table of what differs), executes one job at a time, and makes mistakes when told to.

    python -I -S tests/remote/loopback --site SITE_PACKAGES --port-file FILE --model PATH [--cold PATH ...]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "entitrack"


class _NoPackage:
    """An import hook for which the package under test does not exist, however it is installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def isolate(site: list[str]) -> None:
    """Leave only the standard library and the given folders to import from, without the package under test."""
    sys.meta_path.insert(0, _NoPackage())  # type: ignore[arg-type]
    sys.path.extend(site)


def leave_with(parent: int) -> None:
    """End this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main() -> None:
    """Host the given models until the parent goes away."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--site", action="append", default=[])
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--cold", action="append", default=[], help="a model that the first request brings up")
    parser.add_argument("--status-age", type=float, default=60.0, help="seconds that the list of models is kept")
    parser.add_argument("--key", default="")
    given = parser.parse_args()
    isolate([str(Path(__file__).parent), *given.site])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Before nnsight, after which they cannot be imported any more.
    import_module("anyio.abc")
    import_module("anyio.streams.tls")
    import torch
    import uvicorn
    from hosting import Server
    from pages import application

    torch.set_num_threads(1)
    server = Server(given.model, given.cold)
    listening, results = socket.socket(), socket.socket()
    for one in (listening, results):
        one.bind(("127.0.0.1", 0))
        one.listen()  # who reads the port file before the server runs waits, and is not refused
    port = listening.getsockname()[1]
    server.results = f"http://127.0.0.1:{results.getsockname()[1]}"
    app = application(server, given.key, given.status_age)
    temporary = given.port_file + ".part"
    with open(temporary, "w") as stream:
        stream.write(str(port))
    os.replace(temporary, given.port_file)
    config = uvicorn.Config(app, log_level="critical", ws="websockets-sansio")
    threading.Thread(target=leave_with, args=(os.getppid(),), daemon=True).start()

    async def serve() -> None:
        server.loop = asyncio.get_running_loop()
        await uvicorn.Server(config).serve(sockets=[listening, results])

    asyncio.run(serve())


if __name__ == "__main__":
    main()
