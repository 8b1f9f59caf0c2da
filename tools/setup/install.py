# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Install the tested environment into a virtual environment, nothing twice.

Each stage builds on another: ``pretrain`` is what pre-training needs, without compiled operators;
``docs`` adds to it what builds the documentation, ``downstream`` mmcv's compiled operators, mmdet
and mmseg; ``full`` has both, and the test tools. A finished stage leaves a stamp in the
environment, which holds until a requirement file, setup.py or this script changes.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# Stage -> those that build on it.
STAGES = dict(
    pretrain=('docs', 'downstream', 'full'), docs=('full',), downstream=('full',), full=()
)
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'ibot_mm' / 'wheels'

# Run inside the environment: the folder of wheels compiled for these very versions, and the folder
# where a compiler looks for Python.h.
FACTS = """
import re, sys, sysconfig
from importlib.metadata import version
mmcv = re.search('^onedl-mmcv==(.+)$', open('requirements/pins.txt').read(), re.M).group(1)
print('mmcv{}-torch{}-cp{}{}'.format(mmcv, version('torch'), *sys.version_info[:2]))
print(sysconfig.get_paths()['include'])
"""


class SetupError(Exception):
    """A reason to stop, with advice; shown without a traceback."""


@contextlib.contextmanager
def locked(path: Path):
    """Hold a lock file, so that set-ups at the same time wait for each other."""
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f'==> waiting for another set-up, which holds {path}', flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Environment:
    """A virtual environment and its stages."""

    def __init__(self, path: Path):
        self.path = path
        self.python = path / 'bin' / 'python'
        files = [*sorted(TOP.glob('requirements/*.txt')), TOP / 'setup.py', Path(__file__)]
        self.fingerprint = hashlib.sha256(b''.join(f.read_bytes() for f in files)).hexdigest()

    def reach(self, stage: str) -> None:
        """Bring the environment to a stage, unless its stamp says that it is there."""
        stamp = self.path / f'.ibot_mm-{stage}'
        if stamp.exists() and stamp.read_text() == self.fingerprint:
            return
        for name in (stage, *STAGES[stage]):
            (self.path / f'.ibot_mm-{name}').unlink(missing_ok=True)
        getattr(self, stage)()
        stamp.write_text(self.fingerprint)

    def pretrain(self) -> None:
        self.create()
        self.pip(
            'installing torch and the rest; downloads about 2 GB',
            *('install', '-r', 'requirements/build.txt', '-r', 'requirements/runtime.txt'),
            *('-r', 'requirements/mm_dependencies.txt', '-r', 'requirements/demo.txt'),
            'torchvision',
        )
        self.install_mmcv()
        self.pip('mmengine, mmpretrain', 'install', '--no-deps', '-r', 'requirements/onedl.txt')
        self.pip('ibot_mm', 'install', '--no-deps', '--no-build-isolation', '--editable', '.')
        self.run('checking the imports', '-c', 'import ibot_mm, mmcv, mmpretrain')

    def docs(self) -> None:
        self.reach('pretrain')
        self.pip('documentation', 'install', '-r', 'requirements/docs.txt')

    def downstream(self) -> None:
        self.reach('pretrain')
        self.compile_mmcv()
        self.install_mmcv()
        self.pip('mmdet, mmseg', 'install', '--no-deps', '-r', 'requirements/downstream.txt')
        self.run('checking the imports', '-c', 'import mmcv.ops, mmdet.apis, mmseg.apis')

    def full(self) -> None:
        self.reach('downstream')
        self.reach('docs')
        self.pip(
            'test tools and readers for tests',
            *('install', '-r', 'requirements/test.txt', '-r', 'requirements/sensors.txt'),
        )

    def create(self) -> None:
        if (self.path / 'bin' / 'pip').exists():
            return
        try:
            import ensurepip  # noqa: F401
        except ImportError:
            raise SetupError('module ensurepip is missing: apt-get install python3-venv') from None
        print(f'==> set-up: creating {self.path}', flush=True)
        subprocess.run([sys.executable, '-m', 'venv', self.path], check=True)

    def install_mmcv(self) -> None:
        """Install the compiled wheel if the cache has one, else build mmcv without operators.

        pip builds it apart from torch, which leaves the operators out in seconds. pip's own wheel
        cache stays unused: a wheel compiled for another torch gives `undefined symbol` errors.
        """
        folder, _ = self.facts()
        options = ['--no-deps', '--force-reinstall', '--no-cache-dir', '--find-links', folder]
        self.pip('mmcv', 'install', *options, 'onedl-mmcv')

    def compile_mmcv(self) -> None:
        """Put a wheel of mmcv with compiled operators into the cache, unless there is one."""
        folder, include = self.facts()
        with locked(folder / '.lock'):
            if any(folder.glob('*.whl')):
                return
            if not shutil.which(os.environ.get('CXX', 'g++')):
                raise SetupError('there is no C++ compiler: apt-get install g++')
            if not (include / 'Python.h').exists():
                raise SetupError(f'there is no {include}/Python.h: apt-get install python3-dev')
            print(
                '==> set-up: compiling the operators of mmcv for CPU takes about 11 minutes on two '
                f'cores, once per version of mmcv, torch and Python; the wheel is kept in {folder}'
            )
            with tempfile.TemporaryDirectory(prefix='.build-', dir=folder) as build:
                self.pip(
                    'mmcv with operators',
                    *('wheel', '--no-deps', '--no-cache-dir', '--no-build-isolation'),
                    *('--wheel-dir', build, 'onedl-mmcv'),
                    FORCE_CUDA='0',
                    CUDA_VISIBLE_DEVICES='',
                    MAX_JOBS=os.environ.get('MAX_JOBS', str(os.cpu_count())),
                )
                (wheel,) = Path(build).glob('*.whl')
                wheel.replace(folder / wheel.name)

    def facts(self) -> tuple:
        command = [self.python, '-c', FACTS]
        key, include = subprocess.check_output(command, cwd=TOP, text=True).splitlines()
        (CACHE / key).mkdir(parents=True, exist_ok=True)
        return CACHE / key, Path(include)

    def pip(self, what: str, action: str, *arguments: object, **variables: str) -> None:
        """Run pip under the pinned versions."""
        options = ['--no-input', '--disable-pip-version-check', '-c', 'requirements/pins.txt']
        self.run(what, '-m', 'pip', action, *options, *arguments, **variables)

    def run(self, what: str, *command: object, **variables: str) -> None:
        """Run the environment's Python in the repository, announced by one line."""
        print(f'==> set-up: {what}', flush=True)
        status = subprocess.call([self.python, *command], cwd=TOP, env={**os.environ, **variables})
        if status:
            raise SetupError(f'"{what}" ended with status {status}; its messages are above')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('stage', choices=STAGES)
    parser.add_argument('--venv', default='.venv', help='folder of the environment')
    arguments = parser.parse_args()
    try:
        if sys.version_info < (3, 10):
            raise SetupError(
                f'Python >= 3.10 is needed and {sys.executable} is {sys.version.split()[0]}; '
                'name another one: make ... PYTHON=python3.11'
            )
        environment = Environment(Path(arguments.venv).absolute())
        environment.path.mkdir(parents=True, exist_ok=True)
        with locked(environment.path / '.ibot_mm-lock'):
            environment.reach(arguments.stage)
    except (SetupError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f'set-up failed: {error}')
    except KeyboardInterrupt:
        sys.exit('set-up interrupted; run it again to go on')


if __name__ == '__main__':
    main()
