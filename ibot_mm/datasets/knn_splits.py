# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A labeled bank and held-out queries behind one validation dataloader."""

from typing import Any

from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import DATASETS as MMENGINE_DATASETS

from ibot_mm.registry import DATASETS


@DATASETS.register_module()
class KNNSplits(ConcatDataset):
    """Concatenation of the two splits that k-NN evaluation needs.

    mmengine's validation loop has one dataloader, k-NN needs the features of two splits. This
    data set is the bank followed by the queries and marks each sample's ``data_samples`` with the
    metainfo

    - ``knn_split``: ``'bank'`` or ``'query'``;
    - ``knn_index``: position in this data set, unique, by which
      :class:`~ibot_mm.evaluation.KNNAccuracy` drops the copies that a sampler adds to give every
      process the same number of samples.

    Both splits are data sets of mmpretrain's kind (``CustomDataset``, ``ImageNet``,
    ``ibot_mm.ImageFolder``) with a validation pipeline that ends in ``PackInputs``. As always in
    mm configs, nested types are looked up in the default scope: with another one than mmpretrain
    write ``mmpretrain.`` before them.

    Args:
        bank: Config of the labeled split whose images vote.
        query: Config of the labeled split whose images are classified. It must be held out from
            ``bank``.

    Raises:
        ValueError: If a split is empty or has no labels, or their classes differ.

    Example:
        >>> val_dataloader = dict(
        ...     batch_size=128,
        ...     num_workers=8,
        ...     sampler=dict(type='DefaultSampler', shuffle=False),
        ...     dataset=dict(
        ...         type='ibot_mm.KNNSplits',
        ...         bank=dict(type='ImageNet', data_root=root, split='train', pipeline=pipeline),
        ...         query=dict(type='ImageNet', data_root=root, split='val', pipeline=pipeline)))
    """

    def __init__(self, bank: dict | BaseDataset, query: dict | BaseDataset) -> None:
        splits = {'bank': self._build('bank', bank), 'query': self._build('query', query)}
        for name, split in splits.items():
            if split.get_data_info(0).get('gt_label') is None:
                raise ValueError(
                    f'the {name} split of KNNSplits has no labels: k-NN needs them in both splits. '
                    'Use one folder per class or an annotation file with labels, and not '
                    'with_label=False'
                )
        bank_classes, query_classes = (split.metainfo.get('classes') for split in splits.values())
        if bank_classes != query_classes:
            raise ValueError(
                'bank and query split of KNNSplits must have the same classes in the same order, '
                f'{_difference(bank_classes, query_classes)}'
            )
        # ConcatDataset would also insist that all other metainfo be equal; k-NN need not.
        keys = {key for split in splits.values() for key in split.metainfo}
        super().__init__(list(splits.values()), ignore_keys=sorted(keys - {'classes'}))

    @staticmethod
    def _build(name: str, config: dict | BaseDataset) -> BaseDataset:
        try:
            dataset = MMENGINE_DATASETS.build(config) if isinstance(config, dict) else config
            dataset.full_init()
        except ValueError as error:  # mmengine fails to serialize an empty list of samples
            if 'at least one array' not in str(error):
                raise
            raise ValueError(_empty(name)) from error
        if len(dataset) == 0:
            raise ValueError(_empty(name))
        return dataset

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the sample at ``index`` with its ``data_samples`` marked.

        Raises:
            KeyError: If the pipeline of the split does not produce ``data_samples``.
        """
        index = range(len(self))[index]  # negative indices count from the end
        split = ('bank', 'query')[self._get_ori_dataset_idx(index)[0]]
        sample = super().__getitem__(index)
        if 'data_samples' not in sample:
            raise KeyError(
                f"the pipeline of KNNSplits' {split} split gives no 'data_samples' but "
                f'{sorted(sample)}: end it with mmpretrain.PackInputs'
            )
        sample['data_samples'].set_metainfo(dict(knn_split=split, knn_index=index))
        return sample


def _empty(name: str) -> str:
    return (
        f'the {name} split of KNNSplits is empty: check its data_root, data_prefix, ann_file '
        'and indices'
    )


def _difference(bank: Any, query: Any) -> str:
    if not bank or not query:
        return f'got {bank} and {query}'
    for index, (one, other) in enumerate(zip(bank, query, strict=False)):
        if one != other:
            return f'but class {index} is {one!r} in the bank and {other!r} in the query split'
    return f'got {len(bank)} and {len(query)} classes'
