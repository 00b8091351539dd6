"""Write what path patching found as a graph of the Mechanistic Interpretability Benchmark, or read one as a circuit.

python jobs/mib.py export outputs/path_patching/TIME graph.json --d-model 576
python jobs/mib.py import graph.json circuit.json --roles last query_label --top 20
"""

import argparse
import sys
from pathlib import Path

from entitrack import load
from entitrack.core.errors import UserError
from entitrack.core.mib import mib_graph, read_mib, write_mib


def main() -> int:
    """Do what the command line says; 2 if it cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("export", help="a result of method=path_patching as a graph")
    out.add_argument("result", help="its folder")
    out.add_argument("graph", type=Path, help="the file to write")
    out.add_argument("--d-model", type=int, required=True, help="width of the model's stream")
    out.add_argument("--parallel", action="store_true", help="its MLPs read what attention reads")
    into = commands.add_parser("import", help="a graph as a circuit")
    into.add_argument("graph", help="the file to read")
    into.add_argument("circuit", type=Path, help="the file to write")
    into.add_argument("--roles", nargs="+", default=["last"], help="roles at which the circuit has the heads")
    into.add_argument("--top", type=int, help="take so many of the largest scores; else those marked as in the graph")
    given = parser.parse_args()
    try:
        if given.command == "import":
            read_mib(given.graph, given.roles, given.top).write(given.circuit)
            return 0
        result = load(given.result)
        heads = {tuple(head) for stage in result.facts["stages"].values() for head in stage["heads"]}
        write_mib(mib_graph(result["score"].values, heads, given.d_model, given.parallel), given.graph)
    except UserError as error:
        print(f"mib: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
