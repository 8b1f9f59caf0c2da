# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The error of this package."""


class CheckpointError(ValueError):
    """Weights that cannot be read or do not fit; says which file, why, and the way out."""
