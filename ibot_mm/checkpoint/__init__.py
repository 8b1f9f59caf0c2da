# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .convert import convert, express, revert
from .describe import ViTDescription, describe_backbone, describe_weights
from .errors import CheckpointError
from .export import Export, export_backbone, export_timm_model
from .files import load_checkpoint_file
from .formats import FORMATS, Format, Row
from .libraries import LIBRARIES
from .load import load_pretrained_vit
from .load_timm import load_timm_vit
from .pretrained_swin import PretrainedSwin
from .pretrained_vit import PretrainedViT
from .published import published_to_ibot_mm
from .rebuild import backbone_config, rebuild_backbone
from .recognize import Network, find_networks, recognize
from .report import LoadReport
from .settings import Settings, read_settings
from .verify import verify_checkpoint
from .write import check_output, publish, write_export, write_folder, write_weights

__all__ = [
    'FORMATS',
    'LIBRARIES',
    'CheckpointError',
    'Export',
    'Format',
    'LoadReport',
    'Network',
    'PretrainedSwin',
    'PretrainedViT',
    'Row',
    'Settings',
    'ViTDescription',
    'backbone_config',
    'check_output',
    'convert',
    'describe_backbone',
    'describe_weights',
    'export_backbone',
    'export_timm_model',
    'express',
    'find_networks',
    'load_checkpoint_file',
    'load_pretrained_vit',
    'load_timm_vit',
    'publish',
    'published_to_ibot_mm',
    'read_settings',
    'rebuild_backbone',
    'recognize',
    'revert',
    'verify_checkpoint',
    'write_export',
    'write_folder',
    'write_weights',
]
