#!/usr/bin/env bash
# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
# Train with several processes on one machine, or on several by NNODES, NODE_RANK, MASTER_ADDR.
# Usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
set -euo pipefail
[ $# -ge 2 ] || { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
config=$1 processes=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
