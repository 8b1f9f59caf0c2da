# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .vit import MaskedVisionTransformer

__all__ = ['MaskedVisionTransformer']
