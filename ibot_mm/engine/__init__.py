# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .hooks import *  # noqa: F403
from .loops import *  # noqa: F403
from .optim import *  # noqa: F403
from .sharding import ShardedDataParallel  # noqa: F401
