"""The backend that does here what it would have a server do, and counts what would cross the wire."""

from __future__ import annotations

import io
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import zstandard

from entitrack.runtime.backends import Cost, Local, Pending, Unit
from entitrack.runtime.forms import DIRECT
from entitrack.runtime.ndif.payload import RESULT, pack
from entitrack.runtime.ndif.socket import counted
from entitrack.runtime.store import Store


@dataclass(frozen=True)
class DryRun(Local):
    """Nnsight's simulation of a server; see `entitrack.runtime.backends.dry_run`."""

    def start(self, unit: Unit, store: Store | None, cost: Cost) -> Pending:
        """See `Backend.start`; bytes are those of payloads and results, without what asking takes."""
        pending = super().start(unit, store, cost)

        def finish() -> dict[str, Any]:
            """The result, once what would be sent and fetched is counted."""
            sandboxed = self.form != DIRECT
            with counted(cost) if sandboxed else nullcontext():
                result = pending()
            up, down = len(pack(unit)), len(_as_fetched(result))
            cost.simulated += 1
            cost.wire_up += up
            cost.wire_down += down
            cost.socket_bytes += (up + down) * sandboxed
            return result

        return finish


def _as_fetched(result: dict[str, Any]) -> bytes:
    """A result as a server keeps it."""
    stream = io.BytesIO()
    torch.save({RESULT: result}, stream)
    return zstandard.compress(stream.getvalue())
