# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pages of the API: one for each room of the package, from its docstrings."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGE = 'ibot_mm'
NAMES: dict[str, list[str]] = {}  # last name -> whole names


def modules(name: str) -> Iterator[str]:
    """List a module and all that are below it, without private ones and scripts."""
    yield name
    for found in pkgutil.iter_modules(getattr(import_module(name), '__path__', [])):
        if not found.name.startswith('_'):
            yield from modules(f'{name}.{found.name}')


def write_pages(app: Sphinx) -> None:
    """Write `api/ROOM.rst` for each subpackage, and `api/top.rst` for the files beside them."""
    folder = Path(app.srcdir, 'api')
    folder.mkdir(exist_ok=True)
    rooms: dict[str, list[str]] = {'top': [PACKAGE]}
    for found in pkgutil.iter_modules(import_module(PACKAGE).__path__):
        name = f'{PACKAGE}.{found.name}'
        if found.ispkg:
            rooms[found.name] = list(modules(name))
        elif not found.name.startswith('_'):
            rooms['top'].append(name)
    for room, names in rooms.items():
        title = PACKAGE if room == 'top' else f'{PACKAGE}.{room}'
        page = [title.replace('_', r'\_'), '=' * 60, '']
        for name in names:
            if name != title:
                page += [name.removeprefix(f'{title}.').replace('_', r'\_'), '-' * 60, '']
            page += [f'.. automodule:: {name}', '   :members:', '   :show-inheritance:']
            page += ['   :ignore-module-all:', '']  # each object once, in its file
            if exported := getattr(import_module(name), '__all__', None):
                page += [f'Import from here: {", ".join(f":py:obj:`{e}`" for e in exported)}.', '']
        text, path = '\n'.join(page), folder / f'{room}.rst'
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in set(folder.glob('*.rst')) - {folder / f'{room}.rst' for room in rooms}:
        path.unlink()


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: TextElement
) -> Element | None:
    """Find a name as configs have it, `ibot_mm.IBOTHead`, as it is imported, or alone."""
    *parents, last = node.get('reftarget', '').removeprefix(f'{PACKAGE}.').split('.')
    if node.get('refdomain') != 'py' or not last:
        return None
    objects = env.domains.python_domain.objects
    if not NAMES:  # all pages are read by now
        for name in objects:
            NAMES.setdefault(name.rpartition('.')[2], []).append(name)
    found = [name for name in NAMES.get(last, []) if set(parents) <= set(name.split('.'))]
    if not found:
        return None
    name = min(found, key=lambda name: (name.count('.'), name))
    entry = objects[name]
    return make_refnode(app.builder, node['refdoc'], entry.docname, entry.node_id, contents, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both with Sphinx."""
    app.connect('builder-inited', write_pages)
    app.connect('missing-reference', find_by_last_name)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
