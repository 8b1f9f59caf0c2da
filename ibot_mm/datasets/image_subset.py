# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A part of a folder of images, by a list of file names."""

from pathlib import PurePath
from typing import Any

from mmengine.fileio import list_from_file

from ibot_mm.registry import DATASETS

from .image_folder import ImageFolder


@DATASETS.register_module()
class ImageSubset(ImageFolder):
    """The images of class folders that a list names, such as SimCLR's 1 % and 10 % of ImageNet.

    Args:
        subset_file (str): Text with a file name per line, such as ``n01440764_10183.JPEG``, with
            folders before it or without.
        with_label (bool): Defaults to True.
        **kwargs: As :class:`ImageFolder`.

    Raises:
        ValueError: If the list is empty, or names images that are not there.
    """

    def __init__(self, subset_file: str, with_label: bool = True, **kwargs: Any) -> None:
        self.subset_file = subset_file
        super().__init__(with_label=with_label, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Find the images that the list names."""
        lines = (line.strip() for line in list_from_file(self.subset_file))
        names = {PurePath(line).name for line in lines if line}
        found = [d for d in super().load_data_list() if PurePath(d['img_path']).name in names]
        missing = names - {PurePath(data['img_path']).name for data in found}
        if missing or not names:
            raise ValueError(
                f'ImageSubset: {len(missing)} of the {len(names)} images that {self.subset_file} '
                f'names are not below {self.img_prefix}, such as {sorted(missing)[:3]}: are the '
                'images complete, and is the list of these data?'
            )
        return found
