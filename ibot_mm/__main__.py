# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""``python -m ibot_mm`` is the console command ``ibot-mm``."""

from ibot_mm.cli import main

if __name__ == '__main__':
    main()
