# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend, isdir, isfile, list_from_file
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from ibot_mm.registry import DATASETS

from .find_images import EXTENSIONS, FoundFiles, find_images, kind_of
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
    All images that :class:`ibot_mm.LoadImage` can decode are found, in folders that are linked too,
    but not in hidden ones, see :func:`find_images`; one line in the log says how many, and what
    other files were passed over. Where the pipeline skips an image
    (``LoadImage(on_error='skip')``), another one takes its place.

    Args:
        data_root: Root of ``data_prefix`` and ``ann_file``. Defaults to ''.
        data_prefix: Folder of the images. Defaults to ''.
        ann_file: File with a path per line, followed by a label if ``with_label``; all images
            below ``data_prefix`` without it. Defaults to ''.
        with_label: Read labels, from ``ann_file`` or from the names of the class folders.
            Defaults to False: pre-training needs none.
        pipeline (dict | list): Transforms, as a dict of named steps, which a config that inherits
            can change by name (see :func:`list_steps`), or as a list. Defaults to none.
        extensions: Endings of images' names, such as ['.npy'] or ['.dcm']; [''] takes all files.
            Defaults to all that can be decoded as RGB.
        **kwargs: As in ``CustomDataset``.

    Raises:
        ValueError: No path is given; an annotation file is empty or lacks labels; a folder holds
            no image, or not as many class folders as there are classes.
        FileNotFoundError: A folder or the annotation file does not exist.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict = '',
        ann_file: str = '',
        with_label: bool = False,
        pipeline: Mapping[str, Any] | Sequence[Any] = (),
        extensions: Sequence[str] = EXTENSIONS,
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
            extensions=extensions,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Find the images.

        Returns:
            A dict per image, with ``img_path`` and, if labels are read, ``gt_label``.
        """
        self._check_paths()
        return super().load_data_list()

    def has_images(self, number: int) -> bool:
        """Tell whether there are so many, without reading more of a folder than that takes.

        Args:
            number: At least 1.

        Raises:
            ValueError, FileNotFoundError: There is none, as when the data set is used.
        """
        self._check_paths()
        if self.ann_file:
            return len(list_from_file(self.ann_file)) >= number
        if not _is_local(self.img_prefix):
            return len(self._find_files().images) >= number
        found = find_images(self.img_prefix or '.', self.extensions, number)
        return len(found.images) >= number if found.images else len(self._find_samples()) > 0

    def first_images(self, number: int) -> list[str]:
        """List the paths of some images, without reading more of a local folder than that takes.

        Args:
            number: At most so many.

        Raises:
            ValueError, FileNotFoundError: There is none, as when the data set is used.
        """
        self._check_paths()
        if self.ann_file:
            lines = list_from_file(self.ann_file)[:number]
            names = [line.strip().rsplit(' ', 1)[0] if self.with_label else line for line in lines]
        elif _is_local(self.img_prefix):
            names = find_images(self.img_prefix or '.', self.extensions, number).images[:number]
        else:
            names = self._find_files().images[:number]
        backend = get_file_backend(self.img_prefix)
        return [backend.join_path(self.img_prefix, name.strip()) for name in names]

    def _check_paths(self) -> None:
        if _is_local(self.img_prefix) and self.img_prefix and not isdir(self.img_prefix):
            raise FileNotFoundError(
                f'ImageFolder: there is no folder {self.img_prefix} (data_root={self.data_root!r}).'
                f'{ADVICE}'
            )
        if self.ann_file:
            self._check_annotations()

    def _find_samples(self) -> list:
        """Paths below ``img_prefix``, each with its label where labels are read, sorted."""
        found = self._find_files()
        images = [name for name in found.images if '/' in name or not self.with_label]
        if self.with_label and len(images) < len(found.images):
            found.passed_over['in no class folder'] = len(found.images) - len(images)
            found.images = images
        print_log(f'ImageFolder {self.img_prefix}: {found}', 'current')
        if not images:
            hint = ' in class folders (with_label=True)' if self.with_label else ''
            raise ValueError(
                f'ImageFolder: no image found{hint} below {self.img_prefix}: {found}; extensions '
                f'looked for: {", ".join(sorted(self.extensions))}; for others, such as .npy and '
                f".dcm, set extensions=['.npy'].{ADVICE}"
            )
        return self._label(images, found.folders) if self.with_label else images

    def _find_files(self) -> FoundFiles:
        if _is_local(self.img_prefix):
            return find_images(self.img_prefix or '.', self.extensions)
        found = FoundFiles()
        backend = get_file_backend(self.img_prefix)
        for name in backend.list_dir_or_file(self.img_prefix, list_dir=False, recursive=True):
            folders = name.split('/')[:-1]
            hidden = any(folder.startswith('.') for folder in folders)
            kind = 'hidden' if hidden else kind_of(name, self.extensions)
            if kind:
                found.passed_over[kind] += 1
            else:
                found.images.append(name)
            found.folders += folders[:1] if not hidden else []
        found.images.sort()
        found.folders = sorted(set(found.folders))
        return found

    def _label(self, images: list[str], folders: list[str]) -> list[tuple[str, int]]:
        """Label images by the number of their class folder."""
        if self.CLASSES is not None and len(self.CLASSES) != len(folders):
            raise ValueError(
                f'ImageFolder: {self.img_prefix} has {len(folders)} class folders, metainfo '
                f'{len(self.CLASSES)} classes'
            )
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(folders)
        self.folder_to_idx = {folder: label for label, folder in enumerate(folders)}
        parts = sorted(name.split('/', 1) for name in images)
        samples = [(f'{folder}/{name}', self.folder_to_idx[folder]) for folder, name in parts]
        empty = set(folders) - {folder for folder, _ in parts}
        if empty:
            print_log(
                f'ImageFolder {self.img_prefix}: no image in the class folders '
                f'{", ".join(sorted(empty))}',
                'current',
                logging.WARNING,
            )
        return samples

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
