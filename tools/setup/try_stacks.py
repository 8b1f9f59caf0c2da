# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Install each stack of versions into an environment of its own and run the tests there.

    python tools/setup/try_stacks.py                      # all: hours, most of them for compilers
    python tools/setup/try_stacks.py python3.12 --keep    # one, its environment stays

Writes the table of docs/stacks.md, and under --out the output of every command.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / 'docs/stacks.md'
VERSIONS = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'numpy')
FAST = ['-m', 'not slow and not long']
# Tests among those of pre-training that need mmdet.
NEED_OPERATORS = [
    'tests/test_models/test_vit_pyramid.py',
    'tests/test_engine/test_channel_check.py',
    'tests/test_engine/test_layer_decay.py',
]
# What is tested -> arguments of pytest. Detection only where the operators are compiled.
GROUPS = {
    'pre-training': [
        *('tests/test_functional', 'tests/test_datasets', 'tests/test_models', 'tests/test_engine'),
        *('tests/test_checkpoint', 'tests/test_configs.py', 'tests/test_create.py'),
        *FAST,
    ],
    'classification': [
        *('tests/test_evaluation', 'tests/test_classification', '-m', 'not long'),
    ],
    'detection and segmentation': ['tests/test_downstream', '-m', 'not long'],
}
HEAD = """# Stacks

What `python tools/setup/try_stacks.py` found, which installs each stack into an environment of its
own and runs the tests there: passed / failed. `make test` runs all tests on the pinned versions
(`requirements/pins.txt`), and is not repeated here. Detection and segmentation are tried where
the operators of mmcv are compiled.
"""
TAIL = """
**What does not work, and is said.** torch before 2.6: refused at import. Weights in shards with
torch 2.6: refused when they are set. Transformers 4.52 and later beside upstream's mmpretrain and
pycocotools, 5 beside OneDL's: refused at import. The compiler says it of mmcv 2.3.6 with torch
2.14: the headers of this torch ask for C++20, and mmcv compiles as C++17.

**What fails of the tests.** With torch 2.6: 23 of shards, 4 about GPUs where there is none. On
Python 3.10, with both versions of torch: one of packing, of a shard without images, repaired since.
With upstream's packages: those of DINOv3, which transformers 4.51 does not have.
"""
TOOLS = [
    'pytest',
    'pytest-xdist',
    'timm',
    'onnx',
    'onnxscript',
    'onnxruntime',
    'pyarrow',
    'transformers<5',
]
BUILD = ['ninja', 'psutil', 'wheel']
COMPILE = ['--no-deps', '--no-build-isolation', '--no-cache-dir', '--force-reinstall']
PACKAGES = ['-r', 'requirements/runtime.txt', '-r', 'requirements/mm_dependencies.txt',
            '-r', 'requirements/demo.txt']  # fmt: skip


@dataclass
class Stack:
    """Versions that are installed together.

    Args:
        python: Such as '3.11'; looked for as ``python3.11``.
        stage: Of tools/setup/install.py, for the pinned versions. Defaults to '', none.
        steps: Arguments of ``pip install``, one list a call, after the stage.
        operators: Whether mmcv's are compiled.
    """

    python: str
    stage: str = ''
    steps: list[list[str]] = field(default_factory=list)
    operators: bool = False


# Upstream's packages. mmpretrain 1.2.0 imports what transformers 4.52 took out.
UPSTREAM = ['--no-deps', 'mmengine==0.10.7', 'mmpretrain==1.2.0']
UPSTREAM_TOOLS = [*TOOLS[:-1], 'transformers<4.52']

STACKS = {
    'pinned': Stack('3.11', stage='full', operators=True),
    'python3.10': Stack('3.10', stage='pretrain', steps=[['-r', 'requirements/test.txt']]),
    'python3.12': Stack('3.12', stage='pretrain', steps=[['-r', 'requirements/test.txt']]),
    'python3.13': Stack('3.13', stage='pretrain', steps=[['-r', 'requirements/test.txt']]),
    'upstream': Stack(
        '3.11',
        steps=[
            ['torch==2.11.0', 'torchvision==0.26.0', *PACKAGES, *BUILD, 'setuptools<80'],
            [*UPSTREAM, 'mmdet==3.3.0', 'mmsegmentation==1.2.2'],
            [*COMPILE, 'mmcv==2.1.0'],
            UPSTREAM_TOOLS,
        ],
        operators=True,
    ),
    'oldest torch': Stack(
        '3.10',
        steps=[
            ['torch==2.6.0', 'torchvision==0.21.0', *PACKAGES, *BUILD, 'setuptools<80'],
            [*UPSTREAM, 'mmcv-lite==2.1.0'],
            UPSTREAM_TOOLS,
        ],
    ),
    # The newest torch that the operators compile on: 2.14 asks for C++20, and mmcv for C++17.
    'newest': Stack(
        '3.12',
        steps=[
            ['torch==2.13.0', 'torchvision==0.28.0', *PACKAGES, *BUILD, 'setuptools>=80,<82'],
            ['--no-deps', 'onedl-mmengine', 'onedl-mmpretrain'],
            ['--no-deps', 'onedl-mmdetection', 'onedl-mmsegmentation', 'imaug'],
            [*COMPILE, 'onedl-mmcv'],
            TOOLS,
        ],
        operators=True,
    ),
}  # fmt: skip


@dataclass
class Outcome:
    """What was installed, and what the tests said."""

    python: str
    versions: dict[str, str]
    tests: dict[str, str]
    date: str


