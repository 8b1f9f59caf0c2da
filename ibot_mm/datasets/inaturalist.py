# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""iNaturalist 2018 and 2019 as classification data."""

import json
from typing import Any

from mmengine.fileio import get_text, join_path
from mmpretrain.datasets import BaseDataset

from ibot_mm.registry import DATASETS

from .named_steps import list_steps


@DATASETS.register_module()
class INaturalist(BaseDataset):
    """Images of iNaturalist's competitions, read from their JSON files.

    As published, classes are the ``name`` of a category, numbered by first appearance in the
    training annotations.

    Args:
        ann_file (str): Such as 'train2018.json' or 'val2018.json', below ``data_root``.
        class_file (str): The training annotations, which number the classes.
        data_root (str): Folder of the JSON files and images. Defaults to ''.
        pipeline: Steps as a list, or by name. Defaults to ().
        **kwargs: As mmpretrain's ``BaseDataset``.

    Raises:
        ValueError: If an annotation is of a class that the training annotations do not have.
    """

    def __init__(
        self,
        ann_file: str,
        class_file: str,
        data_root: str = '',
        pipeline: Any = (),
        **kwargs: Any,
    ) -> None:
        self.class_file = class_file
        super().__init__(
            ann_file=ann_file, data_root=data_root, pipeline=list_steps(pipeline), **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """List a dict for each image, with ``img_path`` and ``gt_label``."""
        names = [name for _, name in _annotations(join_path(self.data_root, self.class_file))]
        labels = {name: label for label, name in enumerate(dict.fromkeys(names))}
        self._metainfo['classes'] = tuple(labels)
        data_list = []
        for file_name, name in _annotations(self.ann_file):
            if name not in labels:
                raise ValueError(
                    f'{self.ann_file} has an image of class {name!r}, which {self.class_file} does '
                    'not have: give class_file the training annotations of the same year.'
                )
            path = join_path(self.data_root, file_name)
            data_list.append(dict(img_path=path, gt_label=labels[name]))
        return data_list


def _annotations(path: str) -> list[tuple[str, str]]:
    """File and name of the category, of each annotation in order."""
    content = json.loads(get_text(path))
    names = {category['id']: str(category['name']) for category in content['categories']}
    files = {image['id']: image['file_name'] for image in content['images']}
    return [(files[a['image_id']], names[a['category_id']]) for a in content['annotations']]
