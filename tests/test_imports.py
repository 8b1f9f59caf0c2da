# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'ibot_mm'
FILES = sorted(PACKAGE.rglob('*.py'))
ROOMS = {'models', 'datasets', 'engine', 'evaluation', 'visualization'}
MM = {'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg'}
SHARED = {'functional', 'registry', 'compatibility', 'foreign_errors', 'private_api', 'version'}


def imported_modules(
    path: Path, top_level_only: bool = False, with_names: bool = False
) -> set[str]:
    """Absolute names of the modules that a file imports; with what it imports from packages."""
    tree = ast.parse(path.read_text())
    package = ['ibot_mm', *path.relative_to(PACKAGE).parts[:-1]]
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            names |= {f'{module}.{alias.name}' for alias in node.names} if with_names else set()
            if (
                not with_names
                or (PACKAGE.parent / module.replace('.', '/')).with_suffix('.py').exists()
            ):
                names.add(module)
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_kept_apart(path):
    own = room(path)
    for name in imported_modules(path):
        top, *rest = name.split('.')
        assert top not in ('mmdet', 'mmseg', 'tools', 'tests', 'benchmarks'), name
        if own == 'functional':
            assert top not in MM and (top != 'ibot_mm' or rest[:1] == ['functional']), name
        elif top == 'ibot_mm' and rest and own in ROOMS:
            allowed = SHARED | {own} | ({'checkpoint'} if own == 'models' else set())
            assert rest[0] in allowed, name


@pytest.mark.parametrize('top', ['ablation', 'cli'])
def test_nothing_imports_experiments_and_the_command(top):
    others = [path for path in FILES if room(path) not in (top, '__main__')]
    importing = [p for p in others if any(f'ibot_mm.{top}' in n for n in imported_modules(p))]
    assert len(others) < len(FILES) and importing == []


def run(code):
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()[-1]


def test_importing_the_package_imports_next_to_nothing():
    code = (
        'import sys, ibot_mm; '
        "print(len({'torch', 'mmpretrain', 'mmdet', 'mmseg'} & set(sys.modules)))"
    )
    assert run(code) == '0'


@pytest.mark.slow
def test_every_room_opens_without_downstream_packages_and_compiled_operators():
    code = (
        'import sys; sys.modules.update({"mmdet": None, "mmseg": None, "mmcv._ext": None}); '
        'import ibot_mm.models, ibot_mm.datasets, ibot_mm.engine, ibot_mm.evaluation, '
        'ibot_mm.visualization, ibot_mm.checkpoint; print("opened")'
    )
    assert run(code) == 'opened'


def circles(graph: dict[str, set[str]]) -> set[str]:
    """Nodes that are reached from themselves."""

    def reached(node: str, seen: set[str]) -> set[str]:
        for other in graph.get(node, set()) - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    return {node for node in graph if node in reached(node, set())}


def test_imports_go_in_no_circle():
    """Between modules and between rooms, imports within functions included."""
    assert circles(dict(a={'b'}, b={'c'}, c={'b'})) == {'b', 'c'}
    paths = {
        '.'.join(['ibot_mm', *path.relative_to(PACKAGE).with_suffix('').parts]).removesuffix(
            '.__init__'
        ): path
        for path in FILES
    }
    modules, rooms = {}, {}
    for name, path in paths.items():
        modules[name] = imported_modules(path, with_names=True) & set(paths) - {name}
        others = {room(paths[other]) for other in modules[name]} - {room(path)}
        rooms.setdefault(room(path), set()).update(others)
    assert any(modules.values()) and not circles(modules)
    assert any(rooms.values()) and not circles(rooms)
