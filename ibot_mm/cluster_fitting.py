# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Clusters of patches, for :class:`ibot_mm.ClusterTokenizer`."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from mmengine.utils import mkdir_or_exist
from rich.progress import track
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from .engine.checkpointing import safe_loading
from .models import ClusterTokenizer


def fit_clusters(cfg: Config, out: str | Path, num_patches: int = 100_000, seed: int = 0) -> float:
    """Fit the clusters of ``model.tokenizer`` by k-means, and write them to a file.

    Patches are those of the first global crops, as the training augments them.

    Args:
        cfg: A pre-training config whose ``model.tokenizer`` is an ``ibot_mm.ClusterTokenizer``.
        out: The file.
        num_patches: Patches to learn from. Defaults to 100,000.
        seed: Of crops and k-means. Defaults to 0.

    Returns:
        Mean squared distance of a patch to its center.

    Raises:
        ValueError: If the config has another tokenizer or none, or the data fewer patches than
            clusters.
    """
    tokenizer_cfg = dict(cfg.model.get('tokenizer') or {})
    if not str(tokenizer_cfg.get('type')).endswith('ClusterTokenizer'):
        raise ValueError(
            'model.tokenizer is not an ibot_mm.ClusterTokenizer: '
            f'{tokenizer_cfg.get("type", "there is none")}.'
        )
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    set_random_seed(seed)
    tokenizer: ClusterTokenizer = MODELS.build(dict(tokenizer_cfg, clusters=str(out)))
    if tokenizer.backbone is not None:
        with safe_loading():  # of what init_cfg names
            tokenizer.backbone.init_weights()
    features = _collect(cfg, tokenizer, num_patches)
    if len(features) < tokenizer.num_tokens:
        raise ValueError(
            f'The data give {len(features)} patches, fewer than num_tokens={tokenizer.num_tokens}: '
            'set num_tokens lower, or take more images.'
        )
    found = MiniBatchKMeans(tokenizer.num_tokens, batch_size=8192, random_state=seed, n_init=3)
    found.fit(features.numpy())
    centers = torch.from_numpy(found.cluster_centers_).to(features)
    scale = torch.cdist(features, centers).amin(dim=1).square().mean()
    out = Path(out)
    mkdir_or_exist(str(out.parent))
    temporary = out.with_name(f'{out.name}.tmp')  # so that a file that is there is whole
    torch.save(dict(centers=centers, scale=scale), temporary)
    temporary.replace(out)
    return scale.item()


@torch.no_grad()
def _collect(cfg: Config, tokenizer: ClusterTokenizer, num_patches: int) -> Tensor:
    """Features (num_patches, D) at most, of patches of the training's images."""
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    parts: list[Tensor] = []
    per_batch = None
    for batch in track(loader, description='patches'):
        crops = preprocessor(batch, training=True)['inputs']['global_crops'][:, 0]
        features = tokenizer.features(crops).flatten(0, 1)
        per_batch = per_batch or max(1, -(-num_patches // len(loader)))
        parts.append(features[torch.randperm(len(features))[:per_batch]])
        if sum(map(len, parts)) >= num_patches:
            break
    return torch.cat(parts)[:num_patches]
