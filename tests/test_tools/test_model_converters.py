# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The converters and the verifier, as a user calls them."""

import re
import runpy
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
import transformers
from mmengine.registry import MODELS

from ibot_mm.checkpoint import Checkpoint, verify
from ibot_mm.models import MaskedVisionTransformer

TOOLS = Path(__file__).parents[2] / 'tools'
CONVERTERS = ['export_backbone', 'publish_model', 'convert_to_ibot_mm', 'export_onnx']
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


@pytest.fixture(autouse=True)
def no_configs(tmp_path, monkeypatch):
    """The verifier's comparison with this project's configs is tested elsewhere."""
    monkeypatch.setattr(verify, 'CONFIGS', tmp_path / 'none')
    verify.backbone_configs.cache_clear()
    yield
    verify.backbone_configs.cache_clear()


@pytest.fixture
def run(capsys):
    """Run a tool, give its exit and what it printed."""

    def call(name, *args):
        folder = 'model_converters' if name in CONVERTERS else 'analysis_tools'
        main = runpy.run_path(str(TOOLS / folder / f'{name}.py'))['main']
        code = None
        try:
            main([str(arg) for arg in args])
        except SystemExit as exit:
            code = exit.code
        return code, capsys.readouterr().out

    return call


@pytest.fixture
def networks():
    """Teacher and student that differ, both moved from their start."""
    torch.manual_seed(0)
    built = {}
    for network in ('teacher', 'student'):
        options = dict(arch=ARCH, img_size=32, patch_size=8, mask_token=network == 'student')
        built[network] = MaskedVisionTransformer(**options).eval()
        for parameter in built[network].parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return built


