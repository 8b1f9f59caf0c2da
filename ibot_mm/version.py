# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Version of the package; ``setup.py`` reads it from here."""

__version__ = '0.1.0'
