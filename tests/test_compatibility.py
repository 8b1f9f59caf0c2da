# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from packaging.requirements import Requirement

import ibot_mm.compatibility as compatibility
from ibot_mm.compatibility import (
    MINIMUM_VERSIONS,
    check_environment,
    enable_config_inheritance,
    installed_version,
    load_config,
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


@pytest.mark.parametrize(
    ('installed', 'advice'),
    [
        ({'transformers': '5.0.0'}, 'transformers<5'),
        ({'transformers': '4.52.4'}, None),  # OneDL's goes on
        (
            {'transformers': '4.52.4', 'mmpretrain': '1.2.0', 'pycocotools': '2'},
            'transformers<4.52',
        ),
        ({'transformers': '4.51.3', 'mmpretrain': '1.2.0', 'pycocotools': '2'}, None),
    ],
)
def test_transformers_that_break_mmpretrain_are_named(tmp_path, monkeypatch, installed, advice):
    for name, version in installed.items():
        folder = tmp_path / f'{name}-{version}.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        )
    monkeypatch.syspath_prepend(tmp_path)
    if advice is None:
        check_environment()
    else:
        with pytest.raises(ImportError, match=advice):
            check_environment()


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
    names = {requirement.name for requirement in requirements('runtime')}
    assert names == {'cyclopts', 'jinja2', 'numpy', 'packaging', 'rich', 'safetensors', 'torch'}


@pytest.mark.parametrize('family, prefix', [('openmmlab', ''), ('onedl', 'onedl-')])
def test_extras_satisfy_the_minimum_versions(family, prefix):
    (torch,) = (bound for bound in requirements('runtime') if bound.name == 'torch')
    for requirement in (torch, *requirements(family)):
        (bound,) = (bound for bound in requirement.specifier if bound.operator == '>=')
        minimum = MINIMUM_VERSIONS[requirement.name.removeprefix(prefix).removesuffix('-lite')]
        assert Requirement(f'x>={minimum}').specifier.contains(bound.version)
    assert len(requirements(family)) + 1 == len(MINIMUM_VERSIONS)


def test_upstreams_extra_is_of_wheels_that_go_with_mmdet():
    """mmcv itself has no wheel, its build wants pkg_resources, and mmdet 3.3 refuses mmcv 2.2."""
    mmcv = {requirement.name: requirement for requirement in requirements('openmmlab')}['mmcv-lite']
    assert mmcv.specifier.contains('2.1.0') and not mmcv.specifier.contains('2.2.0')


def test_configs_of_the_package_can_be_inherited(tmp_path):
    enable_config_inheritance()
    (tmp_path / 'mine.py').write_text("_base_ = 'ibot_mm::pretrain/ibot_vits16.py'\nmine = 1\n")
    config = Config.fromfile(tmp_path / 'mine.py')
    assert config.mine == 1 and 'train_dataloader' in config


@pytest.mark.parametrize('package', ['mmdet', 'mmseg', 'mmpretrain'])
def test_configs_of_mm_packages_can_be_inherited(package, tmp_path):
    enable_config_inheritance()
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{package}::_base_/default_runtime.py'\n")
    assert Config.fromfile(path).default_scope == package


@pytest.mark.parametrize('installed', [False, True])
def test_a_package_is_found_by_its_distribution_or_else_by_its_import_name(
    installed, fake_package, tmp_path, monkeypatch
):
    """Upstream's distribution of a package has the name in mmengine's table, OneDL's has not."""
    (tmp_path / fake_package / '__init__.py').write_text('')
    if installed:
        information = tmp_path / 'mmfake_upstream-1.9.0.dist-info'
        information.mkdir()
        (information / 'METADATA').write_text('Name: mmfake-upstream\nVersion: 1.9.0\n')
    monkeypatch.setitem(MODULE2PACKAGE, fake_package, 'mmfake-upstream')
    monkeypatch.setitem(MODULE2PACKAGE, 'mm_not_there', 'mm-not-there')
    enable_config_inheritance()
    assert MODULE2PACKAGE[fake_package] == ('mmfake-upstream' if installed else fake_package)
    assert MODULE2PACKAGE['mm_not_there'] == 'mm-not-there'


NEEDS_MMDET = {
    'by its default scope': "default_scope = 'mmdet'",
    'by a nested type': "model = dict(neck=[dict(type='mmdet.FPN')])",
    'by inheritance': "_base_ = ['mmdet::_base_/default_runtime.py']",
}


@pytest.fixture(params=NEEDS_MMDET.values(), ids=NEEDS_MMDET.keys())
def config_of_mmdet(request, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(request.param)
    return path


def test_configs_load_where_all_is_there(config_of_mmdet):
    assert load_config(config_of_mmdet).filename == str(config_of_mmdet)


def test_missing_package_is_named_with_the_way_out(config_of_mmdet, monkeypatch):
    find_spec = compatibility.find_spec

    def hide(name, *args):
        return None if name == 'mmdet' else find_spec(name, *args)

    monkeypatch.setattr(compatibility, 'find_spec', hide)
    monkeypatch.setattr('importlib.util.find_spec', hide)  # mmengine looks it up there
    with pytest.raises(ImportError) as error:
        load_config(config_of_mmdet)
    message = str(error.value)
    assert f'{config_of_mmdet} needs mmdet, which is not installed' in message
    assert 'make setup-full' in message and 'pip install onedl-mmdetection' in message


def test_missing_operators_are_named_with_the_way_out(config_of_mmdet, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    with pytest.raises(ImportError) as error:
        load_config(config_of_mmdet)
    message = str(error.value)
    assert f'{config_of_mmdet} needs mmdet, which needs the compiled operators' in message
    assert 'make setup-full' in message and 'onedl-mmcv' in message


def test_pre_training_needs_neither_mmdet_nor_operators(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    monkeypatch.setattr(compatibility, 'find_spec', lambda name: None)
    assert load_config(REPOSITORY / 'configs/pretrain/ibot_vits16.py')


VIT = "dict(type='ibot_mm.ViTPyramid', arch='base')"
STOCK_DECAY = 'LearningRateDecayOptimizerConstructor'


@pytest.mark.parametrize('scope, prefix', [('mmdet', ''), ('mmseg', 'mmseg.')])
@pytest.mark.parametrize('name', [STOCK_DECAY, 'LayerDecayOptimizerConstructor'])
def test_layer_decay_of_other_packages_is_refused_with_ours(name, scope, prefix, tmp_path):
    path = tmp_path / 'mine.py'
    text = f"""default_scope = '{scope}'
model = dict(type='EncoderDecoder', backbone={VIT})
optim_wrapper = dict(constructor='{prefix}{name}', paramwise_cfg=dict(num_layers=12))
"""
    path.write_text(text)
    with pytest.raises(ValueError, match=f'{name} of {scope}.*ibot_mm.LayerDecayConstructor'):
        load_config(path)
    path.write_text(text.replace('ibot_mm.ViTPyramid', 'mmpretrain.ConvNeXt'))
    assert load_config(path)
    path.write_text(text.replace(f'{prefix}{name}', 'ibot_mm.LayerDecayConstructor'))
    assert load_config(path)


def test_a_classifier_on_all_tokens_is_refused_with_the_option(tmp_path):
    path = tmp_path / 'mine.py'
    text = """default_scope = 'mmpretrain'
head = dict(type='LinearClsHead', num_classes=3, in_channels=768)
backbone = dict(type='ibot_mm.MaskedVisionTransformer')
model = dict(type='ImageClassifier', backbone=backbone, head=head)
"""
    path.write_text(text)
    with pytest.raises(ValueError, match='out_type="cls_token"'):
        load_config(path)
    path.write_text(text.replace("Transformer'", "Transformer', out_type='cls_token'"))
    assert load_config(path)
    path.write_text(text.replace('head=head', "neck=dict(type='GlobalAveragePooling'), head=head"))
    assert load_config(path)


STOCK_TOOL = 'import sys; from mmengine.config import Config; Config.fromfile(sys.argv[1])'


@pytest.mark.slow
@pytest.mark.parametrize(
    'base',
    [
        "[__import__('ibot_mm') and 'ibot_mm::_base_/default_runtime.py']",
        pytest.param(
            "__import__('ibot_mm') and 'ibot_mm::pretrain/ibot_vits16.py'", marks=pytest.mark.long
        ),
    ],
)
def test_a_config_for_tools_that_do_not_import_the_package(base, tmp_path):
    (tmp_path / 'mine.py').write_text(f'_base_ = {base}\n')
    command = [sys.executable, '-c', STOCK_TOOL, str(tmp_path / 'mine.py')]
    subprocess.run(command, check=True, cwd=REPOSITORY)


def test_other_missing_modules_are_not_explained_away(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = ['mmrotate::_base_/default_runtime.py']")
    with pytest.raises(ModuleNotFoundError, match='mmrotate is not installed'):
        load_config(path)


@pytest.mark.slow
def test_reading_a_config_prints_nothing_that_a_user_can_do_nothing_about():
    """In a process of its own: packages speak when they are first imported."""
    config = REPOSITORY / 'configs/pretrain/ibot_vits16.py'
    code = f'from ibot_mm.compatibility import load_config; load_config({str(config)!r})'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
