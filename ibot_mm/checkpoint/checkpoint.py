# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A checkpoint, opened once: its tensors and everything that is told beside them."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from .locate import FILES, CheckpointError, find_file
from .read import read_content

_STATES = (
    *('optimizer', 'optimizer_state_dict', 'optimizer_states', 'optimizers'),
    *('gradients', 'log_history'),  # of our own trainings
)
_SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors')
# Names that torch puts between those of modules: compiled, sharded, recomputed.
_WRAPPERS = re.compile(r'(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and metadata of a checkpoint, on the CPU.

    Args:
        location: Where it lies, for messages.
        tensors: By their path within the file, such as ``'teacher.module.backbone.cls_token'``.
        meta: What mmengine, and tools of this project, store beside them; ``cfg`` is the text of
            the training's config. Objects of classes are left out.
        config: The JSON beside the file: Hugging Face's or timm's ``config.json``, or
            ``open_clip_config.json``. A file that is not named as those libraries name it must be
            the only one in its folder.
    """

    location: str
    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, location: 'str | Path | Checkpoint') -> 'Checkpoint':
        """Read a checkpoint; nothing in it is run.

        Args:
            location: A file of torch (``.pth``, ``.pt``, ``.bin``; also of its old format) or
                safetensors, known by its content, not by its name; a pickle of detectron2; a
                folder of Hugging Face, OpenCLIP, torch.distributed.checkpoint or DeepSpeed; an
                ``http(s)://`` address, kept in torch's cache; or a model of an mm package, such as
                ``'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k'``. A checkpoint
                that is open already is given back.

        Raises:
            CheckpointError: If the file is not there, is not a checkpoint, is damaged, would run
                code or holds no tensors.
        """
        if isinstance(location, Checkpoint):
            return location
        file = find_file(location)
        content, meta = read_content(file)
        tensors = {_WRAPPERS.sub('', name): tensor for name, tensor in _flatten(content)}
        if not tensors:
            held = ', '.join(map(str, content)) if isinstance(content, dict) else ''
            raise CheckpointError(
                f'{file} holds no weights of a network, only: {held or type(content).__name__}.'
            )
        return cls(str(location), tensors, meta, _read_json(file))

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Say of errors that they are of this checkpoint."""
        try:
            yield
        except CheckpointError as error:
            raise CheckpointError(f'{self.location} cannot be used: {error}.') from error

    @cached_property
    def training_config(self) -> dict[str, Any]:
        """The config that mmengine stores, top-level name -> value; empty where there is none.

        The text is parsed and never run: what is not a literal is left out.
        """
        text = self.meta.get('cfg')
        config: dict[str, Any] = {}
        try:
            statements = ast.parse(text).body if isinstance(text, str) else []
        except (SyntaxError, ValueError):
            return config  # a config that says nothing readable
        for statement in statements:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                with suppress(SyntaxError, ValueError, TypeError):
                    config[statement.targets[0].id] = _literal(statement.value)
        return config

    @cached_property
    def backbone_config(self) -> dict[str, Any]:
        """``model.backbone`` of :attr:`training_config`; empty where there is none."""
        model = self.training_config.get('model')
        backbone = model.get('backbone') if isinstance(model, dict) else None
        return backbone if isinstance(backbone, dict) else {}


def _read_json(file: Path) -> dict[str, Any]:
    """Of the folder of a file, where it cannot be that of another file."""
    own_name = file.name in FILES or re.search(r'-of-\d+\.\w+$', file.name)
    beside = {f.name for f in file.parent.glob('*') if f.suffix in _SUFFIXES}
    if not own_name and beside > {file.name}:
        return {}
    for name in ('config.json', 'open_clip_config.json'):
        try:
            config = json.loads(file.with_name(name).read_text())
        except (OSError, ValueError):
            continue
        return config if isinstance(config, dict) else {}
    return {}


def _flatten(content: Any, path: str = '') -> Iterator[tuple[str, Tensor]]:
    """Tensors under text keys, without the state of a training."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if not isinstance(key, str) or key.split('.')[0] in _STATES:
            continue
        if isinstance(value, Tensor):
            yield path + key, value
        else:
            yield from _flatten(value, f'{path}{key}.')


def _literal(node: ast.expr) -> Any:
    """Evaluate a literal, ``dict(...)`` being one too."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict' and not node.args:
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        return {_literal(k): _literal(v) for k, v in zip(node.keys, node.values) if k}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(element) for element in node.elts]
    return ast.literal_eval(node)
