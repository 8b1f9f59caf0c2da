# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Why an image is not read."""


class BrokenImageError(RuntimeError):
    """A file that is missing, empty, cut off, or not an image."""


class UnsupportedImageError(RuntimeError):
    """A sound image that needs a setting or a package."""
