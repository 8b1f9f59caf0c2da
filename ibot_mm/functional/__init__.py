# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pure functions of tensors and numbers; no mm package is imported here."""
