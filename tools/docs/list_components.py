# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Write docs/components.md: every registered component and its purpose in one sentence."""

import argparse
import inspect
import re
from pathlib import Path

from mmengine.registry import Registry

from ibot_mm import registry

PAGE = Path(__file__).parents[2] / 'docs/components.md'
HEAD = """# Components

Every type that this project registers. Write it with the scope, `type='ibot_mm.IBOT'`, in any mm
config; [mixing.md](mixing.md) has whole examples. The docstring of a type lists its arguments.
`python tools/docs/list_components.py` writes this page.
"""


def registries() -> list[Registry]:
    """List the project's registries."""
    return [value for value in vars(registry).values() if _is_own(value)]


def _is_own(value: object) -> bool:
    return isinstance(value, Registry) and value.scope == registry.SCOPE


def components(own: Registry) -> dict[str, type]:
    """List what a registry holds, by name."""
    own.import_from_location()
    return dict(sorted(own.module_dict.items()))


def page() -> str:
    """Compose the page."""
    sections = [HEAD]
    for own in registries():
        rows = [f'## {own.name.capitalize()}s\n', '| type | what it does |', '|---|---|']
        for name, component in components(own).items():
            first = inspect.getdoc(component).split('\n\n')[0].replace('\n', ' ')
            first = re.sub(r':(?:class|func|meth):`~?(?:\w+\.)*(\w+)`', r'`\1`', first)
            rows.append(f'| `{name}` | {first.replace("``", "`")} |')
        sections.append('\n'.join(rows) + '\n')
    return '\n'.join(sections)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page())
    print(f'wrote {PAGE}')
