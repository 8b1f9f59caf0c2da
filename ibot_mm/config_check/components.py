# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The components that a config names: are they known, do they take what they get, do they build."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from mmengine.registry import Registry

from .signatures import find_unknown, read_signature

PARTS = ('backbone', 'neck', 'head', 'decode_head', 'rpn_head', 'roi_head', 'data_preprocessor')
PREFIX = re.compile(r'^(?:class `\w+` in [\w./-]+: )+')  # mmengine's


@dataclass
class Component:
    """One dict of a config that becomes an object.

    Args:
        path: Where it stands in the config.
        cfg: The dict.
        registry: Where its type is looked up.
        default_type: If the dict may go without one. Defaults to None.
        given: Arguments that come from elsewhere. Defaults to none.
        also_takes: Keys that are read before the object is built. Defaults to none.
        hands_on: Classes, and what they call later with the keywords that they keep.
            Defaults to none.
        needs_all: Whether every argument without a default must be there. Defaults to True.
    """

    path: str
    cfg: Any
    registry: Registry
    default_type: str | None = None
    given: set[str] = field(default_factory=set)
    also_takes: set[str] = field(default_factory=set)
    hands_on: Mapping[type, Callable[..., Any]] = field(default_factory=dict)
    needs_all: bool = True

    def check(self) -> list[str]:
        """Compare the keys with what the class takes; returns the faults."""
        if not isinstance(self.cfg, Mapping):
            if isinstance(self.cfg, str | int | float | list | tuple | bool) or self.cfg is None:
                return [f'{self.path}: must be a dict with a type, got {self.cfg!r}']
            return []  # built already
        kind = self.cfg.get('type', self.default_type)
        if kind is None:
            return [f'{self.path}: has no type']
        with self.registry.switch_scope_and_registry(self.cfg.get('_scope_')) as registry:
            try:
                target = registry.get(kind) if isinstance(kind, str) else kind
            except Exception as error:  # a module that cannot be imported
                return [f'{self.path}: {kind} cannot be imported ({error})']
            if target is None:
                return [f'{self.path}: {_unknown_type(kind, registry)}']
        signature = read_signature(target)
        keys = [key for key in self.cfg if key not in ('type', '_scope_', *self.also_takes)]
        name = getattr(target, '__name__', str(target))
        known, is_open = signature.names | self.given, signature.is_open
        for kind, later in self.hands_on.items():
            if isinstance(target, type) and issubclass(target, kind):
                known, is_open = known | read_signature(later).names, False
        faults = [] if is_open else find_unknown(keys, known, name)
        missing = signature.required - self.given - set(keys)
        if missing and self.needs_all:
            faults.append(f'{name} needs {", ".join(sorted(missing))}')
        return [f'{self.path}: {fault}' for fault in faults]

    def build(self, **default_args: Any) -> Any:
        """Build the object from a copy of the dict."""
        return self.registry.build(copy.deepcopy(self.cfg), default_args=default_args or None)


def build(path: str, function: Callable[..., Any], *args: Any) -> tuple[Any, list[str]]:
    """Call what builds something.

    Args:
        path: Where it stands in the config.
        function: What builds it.
        *args: Its arguments.

    Returns:
        The object or None, and the faults.
    """
    try:
        return function(*args), []
    except Exception as error:  # constructors raise what they like
        return None, [f'{path}: {describe(error)}']


def describe(error: Exception) -> str:
    """Return the message of an error in one line, without mmengine's prefixes."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    message = ' '.join(PREFIX.sub('', str(text)).split())
    if isinstance(error, ValueError | FileNotFoundError) and message:
        return message
    return f'{type(error).__name__}: {message}' if message else repr(error)


def _unknown_type(kind: str, registry: Registry) -> str:
    """Write the message, with the nearest of all types of this kind."""
    root = registry
    while root.parent is not None:
        root = root.parent
    names = {f'{scope}{name}' for scope, name in _names(root)}
    word = kind.rpartition('.')[2]
    near = [name for name in names if name.rpartition('.')[2] in _near(word, names)]
    hint = f'; is {sorted(near)[0]!r} meant?' if near else ''
    return f'there is no {registry.name} {kind!r}{hint}'


def _near(word: str, names: set[str]) -> list[str]:
    return get_close_matches(word, sorted({name.rpartition('.')[2] for name in names}), n=1)


def _names(registry: Registry) -> Iterator[tuple[str, str]]:
    scope = '' if registry.parent is None else f'{registry.scope}.'
    yield from ((scope, name) for name in registry.module_dict)
    for child in registry.children.values():
        yield from _names(child)


def check_model(cfg: Any, registry: Registry) -> tuple[Any, list[str]]:
    """Check and build a model without its weights.

    Args:
        cfg: ``model`` of the config.
        registry: That of the models.

    Returns:
        The model, on the meta device if it can be, or None; and the faults.
    """
    whole = Component('model', cfg, registry)
    faults = whole.check()
    if not isinstance(cfg, Mapping):
        return None, faults
    parts = [
        Component(f'model.{key}', part, registry, needs_all=False)
        for key, part in cfg.items()
        if isinstance(part, Mapping) and 'type' in part and key in PARTS
    ]
    for part in parts:
        faults += part.check()
    if faults:
        return None, faults + _faults_of_parts(parts, faults)
    model, faults = build('model', _build_without_weights, whole)
    if faults:
        faults = _faults_of_parts(parts, faults) or faults
    return model, faults


def _faults_of_parts(parts: list[Component], known: list[str]) -> list[str]:
    """Collect what parts that need nothing of the whole say when they are built alone."""
    faults = []
    for part in parts:
        complete = Component(part.path, part.cfg, part.registry)
        if complete.check() or any(fault.startswith(f'{part.path}:') for fault in known):
            continue
        faults += build(part.path, _build_without_weights, part)[1]
    return faults


def _build_without_weights(component: Component) -> Any:
    """Build on the meta device, or on the CPU if the model reads numbers back from its tensors."""
    cfg = copy.deepcopy(component.cfg)
    for part in _dicts(cfg):
        if part.get('pretrained') is True:  # would download
            part['pretrained'] = False
    component = Component(component.path, cfg, component.registry)
    state = torch.get_rng_state()
    try:
        with torch.device('meta'):
            return component.build()
    except (RuntimeError, NotImplementedError) as error:
        if 'meta' not in str(error).lower():
            raise
        return component.build()
    finally:
        torch.set_rng_state(state)


def _dicts(node: Any) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list | tuple):
            yield from _dicts(child)
