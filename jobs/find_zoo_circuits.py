"""Find the circuits that ship with an embedded family: `experiment=FAMILY_circuit` on each of its members.

python jobs/find_zoo_circuits.py sparse tiny

They are written over those that ship.
"""

from __future__ import annotations

import argparse

import hydra

from entitrack.cli.config import CONF, check
from entitrack.core.circuits import SHIPPED
from entitrack.core.result import Result
from entitrack.record import terminal
from entitrack.run import execute

EMBEDDED = ("sparse", "tiny")


def find(family: str) -> None:
    """Run path patching on every member, print what it finds and write it where circuits ship."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(
            "config", overrides=[f"experiment={family}_circuit", "tracking=disabled", "store=null"]
        )
    for member in check(composed).family.members:
        composed.method.model = member
        result, _ = execute(check(composed))
        assert isinstance(result, Result)
        terminal.show(result)
        result.artefacts["circuit"].write(SHIPPED[family] / f"{member}.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=EMBEDDED, metavar="FAMILY", help="sparse, tiny, or both")
    for name in parser.parse_args().families:
        find(name)
