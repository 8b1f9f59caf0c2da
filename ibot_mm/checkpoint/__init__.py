# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .convert import convert, revert
from .errors import CheckpointError
from .files import load_checkpoint_file
from .formats import FORMATS, Format, Row
from .load import load_pretrained_vit
from .load_timm import load_timm_vit
from .pretrained_swin import PretrainedSwin
from .pretrained_vit import PretrainedViT
from .published import published_to_ibot_mm
from .recognise import Network, find_networks, recognise
from .report import LoadReport

__all__ = [
    'FORMATS',
    'CheckpointError',
    'Format',
    'LoadReport',
    'Network',
    'PretrainedSwin',
    'PretrainedViT',
    'Row',
    'convert',
    'find_networks',
    'load_checkpoint_file',
    'load_pretrained_vit',
    'load_timm_vit',
    'published_to_ibot_mm',
    'recognise',
    'revert',
]
