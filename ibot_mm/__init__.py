# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""iBOT pre-training as a plug-in of OpenMMLab.

Importing the package checks the environment and makes its configs known to mmengine; components
register themselves when a registry of scope ``ibot_mm`` is first searched. ``pretrain``, ``embed``,
``evaluate``, ``create_backbone`` and ``list_backbones`` are for use without a config; the console
command ``ibot-mm`` has the same names.
"""

from .checkpoint_evaluation import evaluate
from .compatibility import check_environment, enable_config_inheritance
from .create import create_backbone, list_backbones
from .feature_extraction import extract
from .pretraining import pretrain
from .version import __version__

embed = extract  # as the console command calls it

check_environment()
enable_config_inheritance()

__all__ = [
    '__version__',
    'create_backbone',
    'embed',
    'evaluate',
    'extract',
    'list_backbones',
    'pretrain',
]
