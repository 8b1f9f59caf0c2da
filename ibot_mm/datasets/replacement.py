# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Another image in place of one that a pipeline skips."""

from typing import Any

from mmengine.dataset import BaseDataset

from .presentation import Presentation, current_presentation


class ReplaceSkipped(BaseDataset):
    """Takes another image where the pipeline returns None, and keeps account of it.

    mmengine's data sets sample the other one from numpy's global generator, which is the same at
    each try where a transform seeds it, and end a training by an error that names no file. Here it
    is a different one at each retry of each presentation. ``data_samples`` of the image that came
    instead names what was skipped: ``skipped_images``, a list of (path, reason).
    """

    def __getitem__(self, idx: int) -> Any:
        """Read one image, or another one in its place.

        Args:
            idx: Index of the image.

        Returns:
            What the pipeline makes of it.

        Raises:
            RuntimeError: ``max_refetch`` others in its place were skipped as well. Names the last.
        """
        if self.test_mode:
            return super().__getitem__(idx)
        self.full_init()
        presentation = current_presentation() or Presentation(0, 0, idx, 0.0)
        skipped: list[tuple[str, str]] = []
        while len(skipped) <= self.max_refetch:
            results = self.get_data_info(idx)
            path = results['img_path']
            data = self.pipeline(results)
            if data is not None:
                if skipped and 'data_samples' in data:
                    data['data_samples'].set_metainfo(dict(skipped_images=skipped))
                return data
            skipped.append((path, results.get('read_error', 'left out by the pipeline')))
            idx = presentation.sample_replacement(len(skipped), len(self))
        last = ''.join(f'\n    {path}: {reason}' for path, reason in skipped[-5:])
        raise RuntimeError(
            f'{type(self).__name__}: {len(skipped)} images were skipped, one after the other in '
            f'place of the first. The last:{last}\nRepair or remove such files (and their lines in '
            'the annotation file), or look at the pipeline, which returned None for each.'
        )
