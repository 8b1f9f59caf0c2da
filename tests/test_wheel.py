# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Source archive and wheel: built, installed in an environment of its own, used from elsewhere.

The environment sees the packages of this one, so that nothing is downloaded, but not this checkout.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

TOP = Path(__file__).parents[1]
SMALL = [
    'model.backbone.arch=tiny', 'model.neck.in_channels=192',
    'model.backbone.img_size=16', 'model.backbone.patch_size=8',
    'model.neck.hidden_channels=32', 'model.neck.bottleneck_channels=16',
    'train_dataloader.dataset.pipeline.crops.global_crop_size=16',
    'train_dataloader.dataset.pipeline.crops.num_local_crops=0',
    'train_dataloader.dataset.pipeline.masks.patch_size=8', 'train_dataloader.batch_size=4',
    'train_cfg.max_epochs=3', 'train_cfg.val_interval=9', 'param_scheduler.0.warmup=1',
    'default_hooks.temperature.warmup_epochs=1', 'default_hooks.prototypes.epochs=1',
    *(f'{split}_dataloader.{key}' for split in ('train', 'test')
      for key in ('num_workers=0', 'persistent_workers=False')),
]  # fmt: skip


def run(*words, cwd, **environment):
    variables = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    variables |= dict(OMP_NUM_THREADS='1') | environment
    command = [str(word) for word in words]
    result = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
    """The source archive, and the wheel built from what is in it."""
    folder = tmp_path_factory.mktemp('archives')
    ignored = shutil.ignore_patterns('.*_cache', '.git', '.venv', 'work_dirs', 'data', '*.pyc')
    source = Path(shutil.copytree(TOP, folder / 'source', ignore=ignored, symlinks=True))
    build = 'from setuptools import build_meta; print(build_meta.build_{}({!r}))'
    run(sys.executable, '-c', build.format('sdist', str(folder)), cwd=source)
    (sdist,) = folder.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / 'unpacked', filter='data')
    (unpacked,) = (folder / 'unpacked').iterdir()
    run(sys.executable, '-c', build.format('wheel', str(folder)), cwd=unpacked)
    (wheel,) = folder.glob('*.whl')
    return sdist, wheel


@pytest.fixture(scope='module')
def environment(archives, tmp_path_factory):
    """The folder of an environment's programs, in which the wheel is installed."""
    folder = tmp_path_factory.mktemp('environment')
    run(sys.executable, '-m', 'venv', '--without-pip', folder, cwd=folder)
    (packages,) = folder.glob('lib/python*/site-packages')
    (packages / 'shared.pth').write_text(sysconfig.get_paths()['purelib'] + '\n')
    options = ('--no-deps', '--no-index', '--force-reinstall', '--quiet')
    pip = (sys.executable, '-m', 'pip', '--python', folder / 'bin/python')
    run(*pip, 'install', *options, archives[1], cwd=folder)
    return folder / 'bin'


def test_the_wheel_has_what_it_reads_at_run_time(archives):
    names = set(zipfile.ZipFile(archives[1]).namelist())
    for path in (TOP / 'ibot_mm').rglob('*'):
        name = path.relative_to(TOP).as_posix()
        if path.is_file() and '__pycache__' not in name and '/.mim/' not in name:
            assert name in names, name
    for folder in ('configs', 'tools'):
        for path in (TOP / folder).rglob('*'):
            if path.suffix in ('.py', '.sh', '.yml') and '__pycache__' not in str(path):
                assert f'ibot_mm/.mim/{path.relative_to(TOP).as_posix()}' in names, path
    assert 'ibot_mm/.mim/model-index.yml' in names


def test_the_command_runs_from_another_folder(environment, tmp_path):
    assert 'vitb16' in run(environment / 'ibot-mm', 'list', 'models', cwd=tmp_path)
    where = run(
        environment / 'python', '-c', 'import ibot_mm; print(ibot_mm.__file__)', cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(environment.parent)


def test_the_road_of_mim(environment, tmp_path, image_folder):
    """What `mim train ibot_mm ibot_vit_demo.py` and `mim test` do, by mmengine's function.

    They look for config and tool below `.mim` of the installed package, in any folder.
    """
    find = "from mmengine.utils import get_installed_path; print(get_installed_path('ibot_mm'))"
    root = Path(run(environment / 'python', '-c', find, cwd=tmp_path).split()[-1])
    assert root.is_relative_to(environment.parent)
    (config,) = root.rglob('ibot_vit_demo.py')
    roots = [
        f'{loader}.data_root={image_folder}'
        for loader in (
            'train_dataloader.dataset',
            *(
                f'{s}_dataloader.dataset.{part}'
                for s in ('val', 'test')
                for part in ('bank', 'query')
            ),
        )
    ]
    options = ['--launcher', 'none', '--work-dir', 'run', '--cfg-options', *SMALL, *roots]
    tools = root / '.mim/tools'
    run(environment / 'python', tools / 'train.py', config, *options, cwd=tmp_path)
    assert (tmp_path / 'run/epoch_3.pth').exists()
    tested = run(
        environment / 'python', tools / 'test.py', config, 'run/epoch_3.pth', *options, cwd=tmp_path
    )
    assert 'knn/top1' in tested
