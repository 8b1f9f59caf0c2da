#!/usr/bin/env bash
# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
# Train on a Slurm cluster. GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS come from the environment.
# Usage: [GPUS=8] tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# GRACE seconds (120) before the time limit, or when it is preempted, the training is saved and queued
# again: a batch job by scontrol requeue, else by another srun. It goes on where it was.
# Slurm reads --signal where a job is allocated: a batch job needs it, too (docs/examples/slurm.sh).
set -euo pipefail
[ $# -ge 3 ] || { sed -n '3,7s/^# //p' "$0" >&2; exit 2; }
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8} gpus_per_node=${GPUS_PER_NODE:-8}
[ "$gpus" -ge "$gpus_per_node" ] || gpus_per_node=$gpus
saved=75  # exit status of a training that was saved on request
if [ -n "${SLURM_JOB_ID:-}" ]; then  # jobs may share a node
    export MASTER_PORT="${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}"
fi

while true; do
    status=0
    # shellcheck disable=SC2086  # SRUN_ARGS is a list
    srun -p "$partition" --job-name="$job" --gres="gpu:$gpus_per_node" --ntasks="$gpus" \
        --ntasks-per-node="$gpus_per_node" --cpus-per-task="${CPUS_PER_TASK:-12}" \
        --kill-on-bad-exit=1 --signal="USR1@${GRACE:-120}" ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@" \
        || status=$?
    [ "$status" -eq "$saved" ] || exit "$status"
    if [ -n "${SLURM_JOB_ID:-}" ]; then  # within a batch job, whose script starts again
        exec scontrol requeue "$SLURM_JOB_ID"
    fi
    set -- "$@" --resume
done
