# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""iBOT pre-training as a plug-in of OpenMMLab.

Importing the package checks the environment and makes its configs known to mmengine; components
register themselves when a registry of scope ``ibot_mm`` is first searched. ``create_backbone``,
``list_backbones`` and ``extract`` are for use without a config.
"""

from .compatibility import check_environment, enable_config_inheritance
from .create import create_backbone, list_backbones
from .feature_extraction import extract
from .version import __version__

check_environment()
enable_config_inheritance()

__all__ = ['__version__', 'create_backbone', 'extract', 'list_backbones']
