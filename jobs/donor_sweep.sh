#!/usr/bin/env bash
# CMAP of every donor of the embedded family on three draws of the prompts, two jobs at a time on this machine.
# Start it: jobs/donor_sweep.sh go [WORDS...]; a sweep that was stopped goes on with hydra.sweep.dir=outputs/sweeps/TIME.
set -euo pipefail
if [ "${1:-}" != go ]; then sed -n '2,3s/^# //p' "$0"; exit 0; fi
shift
exec entitrack --multirun method=cmap donor=float,goat,vicuna task.seed=0,1,2 launcher=joblib launcher.jobs=2 "$@"
