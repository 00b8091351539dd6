#!/usr/bin/env bash
# Path patching of every member of Llama-7B's family as one SLURM array: a GPU and an hour for each, four at a time.
# Give it on a login node; the store must lie on a folder that all nodes see. launcher.cluster=local tries it on this machine.
# Start it: jobs/slurm_array.sh go [WORDS...], such as launcher.partition=gpu 'launcher.more={account: mine}'
set -euo pipefail
if [ "${1:-}" != go ]; then sed -n '2,4s/^# //p' "$0"; exit 0; fi
shift
exec entitrack --multirun method=path_patching model=llama-7b method.model=llama,vicuna,goat,float \
  launcher=submitit launcher.jobs=4 launcher.minutes=60 launcher.cpus=4 launcher.gpus=1 launcher.memory_gb=48 "$@"
