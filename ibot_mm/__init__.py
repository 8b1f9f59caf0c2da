# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""iBOT pre-training as a plug-in of OpenMMLab.

Importing the package checks the environment and nothing else: components register themselves
when a registry of scope ``ibot_mm`` is first searched.
"""

from .compatibility import check_environment
from .version import __version__

check_environment()

__all__ = ['__version__']
