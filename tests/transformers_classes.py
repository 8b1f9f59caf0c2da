# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Networks of transformers, of which upstream's mmpretrain allows old versions only."""

import pytest
import transformers


def classes_of(kind: str) -> tuple[type, type]:
    """Return configuration and model of a kind, such as 'DINOv3ViT'; skip where there is none."""
    if not hasattr(transformers, f'{kind}Config'):
        pytest.skip(f'transformers {transformers.__version__} does not have {kind}')
    return getattr(transformers, f'{kind}Config'), getattr(transformers, f'{kind}Model')
