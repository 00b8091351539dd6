"""What a run takes and leaves as W&B artifacts, so that the graph of artifacts says which number came from which.

1. A circuit and masks are artifacts of their heads alone, whoever found them and whatever file they were read from: the
   run that found them and those that use them name the same bytes, and W&B sees one version.
2. The result itself is an artifact of the files in the run's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from entitrack.core.result import Result
from entitrack.record.folder import ARRAYS, ARTEFACTS, PROMPTS, RESULT
from entitrack.record.wandb_process import LoggedArtifact


def artifacts(result: Result, folder: Path) -> list[LoggedArtifact]:
    """The artifacts of a run that is on the disk: those that it took first, then those that it leaves."""
    taken = [_text(kind, told["groups"], told["model"], used=True) for kind, told in _inputs(result.provenance)]
    left = [_text(kind, made.plain_groups(), made.found_on.get("model")) for kind, made in result.artefacts.items()]
    names = (RESULT, ARRAYS, PROMPTS, *(f"{name}.json" for name in ARTEFACTS))
    files = {name: str(folder / name) for name in names if (folder / name).is_file()}
    whole: LoggedArtifact = {
        "name": _allowed(f"{result.method}-{result.provenance['config']['model']['name']}"),
        "type": "result",
        "used": False,
        "metadata": {"command": result.provenance["command"]},
        "texts": {},
        "files": files,
    }
    return [*taken, *left, whole]


def _inputs(provenance: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Circuits and masks that a run has read."""
    for kind in ARTEFACTS:
        yield from ((kind, told) for told in provenance.get(kind, ()))


def _text(kind: str, groups: Any, model: Any, used: bool = False) -> LoggedArtifact:
    """An artifact of heads; it is called after the model that they were found on."""
    return {
        "name": _allowed(f"{kind}-{model}") if model else kind,
        "type": kind,
        "used": used,
        "metadata": {},
        "texts": {f"{kind}.json": json.dumps(groups, indent=1, sort_keys=True) + "\n"},
        "files": {},
    }


def _allowed(name: str) -> str:
    """A name with nothing that W&B does not take in one."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:128]
