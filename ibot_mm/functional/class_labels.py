# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What keeps the labels of two splits from being compared, in words."""

from collections.abc import Collection, Mapping, Sequence

SHOWN = 4  # names in a message


def class_difference(classes: Mapping[str, Sequence[str]]) -> str | None:
    """Say how the class names of two splits differ.

    Args:
        classes: Split -> names, in the order that labels count.

    Returns:
        None if they are the same in the same order.
    """
    (first, names), (second, other) = classes.items()
    if list(names) == list(other):
        return None
    alone = {first: set(names) - set(other), second: set(other) - set(names)}
    parts = [
        f'only {split} has {_listed(sorted(found))}' for split, found in alone.items() if found
    ]
    return '; '.join(parts) or (
        f'their order differs, {_listed(names)} in {first} and {_listed(other)} in {second}'
    )


def absent_classes(
    labels: Mapping[str, Collection[int]],
    expected: Collection[int],
    names: Sequence[str] | None = None,
) -> str | None:
    """Say which classes have no image in a split.

    Args:
        labels: Split -> the labels that it has.
        expected: All labels.
        names: Of the classes. Defaults to None, labels are named.

    Returns:
        None if every split has an image of every class.
    """
    for split, found in labels.items():
        if missing := sorted(set(expected) - set(found)):
            listed = _listed([names[label] if names else label for label in missing])
            return (
                f'{split} has no image of {len(missing)} of the {len(expected)} classes: {listed}'
            )
    return None


def _listed(values: Sequence[object]) -> str:
    return ', '.join(map(repr, values[:SHOWN])) + (', ...' if len(values) > SHOWN else '')
