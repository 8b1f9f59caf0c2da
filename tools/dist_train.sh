#!/usr/bin/env bash
# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
# Train with several processes on one machine, or on several by NNODES, NODE_RANK, MASTER_ADDR.
# Usage: [MAX_RESTARTS=3] tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# After a crash of any process all start again, from the last valid checkpoint.
# SIGTERM and SIGUSR1 save; the exit status then is 75, and --resume goes on. A full disk ends with 74.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '3,6s/^# //p' "$0" >&2; exit 2; }
config=$1 processes=$2
shift 2
IBOT_MM_STATUS=$(mktemp)  # where processes that end on purpose tell their status; torchrun's is 1
export IBOT_MM_STATUS
trap 'rm -f "$IBOT_MM_STATUS"' EXIT

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
# Each start is a torchrun of its own: with --max-restarts torchrun would keep its store, in which the
# new processes find the addresses of those that have ended.
for ((restarts = 0; ; restarts++)); do
    IBOT_MM_RESTARTS=$restarts "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
        "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@" &
    torchrun=$! waited=0 first=
    trap 'first=$(pgrep -P "$torchrun" | head -1); stop' TERM USR1 INT
    status=0
    while kill -0 "$torchrun" 2> /dev/null; do
        wait "$torchrun" && status=0 || status=$?
    done
    [ "$stopped" = 0 ] || exit 75
    [ ! -s "$IBOT_MM_STATUS" ] || exit "$(cat "$IBOT_MM_STATUS")"
    [ "$status" != 0 ] && [ "$restarts" -lt "${MAX_RESTARTS:-3}" ] || exit "$status"
    echo "dist_train: a process failed, starting again (${MAX_RESTARTS:-3} times at most)" >&2
done
