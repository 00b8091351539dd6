#!/bin/bash
# The first process of the namespaces that NDIF runs in: what it starts ends with it, and it ends with its input.
# Redis, a stand-in for S3 (moto), a Ray head that says it has a GPU, the controller, the API.
# Input: `start NAME` or `stop NAME` of redis, api; answered with a line.
set -u
cd "$NDIF_RUN"
ip link set lo up
declare -A process

start() {
  case $1 in
    redis) redis-server --bind 127.0.0.1 --port 6379 --save "" >> redis.log 2>&1 & ;;
    store) moto_server -H 127.0.0.1 -p 9000 >> store.log 2>&1 & ;;
    api) gunicorn --config python:ndif.services.api.gunicorn_conf --bind 127.0.0.1:8001 ndif.services.api.app:app \
      >> api.log 2>&1 & ;;
  esac
  process[$1]=$!
}

stop() {
  kill -9 "${process[$1]}" $(cat "/proc/${process[$1]}/task/${process[$1]}/children")
  wait "${process[$1]}"
} 2> /dev/null

start redis
start store
for attempt in 1 2 3; do
  python "$(dirname "$0")/patient_ray.py" start --head --node-ip-address=127.0.0.1 --port=6385 --ray-client-server-port=10001 \
    --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port=8265 --num-cpus=16 --num-gpus=1 \
    --object-store-memory=200000000 --temp-dir="$NDIF_RUN/ray" \
    --resources='{"head": 10, "cuda_memory_bytes": 8000000000, "cpu_memory_bytes": 8000000000}' \
    >> ray.log 2>&1 < /dev/null && break
  ray stop --force >> ray.log 2>&1
done
for attempt in 1 2 3; do
  RAY_ADDRESS=127.0.0.1:6385 python -m ndif.services.ray.deployments.controller.controller >> controller.log 2>&1 \
    < /dev/null && break
done
start api
echo started
while read -r verb name; do
  "$verb" "$name"
  echo "$verb $name"
done
