"""What running on NDIF comes to, measured on NDIF's own server.

    path=$(python -m tests.remote.real.installing --install)
    PYTHONPATH=$path python -m tests.remote.real matrix [METHOD...]
    PYTHONPATH=$path python -m tests.remote.real faults [WORD...]

`matrix`: method by backend, the largest difference from what is found here, and seconds; and what crosses the socket of
the sandbox that a key without the tag `trusted` gets. `faults`: what goes wrong, what the user sees, what is lost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from entitrack.methods import method_names
from entitrack.runtime.backends import dry_run
from tests.remote.__main__ import table
from tests.remote.harness import ZOO_HOSTED, Loopback, zoo
from tests.remote.real.installing import ASKED, NotHere, check_shared, installed, lacking
from tests.remote.real.measuring import UNTRUSTED, Measured, measure, reference
from tests.remote.real.scenarios import FAULTS, Bench
from tests.remote.real.served import HOSTED, Real
from tests.remote.scenarios import UNITS


def main(arguments: Sequence[str]) -> None:
    """Start the server, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.remote.real", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("matrix", "faults"))
    parser.add_argument("only", nargs="*", help="only these methods, or faults with one of these words in their names")
    given = parser.parse_args(arguments)
    known = method_names() if given.what == "matrix" else {word for fault in FAULTS for word in fault.name.split()}
    if unknown := [word for word in given.only if word not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    os.environ[ASKED] = "1"
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        if reason := lacking():
            raise NotHere(reason)
        installation = installed()
        check_shared(installation)
        server = Real(installation)
    except NotHere as error:
        raise SystemExit(str(error)) from None
    try:
        with server.inside():
            bare = zoo(weights=False)
            server.deploy([bare.load(name) for name in HOSTED])
            if given.what == "faults":
                console.print(faults(server, given.only))
            else:
                console.print(same(server, given.only or method_names()))
    finally:
        server.stop()


def same(real: Real, methods: Sequence[str]) -> Table:
    """Method by backend: difference and seconds; messages and bytes of the sandbox."""
    columns = ("method", "sessions", "local", "dry_run", "loopback", "trusted", "not trusted", "messages", "bytes")
    laid = table("Largest difference from local of probabilities and effects, float32; seconds", columns)
    full, bare = zoo(weights=True), zoo(weights=False)
    with tempfile.TemporaryDirectory() as folder:
        loopback = Loopback(Path(folder), ZOO_HOSTED)
        try:
            for method in methods:
                here, local = reference(method, full)
                dry = measure(method, here, full, dry_run())
                looped = measure(method, here, bare, loopback.backend())
                trusted, not_trusted = (
                    measure(method, here, bare, real.backend(form=form), real) for form in ("auto", UNTRUSTED)
                )
                cells = [f"{local.seconds:.1f} s", *map(shown, (dry, looped, trusted, not_trusted))]
                crossed = [f"{not_trusted.messages:,}", f"{not_trusted.bytes:,}"]
                laid.add_row(method, str(local.units), *cells, *crossed)
        finally:
            loopback.stop()
    return laid


def shown(measured: Measured) -> str:
    """A cell of the table."""
    if measured.refused:
        return "refused"
    return f"{measured.probabilities:.1e}; {measured.seconds:.1f} s"


def faults(real: Real, words: Sequence[str]) -> Table:
    """Fault by fault: what the user saw, and what was lost or done twice."""
    laid = table(f"Faults, with {UNITS} units to do", ("fault", "the user saw", "run again", "lost", "run twice"))
    laid.columns[1].justify = laid.columns[2].justify = "left"
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(real, zoo(weights=False), zoo(weights=True), Path(folder))
        for fault in [fault for fault in FAULTS if not words or set(words) & set(fault.name.split())]:
            print(fault.name, file=sys.stderr)
            outcome = bench.play(fault)
            saw = outcome.saw.replace("[", "\\[")
            laid.add_row(fault.name, saw, outcome.again, str(outcome.lost), str(outcome.twice))
    return laid


if __name__ == "__main__":
    main(sys.argv[1:])