@pytest.fixture
def checkpoint(networks, tmp_path):
    """As a pre-training saves it, but for its config."""
    prefixes = dict(teacher='teacher.backbone.', student='backbone.')
    state = {
        prefixes[network] + name: tensor
        for network, model in networks.items()
        for name, tensor in model.state_dict().items()
    }
    content = dict(
        state_dict=state | {'neck.layers.0.weight': torch.zeros(4, 4)},
        optimizer=dict(state={0: dict(exp_avg=torch.zeros(1000, 100))}),
        meta=dict(cfg=f'model = dict(backbone=dict(arch={ARCH}))', epoch=3),
    )
    torch.save(content, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth'


@pytest.mark.long
def test_training_to_every_library(tiny_config, train, run, tmp_path):
    """From a training to features in timm and transformers, and on the published road."""
    tiny_config.train_cfg.update(max_epochs=2)
    model = train(tiny_config).model
    checkpoint = Path(tiny_config.work_dir) / 'epoch_2.pth'
    images = torch.randn(2, 3, 16, 16)
    code, text = run('verify_checkpoint', checkpoint)
    assert code == 0 and '2, by the config in the file' in text
    for network in ('teacher', 'student'):
        backbone = (model.teacher.backbone if network == 'teacher' else model.backbone).eval()
        with torch.no_grad():
            expected = backbone(images)[-1]
        for library in ('timm', 'huggingface', 'mmpretrain', 'published'):
            out = tmp_path / f'{network}_{library}'
            if library != 'huggingface':
                out = out.with_suffix('.safetensors' if library == 'timm' else '.pth')
            code, text = run(
                'export_backbone', checkpoint, out, '--to', library, '--network', network
            )
            assert code is None
            left_out = 'left out: the mask token' in text
            assert left_out == (network == 'student' and library != 'published')
            if library == 'timm':
                tokens = (
                    eval(text.splitlines()[-1], dict(timm=timm)).eval().forward_features(images)
                )
            elif library == 'huggingface':
                tokens = (
                    eval(text.splitlines()[-1], dict(transformers=transformers))
                    .eval()(images)
                    .last_hidden_state
                )
            else:
                back = tmp_path / f'back_{library}_{network}.pth'
                assert run('convert_to_ibot_mm', out, back)[0] is None
                again = MaskedVisionTransformer(
                    **{k: v for k, v in tiny_config.model.backbone.items() if k != 'type'}
                    | dict(mask_token=library == 'published' and network == 'student')
                ).eval()
                again.load_state_dict(torch.load(back)['state_dict'], strict=True)
                tokens = again(images)[-1]
            torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('network', ['teacher', 'student'])
def test_export_backbone(network, checkpoint, networks, run, tmp_path):
    out = tmp_path / 'vit.safetensors'
    code, text = run('export_backbone', checkpoint, out, '--to', 'timm', '--network', network)
    assert code is None and f"{out}: for timm's VisionTransformer" in text
    assert 'heads and other networks' in text  # which are left out
    model = eval(text.splitlines()[-1], dict(timm=timm)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = networks[network](images)[-1]
        torch.testing.assert_close(model.forward_features(images), expected, atol=1e-5, rtol=1e-5)


def test_export_of_a_training_with_a_timm_model(run, tmp_path):
    model = timm.create_model('vit_tiny_patch16_224', depth=1, num_classes=0)
    state = {f'backbone.timm_model.{n}': t for n, t in model.state_dict().items()}
    state |= {f'teacher.{n}': t for n, t in state.items()}
    torch.save(dict(state_dict=state | {'backbone.mask_token': torch.zeros(1, 1, 192)}),
               tmp_path / 'x.pth')  # fmt: skip
    out = tmp_path / 'vit.safetensors'
    assert run('export_backbone', tmp_path / 'x.pth', out, '--to', 'timm')[0] is None
    weights = Checkpoint.open(out).tensors
    assert all(torch.equal(weights[n], t) for n, t in model.state_dict().items())
    assert len(weights) == len(model.state_dict())
    # Others know a plain one by its names.
    code, _ = run(
        'export_backbone', tmp_path / 'x.pth', tmp_path / 'hf', '--to', 'huggingface',
        '--assume', 'num_heads=3',
    )  # fmt: skip
    assert code is None and (tmp_path / 'hf/config.json').exists()


@pytest.mark.parametrize('ending', ['safetensors', 'pth'])
def test_publish_model(ending, checkpoint, run, tmp_path):
    args = [] if ending == 'safetensors' else [tmp_path / 'model.pth']
    code, text = run('publish_model', checkpoint, *args)
    name = re.search(r'(epoch_3|model)-[0-9a-f]{8}\.(safetensors|pth)', text)[0]
    assert code is None and name.endswith(ending)
    published = tmp_path / name
    assert published.stat().st_size < checkpoint.stat().st_size / 2
    assert run('verify_checkpoint', published)[0] == 0
    for network in ('teacher', 'student'):  # both go on from it
        out = tmp_path / f'{network}.pth'
        assert run('convert_to_ibot_mm', published, out, '--network', network)[0] is None


def test_convert_to_ibot_mm(checkpoint, networks, run, tmp_path):
    """The printed config and mmengine's own initializer."""
    code, text = run('convert_to_ibot_mm', checkpoint, tmp_path / 'vit.pth')
    assert code is None and 'loaded' in text
    config = {}
    exec(text[re.search('^model ?=', text, re.MULTILINE).start() :], config)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    backbone = MODELS.build(dict(config['model']['backbone'], init_cfg=init_cfg))
    state = torch.load(tmp_path / 'vit.pth', weights_only=True)['state_dict']
    backbone.load_state_dict(state, strict=True)
    for parameter in backbone.parameters():
        torch.nn.init.zeros_(parameter)
    backbone.init_weights()
    expected = networks['teacher'].state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in backbone.state_dict().items())


@pytest.mark.long
@pytest.mark.parametrize('ending', ['onnx', 'pt2'])
def test_export_onnx(ending, checkpoint, networks, run, tmp_path):
    out = tmp_path / f'new/vit.{ending}'
    assert run('export_onnx', checkpoint, out)[0] is None
    images = torch.randn(1, 3, 40, 24)
    with torch.no_grad():
        expected = networks['teacher'](images)[-1]
    if ending == 'onnx':
        session = onnxruntime.InferenceSession(out)
        tokens = torch.from_numpy(session.run(None, dict(images=images.numpy()))[0])
    else:
        tokens = torch.export.load(out).module()(images)[-1]
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)


def test_verify_checkpoint(checkpoint, run, tmp_path):
    code, text = run('verify_checkpoint', checkpoint)
    assert code == 0
    for line in ('role         teacher', 'role         student', 'patch        8 x 8',
                 'heads        2, by the config in the file', 'beside       neck (1)'):  # fmt: skip
        assert line in text
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['backbone.cls_token'][0, 0, 0] = torch.nan
    torch.save(content, tmp_path / 'faulty.pth')
    code, text = run('verify_checkpoint', tmp_path / 'faulty.pth')
    assert code == 1 and 'state_dict.backbone.cls_token: 1 nan, 0 infinite, of 32' in text


