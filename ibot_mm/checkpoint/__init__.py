# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of any origin: locate, open, recognize, describe, adapt, load or export, report."""

from .arguments import add_network_arguments, network_options
from .checkpoint import Checkpoint
from .export import LIBRARIES, Export
from .formats.published import published_to_ibot_mm
from .formats.swin import to_unfold_order
from .load import (
    backbone_config,
    export_backbone,
    export_checkpoint,
    load_model,
    load_own,
    load_weights,
    rebuild_backbone,
)
from .locate import CheckpointError
from .pretrained import Pretrained, PretrainedHead, read_head
from .report import LoadReport
from .verify import verify_checkpoint
from .write import check_output, publish, write_export, write_weights

__all__ = [
    'LIBRARIES',
    'Checkpoint',
    'CheckpointError',
    'Export',
    'LoadReport',
    'Pretrained',
    'PretrainedHead',
    'add_network_arguments',
    'backbone_config',
    'check_output',
    'export_backbone',
    'export_checkpoint',
    'load_model',
    'load_own',
    'load_weights',
    'network_options',
    'publish',
    'published_to_ibot_mm',
    'read_head',
    'rebuild_backbone',
    'to_unfold_order',
    'verify_checkpoint',
    'write_export',
    'write_weights',
]
