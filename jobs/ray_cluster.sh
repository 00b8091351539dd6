#!/usr/bin/env bash
# CMAP of Llama-7B's donors as tasks of a Ray cluster that runs already (ray start --head; ray start --address=HEAD:6379).
# All nodes need this program and the folder that the command is given in. launcher.address=null starts Ray on this machine.
# Start it: jobs/ray_cluster.sh go [WORDS...]
set -euo pipefail
if [ "${1:-}" != go ]; then sed -n '2,4s/^# //p' "$0"; exit 0; fi
shift
exec entitrack --multirun method=cmap model=llama-7b donor=float,goat,vicuna \
  launcher=ray launcher.address=auto launcher.cpus=4 launcher.gpus=1 "$@"
