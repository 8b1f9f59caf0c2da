#!/usr/bin/env bash
# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
# Train with several processes on one machine, or on each of several (docs/reliability.md).
# Usage: [MAX_RESTARTS=3] tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# After a crash of any process all start again, from the last valid checkpoint.
# SIGTERM and SIGUSR1 save; the exit status then is 75, and --resume goes on. A full disk ends with 74.
# Several machines, the same on each: NNODES=4 MASTER_ADDR=host [PORT=29500] tools/dist_train.sh ...
# NNODES=2:4 goes on with fewer. Where too few are left the exit status is 69.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '3,8s/^# //p' "$0" >&2; exit 2; }
config=$1 processes=$2 tools=$(dirname "$0")
shift 2
IBOT_MM_STATUS=$(mktemp)  # where processes that end on purpose tell their status; torchrun's is 1
export IBOT_MM_STATUS
trap 'rm -f "$IBOT_MM_STATUS"' EXIT

if [ "${NNODES:-1}" = 1 ]; then
    restarts_here=${MAX_RESTARTS:-3}
    launch=(-m torch.distributed.run --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
else  # starts again by itself, on all machines; that with NODE_RANK=0, or the name MASTER_ADDR, has the store
    restarts_here=0
    launch=("$tools/elastic_launch.py" --nnodes="$NNODES" --max_restarts="${MAX_RESTARTS:-3}"
        --rdzv_backend=c10d --rdzv_endpoint="${MASTER_ADDR:?is the machine with the store}:${PORT:-29500}"
        --rdzv_id="${RDZV_ID:-ibot_mm}"
        --rdzv_conf="${RDZV_CONF:-join_timeout=600}${NODE_RANK:+,is_host=$((NODE_RANK == 0))}")
fi

stopped=0
stop() {  # the processes themselves: torchrun would kill them after 30 seconds
    stopped=1
    pkill -USR1 -P "$torchrun" || true
    while pgrep -P "$torchrun" > /dev/null && [ $((waited += 1)) -lt 6000 ]; do
        sleep 0.1
        [ "$(pgrep -P "$torchrun" | head -1)" = "$first" ] || break
    done
    kill -TERM "$torchrun" 2> /dev/null || true
}
# On one machine each start is a torchrun of its own: with --max-restarts torchrun would keep its store, in
# which the new processes find the addresses of those that have ended.
for ((restarts = 0; ; restarts++)); do
    IBOT_MM_RESTARTS=$restarts "${PYTHON:-python}" "${launch[@]}" --nproc_per_node="$processes" \
        "$tools/train.py" "$config" --launcher pytorch "$@" &
    torchrun=$! waited=0 first=
    trap 'first=$(pgrep -P "$torchrun" | head -1); stop' TERM USR1 INT
    status=0
    while kill -0 "$torchrun" 2> /dev/null; do
        wait "$torchrun" && status=0 || status=$?
    done
    [ "$stopped" = 0 ] || exit 75
    [ ! -s "$IBOT_MM_STATUS" ] || exit "$(cat "$IBOT_MM_STATUS")"
    [ "$status" != 0 ] && [ "$restarts" -lt "$restarts_here" ] || exit "$status"
    echo "dist_train: a process failed, starting again ($restarts_here times at most)" >&2
done
