# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
def counted(number: int, noun: str) -> str:
    """Say how many there are, as '1 shard' and '2 shards'."""
    return f'{number} {noun}' + 's' * (number != 1)
