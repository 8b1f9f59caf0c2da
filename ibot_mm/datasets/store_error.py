# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
class StoreError(OSError):
    """A store that does not give what it should: it failed all tries, or a shard is damaged.

    It is not a broken image: ``LoadImage(on_error='skip')`` does not skip it, since a store that
    is down would lose every image.
    """