# Tool, arguments after the checkpoint, message.
WRONG = [
    ('export_backbone', ['x.bin', '--to', 'timm'], r'x\.bin must end in \.safetensors or \.pth'),
    ('export_backbone', ['x.safetensors', '--to', 'mmpretrain'], r'must end in \.pth'),
    ('export_backbone', ['x.safetensors', '--to', 'published'], r'must end in \.pth'),
    ('export_backbone', ['x.safetensors', '--to', 'huggingface'], 'must be a folder'),
    ('export_backbone', ['there.pth', '--to', 'timm'], r'there\.pth is there already'),
    ('publish_model', ['there.pth'], r'there\.pth is there already'),
    ('publish_model', ['x.onnx'], r'must end in \.safetensors or \.pth'),
    ('convert_to_ibot_mm', ['there.pth'], r'there\.pth is there already'),
    ('convert_to_ibot_mm', ['x.npz'], r'must end in \.safetensors or \.pth'),
    ('convert_to_ibot_mm', ['x.pth', '--assume', 'num_heads=5'], 'not divisible by 5 heads'),
    ('export_onnx', ['there.onnx'], r'there\.onnx is there already'),
    ('export_onnx', ['x.pb'], r'must end in \.onnx or \.pt2'),
]


@pytest.mark.parametrize('tool, args, message', WRONG)
def test_wrong_arguments(tool, args, message, checkpoint, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('there.pth', 'there.onnx'):
        (tmp_path / name).write_text('mine')
    before = sorted(tmp_path.iterdir())
    code, _ = run(tool, checkpoint, *args)
    assert re.search(f'^{tool}: .*{message}', code), code
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / 'there.pth').read_text() == 'mine'


OUT = dict(
    export_backbone=['x.pth', '--to', 'timm'],
    publish_model=['x.pth'],
    convert_to_ibot_mm=['x.pth'],
    export_onnx=['x.onnx'],
    verify_checkpoint=[],
)


@pytest.mark.parametrize('tool', OUT)
@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'is not there'),
        (b'', 'is empty'),
        (b'<html>', 'a web page'),
        ({'layer1.0.conv1.weight': torch.zeros(2)}, 'it holds a ResNet'),
        (dict(fc=torch.zeros(2)), 'it holds no ViT'),
    ],
    ids=['missing', 'empty', 'page', 'resnet', 'other'],
)
def test_wrong_files(tool, content, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path('in.pth').write_bytes(content)
    elif content is not None:
        torch.save(content, 'in.pth')
    code, _ = run(tool, 'in.pth', *OUT[tool])
    if tool == 'publish_model' and isinstance(content, dict):
        assert code is None  # any weights can be published
    else:
        assert code.startswith(f'{tool}: ') and message in code
        assert not Path(OUT[tool][0] if OUT[tool] else 'none').exists()


@pytest.mark.parametrize('tool', ['export_backbone', 'convert_to_ibot_mm', 'export_onnx'])
def test_student_that_is_not_there(tool, networks, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = {f'teacher.{n}': t for n, t in networks['teacher'].state_dict().items()}
    torch.save(state, 'in.pth')
    code, _ = run(tool, 'in.pth', *OUT[tool], '--network', 'student')
    assert code.startswith(f'{tool}: in.pth cannot be used: it holds no student')


@pytest.mark.parametrize(
    'tool, args', [('export_backbone', ['--to', 'tensorflow']), ('export_onnx', [])]
)
def test_what_argparse_refuses(tool, args, checkpoint, run):
    out = ['x.pth'] if args else []
    assert run(tool, checkpoint, *out, *args)[0] == 2


def test_what_a_library_cannot_hold(run, tmp_path):
    model = MaskedVisionTransformer(arch=ARCH, img_size=32, patch_size=8, num_registers=2)
    torch.save(model.state_dict(), tmp_path / 'x.pth')
    args = [tmp_path / 'y.pth', '--to', 'mmpretrain', '--assume', 'num_heads=2']
    code, _ = run('export_backbone', tmp_path / 'x.pth', *args)
    assert 'cannot hold these weights, which have register tokens' in code


def test_publishing_an_address_needs_a_name(run):
    code, _ = run('publish_model', 'https://example.com/x.pth')
    assert code == 'publish_model: name the file to write, https://example.com/x.pth is not a file.'
