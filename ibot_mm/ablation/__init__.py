# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Controlled experiments: variants of one training, every one with every seed."""

from .arms import Ablation, Arm, check_unique, read_ablation
from .averages import compare_evaluations, read_evaluations
from .check import check_ablation, num_images_seen, read_plan
from .checkpoints import measure_checkpoints
from .collapse import judge_collapse
from .measure import METRICS, measure_run
from .monitors import Comparison, compare_monitors
from .processes import run_tasks
from .report import markdown, read_results, write_report
from .slurm import write_array_jobs
from .statistics import Difference, Summary, paired_difference, summarize
from .tasks import Task, plan_tasks, write_plan

__all__ = [
    'METRICS',
    'Ablation',
    'Arm',
    'Comparison',
    'Difference',
    'Summary',
    'Task',
    'check_ablation',
    'check_unique',
    'compare_evaluations',
    'compare_monitors',
    'judge_collapse',
    'markdown',
    'measure_checkpoints',
    'measure_run',
    'num_images_seen',
    'paired_difference',
    'plan_tasks',
    'read_ablation',
    'read_evaluations',
    'read_plan',
    'read_results',
    'run_tasks',
    'summarize',
    'write_array_jobs',
    'write_plan',
    'write_report',
]
