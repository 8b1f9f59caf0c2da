# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a class or function takes, through all the ``**kwargs`` that its constructors hand on."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any

from torch import nn


@dataclass
class Signature:
    """Arguments by name.

    Args:
        names: All that are known.
        required: Those without a default.
        is_open: Whether further ones may be taken, since they go where they cannot be followed.
    """

    names: set[str] = field(default_factory=set)
    required: set[str] = field(default_factory=set)
    is_open: bool = False


@cache
def read_signature(target: Callable[..., Any]) -> Signature:
    """Read what a class or function takes.

    A constructor that hands its ``**kwargs`` on to that of its base class takes what the base class
    takes, and the keys that it takes out of them itself. One that does anything else with them may
    take everything.

    Args:
        target: Class or function.
    """
    result = Signature()
    if not inspect.isclass(target):
        _add(result, target)
        return result
    for number, owner in enumerate(target.__mro__):
        if owner in (object, nn.Module):
            break
        constructor = owner.__dict__.get('__init__')
        if constructor is None:
            continue
        keywords = _add(result, inspect.unwrap(constructor), required=number == 0)
        if keywords is None or result.is_open:
            break
        own, handed_on = _use_of_keywords(constructor, keywords)
        result.names |= own
        result.is_open = handed_on is None
        if not handed_on:
            break
    result.names.discard('self')
    result.required &= result.names
    return result


def find_unknown(keys: Iterable[str], known: Iterable[str], owner: str) -> list[str]:
    """Describe the keys that are not known, each with the nearest that is.

    Args:
        keys: What is given.
        known: What may be given.
        owner: Who takes it, for the message.
    """
    known = sorted(known)
    faults = []
    for key in keys:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f'is {near[0]!r} meant?' if near else f'it takes {", ".join(known) or "nothing"}'
            faults.append(f'{owner} does not take {key!r}; {hint}')
    return faults


def _add(result: Signature, function: Callable[..., Any], required: bool = True) -> str | None:
    """Add a function's arguments; returns the name of its ``**kwargs``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled, without a signature
        result.is_open = True
        return None
    keywords = None
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            keywords = parameter.name
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            result.names.add(parameter.name)
            if required and parameter.default is parameter.empty:
                result.required.add(parameter.name)
    if keywords and not inspect.isclass(function) and function.__name__ != '__init__':
        result.is_open = True
    return keywords


def _use_of_keywords(constructor: Any, keywords: str) -> tuple[set[str], bool | None]:
    """Find what a constructor does with its ``**kwargs``.

    Returns:
        The keys that it reads itself, and whether the rest goes to a base class: None if it may go
        elsewhere.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(constructor))))
    except (OSError, SyntaxError, TypeError):
        return set(), None
    own: set[str] = set()
    understood: set[int] = set()  # the places where the name occurs
    handed_on = False
    for node in ast.walk(tree):
        source: ast.AST | None = None  # keywords of which `key` is read
        key: ast.AST | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            function = node.func
            if function.attr == '__init__':
                for argument in node.keywords:
                    if argument.arg is None and _is_name(argument.value, keywords):
                        handed_on = True
                        understood.add(id(argument.value))
            elif function.attr in ('get', 'pop', 'setdefault') and node.args:
                if function.attr == 'get' or isinstance(node.args[0], ast.Constant):
                    source, key = function.value, node.args[0]
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            source, key = node.value, node.slice
        elif isinstance(node, ast.Compare) and len(node.comparators) == 1:
            source, key = node.comparators[0], node.left
        if source is not None and _is_name(source, keywords):
            understood.add(id(source))
            if isinstance(key, ast.Constant):
                own.add(str(key.value))
    uses = {id(node) for node in ast.walk(tree) if _is_name(node, keywords)}
    # Those that are written and never read take nothing, however it looks.
    return own, handed_on if uses <= understood else None


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
