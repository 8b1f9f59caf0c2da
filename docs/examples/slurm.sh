#!/usr/bin/env bash
# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
# A batch job on two nodes of eight GPUs, queued again where it was stopped or a node was lost:
# sbatch docs/examples/slurm.sh
#SBATCH --job-name=ibot
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --gres=gpu:8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
GPUS=16 GPUS_PER_NODE=8 CPUS_PER_TASK=12 bash tools/slurm_train.sh "$SLURM_JOB_PARTITION" ibot \
    configs/pretrain/ibot_vits16.py --resume
