# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Keys at the top of a config that nobody reads, and options that come too late."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner
from mmengine.utils import get_installed_path

# Read from the config by mmengine or by the tools of mm, beside the Runner's own arguments.
READ_ELSEWHERE = {
    *('custom_imports', 'env_cfg', 'find_unused_parameters', 'init_weights_for_test_or_val'),
    *('model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model', 'tta_pipeline'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'compile', '_scope_', 'default_scope'),
}

# Keys of OpenMMLab before mmengine, and what took their places.
FORMER = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'data': 'train_dataloader, val_dataloader',
    'dist_params': 'env_cfg.dist_cfg',
    'evaluation': 'val_evaluator, train_cfg.val_interval',
    'fp16': 'optim_wrapper.type',
    'log_config': 'default_hooks.logger',
    'lr_config': 'param_scheduler',
    'optimizer_config': 'optim_wrapper',
    'resume_from': 'resume, load_from',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
}


def known_keys() -> set[str]:
    """Return the keys that mmengine's runners and mm's tools read."""
    runners = (inspect.signature(kind.__init__).parameters for kind in (Runner, FlexibleRunner))
    return {*READ_ELSEWHERE, *(name for names in runners for name in names)} - {'self', 'cfg'}


@dataclass(frozen=True)
class ConfigFile:
    """The names in a config file, as they are written.

    Args:
        path: The file.
        assigned: Variables.
        read: Those of them that the file reads.
        inherited: Those that it reads of its bases, as ``_base_.name``.
        bases: The files that it inherits from.
    """

    path: Path
    assigned: set[str]
    read: set[str]
    inherited: set[str]
    bases: list['ConfigFile']

    def walk(self) -> Iterator['ConfigFile']:
        """Yield this file, then its bases and theirs."""
        yield self
        for base in self.bases:
            yield from base.walk()


def read_config_file(path: str | Path) -> ConfigFile:
    """Read the names in a config file and in those that it inherits from."""
    text = Path(path).read_text(encoding='utf-8')
    inherited = set(re.findall(r'_base_\.(\w+)', text))
    tree = ast.parse(re.sub(r'\{\{.*?\}\}', '0', text))
    assigned: set[str] = set()
    bases: list[ConfigFile] = []
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            assigned |= names
            if '_base_' in names:
                value = ast.literal_eval(node.value)
                for name in [value] if isinstance(value, str) else value:
                    found = _find(name, Path(path))
                    bases += [read_config_file(found)] if found is not None else []
    read = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return ConfigFile(Path(path), assigned - {'_base_'}, read, inherited, bases)


def _find(name: str, source: Path) -> Path | None:
    if '::' not in name:
        found = source.parent / name
    else:
        package, _, below = name.partition('::')
        try:
            found = Path(get_installed_path(package), '.mim', 'configs', below)
        except Exception:  # mmengine says so when it reads the config
            return None
    return found if found.is_file() and found.suffix == '.py' else None


def check_top_level(cfg: Config, options: Mapping[str, Any]) -> list[str]:
    """Find misspelt keys, variables without effect, and options without effect.

    A config may have variables of its own. One that its file does not read is a fault if it
    looks like a known key, if it is meant to change a variable that a base has read already, or, in
    a config that inherits, if it has the name of a key that stands deeper.

    Args:
        cfg: The config, options merged.
        options: What the command line has changed, as ``{'a.b': value}``.

    Returns:
        The faults.
    """
    known = known_keys()
    files = _files(cfg)
    faults = [*_overrides_without_effect(files, known)]
    set_by_options = {key.partition('.')[0] for key in options}
    for key in cfg:
        if key in known or key in set_by_options:
            continue
        read = any(key in file.read | file.inherited for file in files)
        near = _nearest(key, known)
        if not near and files and files[0].bases and key in files[0].assigned:
            near = _meant(key, cfg, known)
        if near and not read:
            faults.append(f'{key}: nobody reads this key; is {near!r} meant?')
    for key in sorted(set_by_options - known):
        faults += _check_option(key, cfg, files, known)
    return faults


def _files(cfg: Config) -> list[ConfigFile]:
    if not cfg.filename or Path(cfg.filename).suffix != '.py' or not Path(cfg.filename).is_file():
        return []
    return list(read_config_file(cfg.filename).walk())


def _nearest(key: str, known: set[str], cutoff: float = 0.85) -> str | None:
    # A pipeline is a usual name of a variable.
    near = get_close_matches(key, sorted(known - {'tta_pipeline'}), n=1, cutoff=cutoff)
    return near[0] if near else None


def _meant(key: str, cfg: Config, known: set[str]) -> str | None:
    """Where a key stands that was written at the top."""
    if key in FORMER:
        return FORMER[key]
    sections = {name: value for name, value in cfg.to_dict().items() if name in known}
    paths = sorted(_paths(sections, key), key=lambda path: (path.count('.'), path))
    return ', '.join(paths[:3]) or None


def _paths(node: Any, key: str, path: str = '') -> Iterator[str]:
    """Where a key occurs below the top."""
    children: Any = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list | tuple):
        children = enumerate(node)
    for name, child in children:
        if name == key and path:
            yield f'{path}.{name}'
        yield from _paths(child, key, f'{path}.{name}' if path else str(name))


def _overrides_without_effect(files: Sequence[ConfigFile], known: set[str]) -> Iterator[str]:
    for number, file in enumerate(files):
        below = [base for base in file.walk() if base is not file]
        for name in sorted(file.assigned - known - file.read):
            used_later = any(name in other.inherited for other in files[:number])
            read_before = any(name in base.assigned & base.read for base in below)
            if read_before and not used_later:
                yield (
                    f'{name}: {file.path.name} sets it, but the file that it inherits from has '
                    'read its own value already; set the keys that are made of it'
                )


def _check_option(
    key: str, cfg: Config, files: Sequence[ConfigFile], known: set[str]
) -> Iterator[str]:
    if not any(key in file.assigned for file in files):
        near = _meant(key, cfg, known) or _nearest(key, known, cutoff=0.6)
        hint = f'; is {near!r} meant?' if near else ''
        yield f'{key}: set on the command line, but nobody reads this key{hint}'
        return
    before = Config.fromfile(cfg.filename).to_dict()
    paths = [
        path for name in known & set(before) for path in _places(before[name], before[key], name)
    ]
    if paths or any(key in file.read | file.inherited for file in files):
        what = ', '.join(sorted(paths)) or 'the keys that are made of it'
        yield (
            f'{key}: set on the command line, but it is a variable of the config, which has been '
            f'read already: set {what} instead'
        )


def _places(node: Any, value: Any, path: str) -> Iterator[str]:
    """Where a value occurs."""
    if value and node == value:
        yield path
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from _places(child, value, f'{path}.{key}')
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _places(child, value, f'{path}.{index}')