class Environment:
    """The environment of one stack, and the log of all that is done there."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder.with_name(f'{folder.name}.log')
        self.python = folder / 'bin/python'
        self.log.unlink(missing_ok=True)

    def run(self, *command: object) -> str:
        """Run a command; its output goes to the log.

        Raises:
            SystemExit: If it fails, with the end of its output.
        """
        status, output = self.attempt(*command)
        if status:
            raise SystemExit(f'{command} failed, see {self.log}:\n{output[-2000:]}')
        return output

    def attempt(self, *command: object) -> tuple[int, str]:
        """Run a command that may fail; return its exit status and its output."""
        words = [str(word) for word in command]
        with open(self.log, 'a+') as file:
            file.write(f'$ {" ".join(words)}\n')
            file.flush()
            start = file.tell()
            status = subprocess.run(words, cwd=TOP, stdout=file, stderr=subprocess.STDOUT)
            file.seek(start)
            return status.returncode, file.read()

    def install(self, stack: Stack) -> None:
        """Make the environment, unless an earlier call has finished the same one."""
        stamp = self.folder / '.stack'
        if stamp.exists() and stamp.read_text() == repr(stack):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        interpreter = f'python{stack.python}'
        if stack.stage:
            self.run(interpreter, 'tools/setup/install.py', stack.stage, '--venv', self.folder)
        else:
            self.run(interpreter, '-m', 'venv', self.folder)
        pins = ['-c', 'requirements/pins.txt'] if stack.stage else []
        for step in stack.steps:
            self.run(self.python, '-m', 'pip', 'install', *pins, *step)
        if not stack.stage:
            self.run(self.python, '-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '.')
        stamp.write_text(repr(stack))

    def versions(self) -> dict[str, str]:
        """Read what is installed, by import name."""
        code = (
            'import importlib, json\nfound = {}\n'
            f'for name in {VERSIONS}:\n'
            '    try: found[name] = importlib.import_module(name).__version__\n'
            '    except ImportError: pass\n'
            'print(); print(json.dumps(found))'
        )
        return json.loads(self.run(self.python, '-c', code).splitlines()[-1])

    def test(self, arguments: list[str], workers: int) -> str:
        """Run tests and count."""
        pytest = [self.python, '-m', 'pytest', '-q', '-n', workers, '-p', 'no:cacheprovider']
        _, output = self.attempt(*pytest, *arguments)
        last = re.findall(r'^=*\s*(\d+ .* in [\d.]+s.*)$', output, re.M)[-1:]
        counts = dict(re.findall(r'(\d+) (passed|failed|errors?)', ''.join(last)))
        numbers = {kind.rstrip('s'): int(number) for number, kind in counts.items()}
        if not numbers:
            return 'none ran'
        failed = numbers.get('failed', 0) + numbers.get('error', 0)
        return f'{numbers.get("passed", 0)} / {failed}'


def try_stack(name: str, out: Path, workers: int, keep: bool) -> Outcome:
    """Install one stack and run its tests."""
    stack = STACKS[name]
    environment = Environment(out / name.replace(' ', '_'))
    try:
        environment.install(stack)
        left_out = [] if stack.operators else [f'--ignore={path}' for path in NEED_OPERATORS]
        tests = {
            group: environment.test(arguments + left_out, workers)
            for group, arguments in GROUPS.items()
            if stack.operators or 'tests/test_downstream' not in arguments
        }
        date = f'{datetime.now():%Y-%m}'
        return Outcome(stack.python, environment.versions(), tests, date)
    finally:
        if not keep:
            shutil.rmtree(environment.folder, ignore_errors=True)


def table(outcomes: dict[str, Outcome]) -> str:
    """Compose the page."""
    columns = ['stack', 'Python', *VERSIONS, *GROUPS, 'tried']
    rows = [f'| {" | ".join(columns)} |', '|---' * len(columns) + '|']
    for name in STACKS:
        if found := outcomes.get(name):
            cells = [name, found.python, *(found.versions.get(v, '–') for v in VERSIONS)]
            cells += [*(found.tests.get(group, '–') for group in GROUPS), found.date]
            rows.append(f'| {" | ".join(cells)} |')
    return HEAD + '\n' + '\n'.join(rows) + '\n' + TAIL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('stacks', nargs='*', metavar='STACK', help=f'default: {", ".join(STACKS)}')
    parser.add_argument(
        '--out', type=Path, default=TOP / 'build/stacks', help='default: build/stacks'
    )
    parser.add_argument('--workers', type=int, default=2, help='of pytest, default: 2')
    parser.add_argument('--keep', action='store_true', help='keep the environments')
    args = parser.parse_args()
    if unknown := [name for name in args.stacks if name not in STACKS]:
        parser.error(f'no stack {unknown[0]!r}: there are {", ".join(STACKS)}')
    args.out.mkdir(parents=True, exist_ok=True)
    record = args.out / 'stacks.json'
    known = json.loads(record.read_text()) if record.exists() else {}
    outcomes = {name: Outcome(**values) for name, values in known.items()}
    for name in args.stacks or STACKS:
        print(f'==> {name}', flush=True)
        try:
            outcomes[name] = try_stack(name, args.out, args.workers, args.keep)
        except SystemExit as failure:
            print(failure, file=sys.stderr)
            continue
        record.write_text(json.dumps({n: asdict(o) for n, o in outcomes.items()}, indent=2) + '\n')
        PAGE.write_text(table(outcomes))
        print(outcomes[name], flush=True)


if __name__ == '__main__':
    main()
