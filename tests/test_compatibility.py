# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from packaging.requirements import Requirement

from ibot_mm.compatibility import (
    MINIMUM_VERSIONS,
    check_environment,
    enable_config_inheritance,
    installed_version,
)

REPOSITORY = Path(__file__).parents[1]


def requirements(name: str) -> list[Requirement]:
    lines = (REPOSITORY / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith('#')]


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    (tmp_path / 'mmfake').mkdir()
    (tmp_path / 'mmfake' / '__init__.py').write_text('raise RuntimeError("imported")')
    (tmp_path / 'mmfake' / 'version.py').write_text('__version__ = "1.9.0"')
    monkeypatch.syspath_prepend(tmp_path)
    return 'mmfake'


def test_this_environment_will_do():
    check_environment()


def test_version_is_read_without_import(fake_package):
    assert installed_version(fake_package) == '1.9.0'
    assert installed_version('mm_not_there') is None


@pytest.mark.parametrize('minimum', ['1.9.0', '1.8.10'])
def test_recent_enough(fake_package, minimum):
    check_environment({fake_package: minimum})


def test_error_names_every_fault_and_the_way_out(fake_package):
    with pytest.raises(ImportError) as error:
        check_environment({fake_package: '1.10.0', 'mm_not_there': '2.0'})
    message = str(error.value)
    assert 'mmfake 1.9.0 is older than 1.10.0' in message
    assert 'mm_not_there >= 2.0 is not installed' in message
    assert "pip install 'ibot-mm[onedl]'" in message
    assert "pip install 'ibot-mm[openmmlab]'" in message


def test_package_import_checks_the_environment(tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    (tmp_path / 'mmcv' / 'version.py').write_text('__version__ = "1.7.2"')
    result = subprocess.run(
        [sys.executable, '-c', 'import ibot_mm'],
        env={'PYTHONPATH': f'{tmp_path}:{REPOSITORY}'},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert 'ImportError: ibot_mm cannot work here: mmcv 1.7.2 is older than' in result.stderr


def test_no_mm_package_is_a_hard_requirement():
    assert {r.name for r in requirements('runtime')} == {'numpy', 'packaging', 'torch'}


@pytest.mark.parametrize('family, prefix', [('openmmlab', ''), ('onedl', 'onedl-')])
def test_extras_satisfy_the_minimum_versions(family, prefix):
    for requirement in requirements(family):
        (bound,) = requirement.specifier
        minimum = MINIMUM_VERSIONS[requirement.name.removeprefix(prefix)]
        assert bound.operator == '>='
        assert Requirement(f'x>={minimum}').specifier.contains(bound.version)
    assert len(requirements(family)) == len(MINIMUM_VERSIONS)


def test_configs_of_the_package_can_be_inherited(tmp_path):
    enable_config_inheritance()
    (tmp_path / 'mine.py').write_text("_base_ = 'ibot_mm::pretrain/ibot_vits16.py'\nmine = 1\n")
    config = Config.fromfile(tmp_path / 'mine.py')
    assert config.mine == 1 and 'train_dataloader' in config
