#!/usr/bin/env bash
# Accuracy of Llama-3.1-70B and its Instruct version on NDIF, which hosts both; no weights are loaded here.
# Needs NDIF_API_KEY, and leave to read the models' configuration on the Hugging Face hub. Refused if it would cost more than it says.
# Start it: jobs/ndif_run.sh go [WORDS...]; what was stopped collects its jobs when it is started again.
set -euo pipefail
if [ "${1:-}" != go ]; then sed -n '2,4s/^# //p' "$0"; exit 0; fi
: "${NDIF_API_KEY:?set NDIF_API_KEY first}"
shift
exec entitrack method=evaluate model=llama-3.1-70b backend=ndif task.count=84 backend.max_jobs=20 backend.max_seconds=3600 "$@"
