# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Settings of a network that its weights do not show, where they are stored beside them."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import read_config, read_meta


@dataclass(frozen=True)
class Settings:
    """What is told beside weights; None where nothing is.

    Args:
        num_heads: Attention heads of a layer.
        norm_eps: The eps of norms.
        img_size: Pixels (H, W) that the position embedding is for, or one number for both.
        origin: Where this is told, for messages; empty where nothing is.
    """

    num_heads: int | None = None
    norm_eps: float | None = None
    img_size: int | tuple[int, int] | None = None
    origin: str = ''


def read_settings(path: str | Path) -> Settings:
    """Settings from Hugging Face's ``config.json``, or from the config that mmengine stores.

    Args:
        path: As of :func:`load_checkpoint_file`.
    """
    config = read_config(path)
    if config.get('num_attention_heads'):
        return Settings(
            num_heads=config['num_attention_heads'],
            norm_eps=config.get('layer_norm_eps'),
            img_size=_size(config.get('image_size')),
            origin='config.json',
        )
    backbone = read_backbone_config(path)
    arch, norm = backbone.get('arch'), backbone.get('norm_cfg')
    return Settings(
        num_heads=arch.get('num_heads') if isinstance(arch, dict) else None,
        norm_eps=norm.get('eps') if isinstance(norm, dict) else None,
        img_size=_size(backbone.get('img_size')),
        origin='the config in the file' if backbone else '',
    )


def _size(size: Any) -> int | tuple[int, int] | None:
    return (size[0], size[1]) if isinstance(size, (list, tuple)) else size


def read_backbone_config(path: str | Path) -> dict[str, Any]:
    """``model.backbone`` of the config that mmengine stores; empty where there is none.

    The text is parsed and never run: what is no literal makes it empty too.

    Args:
        path: As of :func:`load_checkpoint_file`.
    """
    text = read_meta(path).get('cfg')
    try:
        statements = ast.parse(text).body if isinstance(text, str) else []
        for statement in statements:
            if isinstance(statement, ast.Assign) and ast.unparse(statement).startswith('model = '):
                backbone = _literal(statement.value)['backbone']
                return backbone if isinstance(backbone, dict) else {}
    except (SyntaxError, ValueError, TypeError, KeyError):
        pass  # a config that says nothing readable
    return {}


def _literal(node: ast.expr) -> Any:
    """A literal, ``dict(...)`` being one too."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and not node.args:
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        return {_literal(k): _literal(v) for k, v in zip(node.keys, node.values) if k}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(element) for element in node.elts]
    return ast.literal_eval(node)
