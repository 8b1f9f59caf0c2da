# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .published import published_to_ibot_mm

__all__ = ['published_to_ibot_mm']
