# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The bundled demo data: real digits on real photographs, in the formats of the real configs."""

try:
    import pycocotools  # noqa: F401
    import skimage  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'the demo data needs {error.name}, which is not installed: '
        'pip install pycocotools scikit-image scikit-learn'
    ) from error

from .compose import Composer, Instance, Scene
from .demo_settings import SPLITS, DemoSettings
from .generate import make_demo_data
from .sources import load_digit_source, load_photographs

__all__ = [
    'SPLITS',
    'Composer',
    'DemoSettings',
    'Instance',
    'Scene',
    'load_digit_source',
    'load_photographs',
    'make_demo_data',
]
