# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend, isdir, isfile, list_from_file
from mmpretrain.datasets import CustomDataset

from ibot_mm.registry import DATASETS

from .named_steps import list_steps
from .replacement import ReplaceSkipped

ADVICE = """
ImageNet: unpack ILSVRC2012_img_train.tar and the archives in it so that the images lie at
    DATA_ROOT/train/n01440764/n01440764_18.JPEG
and set data_root='DATA_ROOT', data_prefix='train'.
Own images: any folder will do, nested as deep as you like, no labels needed; set data_root to it
and data_prefix=''."""


@DATASETS.register_module()
class ImageFolder(ReplaceSkipped, CustomDataset):
    """mmpretrain's ``CustomDataset``, with errors that say how to prepare the data.

    A folder of images, of class folders, or an annotation file of paths, with or without labels.
    Where the pipeline skips an image (``LoadImage(on_error='skip')``), another one takes its place.

    Args:
        data_root: Root of ``data_prefix`` and ``ann_file``. Defaults to ''.
        data_prefix: Folder of the images. Defaults to ''.
        ann_file: File with a path per line, followed by a label if ``with_label``; all images
            below ``data_prefix`` without it. Defaults to ''.
        with_label: Read labels, from ``ann_file`` or from the names of the class folders.
            Defaults to False: pre-training needs none.
        pipeline (dict | list): Transforms, as a dict of named steps, which a config that inherits
            can change by name (see :func:`list_steps`), or as a list. Defaults to none.
        **kwargs: As in ``CustomDataset``.

    Raises:
        ValueError: No path is given; an annotation file is empty or lacks labels; a folder holds
            no image.
        FileNotFoundError: A folder or the annotation file does not exist.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict = '',
        ann_file: str = '',
        with_label: bool = False,
        pipeline: Mapping[str, Any] | Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        if not (data_root or data_prefix or ann_file):
            raise ValueError(f'ImageFolder: data_root is empty.{ADVICE}')
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            ann_file=ann_file,
            with_label=with_label,
            pipeline=list_steps(pipeline),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Find the images.

        Returns:
            A dict per image, with ``img_path`` and, if labels are read, ``gt_label``.
        """
        if _is_local(self.img_prefix) and self.img_prefix and not isdir(self.img_prefix):
            raise FileNotFoundError(
                f'ImageFolder: there is no folder {self.img_prefix} (data_root={self.data_root!r}).'
                f'{ADVICE}'
            )
        if self.ann_file:
            self._check_annotations()
        return super().load_data_list()

    def _find_samples(self) -> list:
        try:
            return super()._find_samples()
        except RuntimeError as error:
            hint = ' in class folders (with_label=True)' if self.with_label else ''
            raise ValueError(
                f'ImageFolder: no image found{hint} below {self.img_prefix}; extensions looked '
                f'for: {", ".join(sorted(self.extensions))}.{ADVICE}'
            ) from error

    def _check_annotations(self) -> None:
        if _is_local(self.ann_file) and not isfile(self.ann_file):
            raise FileNotFoundError(
                f'ImageFolder: there is no annotation file {self.ann_file} (ann_file, below '
                f'data_root={self.data_root!r}). Correct it, or leave ann_file out to use all '
                'images below data_prefix.'
            )
        lines = list_from_file(self.ann_file)
        if not lines:
            raise ValueError(f'ImageFolder: the annotation file {self.ann_file} is empty')
        for number, line in enumerate(lines, start=1):
            words = line.strip().rsplit(' ', 1)
            labeled = len(words) == 2 and words[1].isdigit()
            if not line.strip() or (self.with_label and not labeled):
                wanted = 'a path, a blank and a label' if self.with_label else 'a path'
                raise ValueError(
                    f'ImageFolder: line {number} of {self.ann_file} is {line!r}, not {wanted} '
                    f'(with_label={self.with_label})'
                )


def _is_local(path: str) -> bool:
    return isinstance(get_file_backend(path), LocalBackend)
