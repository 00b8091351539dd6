"""Find the circuits that ship with the embedded family: `experiment=tiny_circuit` on each of its members.

python jobs/find_zoo_circuits.py
"""

from __future__ import annotations

import hydra

from entitrack.cli.config import CONF, check
from entitrack.core.circuits import SHIPPED
from entitrack.core.result import Result
from entitrack.record import terminal
from entitrack.run import execute


def main() -> None:
    """Run path patching on every member, print what it finds and write it where circuits ship."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", overrides=["experiment=tiny_circuit", "tracking=disabled", "store=null"])
    for member in check(composed).family.members:
        composed.method.model = member
        result, _ = execute(check(composed))
        assert isinstance(result, Result)
        terminal.show(result)
        result.artefacts["circuit"].write(SHIPPED["tiny"] / f"{member}.json")


if __name__ == "__main__":
    main()
