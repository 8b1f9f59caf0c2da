# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which entries of a store are images."""

from ibot_mm.datasets.find_images import kind_of


def kind_of_entry(name: str, extensions: tuple[str, ...]) -> str:
    """Say what an entry is by its name: '' for an image, else its kind.

    As in a folder, what lies in a folder whose name starts with a dot is hidden. Without
    extensions every entry is an image, but for ``__len__`` and its kin.

    Args:
        name: With slashes.
        extensions: Endings of images' names, in lower case.
    """
    *folders, last = name.split('/')
    if any(folder.startswith('.') for folder in folders):
        return 'hidden'
    if not extensions:
        return 'entry about the store' if last.startswith('__') else ''
    return kind_of(name, extensions)
