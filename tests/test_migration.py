# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""docs/migration.md: what it names is here, and no argument of the published code is missing."""

import inspect
import re
from pathlib import Path

import mmengine.registry
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import ibot_mm.models  # noqa: F401
from ibot_mm import cli
from ibot_mm.evaluation import PROTOCOLS, TASKS

TOP = Path(__file__).parents[1]
PAGE = (TOP / 'docs/migration.md').read_text()
# Of bytedance/ibot at commit da316d8.
MAIN_IBOT = """
arch patch_size window_size out_dim patch_out_dim shared_head shared_head_teacher norm_last_layer
momentum_teacher norm_in_head act_in_head use_masked_im_modeling pred_ratio pred_ratio_var
pred_shape pred_start_epoch lambda1 lambda2 warmup_teacher_temp teacher_temp
warmup_teacher_patch_temp teacher_patch_temp warmup_teacher_temp_epochs use_fp16 weight_decay
weight_decay_end clip_grad batch_size_per_gpu epochs freeze_last_layer lr warmup_epochs min_lr
optimizer load_from drop_path global_crops_number global_crops_scale local_crops_number
local_crops_scale data_path output_dir saveckp_freq seed num_workers dist_url local_rank
""".split()
# Its scripts that are called by themselves, but for single steps of these.
SCRIPTS = """
evaluation/eval_cls.py evaluation/eval_copy_detection.py evaluation/eval_image_retrieval.py
evaluation/eval_knn.py evaluation/eval_linear.py evaluation/eval_linear_multi.py
evaluation/eval_logistic_regression.py evaluation/eval_video_segmentation.py
evaluation/classification_layer_decay/run_class_finetuning.py
evaluation/object_detection/train.py evaluation/semantic_segmentation/train.py
evaluation/semi_supervised/eval_cls.py evaluation/unsupervised/unsup_cls.py
analysis/attention_map/video_generation.py analysis/attention_map/visualize_attention.py
analysis/backgrounds_challenge/challenge_eval.py analysis/backgrounds_challenge/in9_eval.py
analysis/correspondence/visualize_correspondence.py
analysis/corruptions_surf_variations/eval.py analysis/extract_pattern/extract_topk_cluster.py
analysis/linear_part/eval.py analysis/natural_adv_examples/eval.py analysis/occlusion/eval.py
extract_backbone_weights.py
""".split()
# Of lightly_train.pretrain.
LIGHTLY_TRAIN = """
out data model method method_args embed_dim epochs batch_size gradient_accumulation_steps
num_workers devices num_nodes resume_interrupted checkpoint overwrite accelerator strategy
precision float32_matmul_precision seed loggers callbacks optim optim_args transform_args
loader_args trainer_args model_args activation_checkpoint_args
""".split()
CONFIGS = [
    Config.fromfile(TOP / f'configs/pretrain/{name}.py')
    for name in ('ibot_vits16', 'ibot_swint_w7')
]
KEY = re.compile(
    r'(model|train_\w+|optim_wrapper|param_scheduler|default_hooks|auto_scale_lr|randomness|'
    r'visualizer)\.[\w.]+'
)


def cells():
    """(first, second, third cell) of all rows of tables."""
    for line in PAGE.splitlines():
        if line.startswith('| ') and not line.startswith('| argument'):
            yield [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]


def quoted(text):
    return re.findall(r'`([^`]+)`', text)


def registered(name):
    """The class of a type, in whichever registry."""
    registries = vars(mmengine.registry.root).values()
    for registry in registries:
        if isinstance(registry, mmengine.registry.Registry):
            with registry.switch_scope_and_registry('ibot_mm') as current:
                if (found := current.get(name)) is not None:
                    return found
    return None


def parameters_of(kind):
    found = registered(kind)
    assert found is not None, kind
    return {name for cls in inspect.getmro(found) for name in inspect.signature(cls).parameters}


def has_key(cfg, key):
    """Whether a config has the key, or the type above it takes an argument of that name."""
    node = cfg
    *above, last = key.split('.')
    for name in above:
        if isinstance(node, list | tuple):
            node = node[int(name)]
        elif name in node:
            node = node[name]
        else:
            return False
    return last in node or ('type' in node and last in parameters_of(node['type']))


def check_command(text):
    """A call of the command or of a tool, as far as its words are names."""
    program, *words = text.split()
    if program == 'ibot-mm':
        command = 'list_known' if words[0] == 'list' else words[0]
        known = inspect.signature(getattr(cli, command)).parameters
        known = {f'--{name.replace("_", "-")}' for name in known}
    else:
        source = (TOP / program).read_text()
        source += (TOP / 'ibot_mm/checkpoint/arguments.py').read_text()
        known = set(re.findall(r"'(--[\w-]+)'", source))
    assert {word for word in words if word.startswith('--')} <= known, text
    for word in words:
        assert not word.startswith('configs/') or (TOP / word).is_file(), word
    if '--protocols' in words:
        names = words[words.index('--protocols') + 1 :]
        names = names[: next((i for i, n in enumerate(names) if n.startswith('--')), None)]
        assert names and set(names) <= {*PROTOCOLS, *TASKS}, text


def check_name(text):
    if text.startswith(('ibot-mm ', 'tools/')):
        check_command(text)
    elif text.startswith('configs/'):
        assert (TOP / text).is_file(), text
    elif text.startswith('--'):
        flags = (TOP / 'tools/train.py').read_text()
        pretrain = {f'--{n.replace("_", "-")}' for n in inspect.signature(cli.pretrain).parameters}
        assert f"'{text}'" in flags or text in pretrain, text
    elif types := re.findall(r'ibot_mm\.[A-Z]\w+', text):
        assert all(registered(name) for name in types), text
    else:
        key = text.split('=')[0]
        assert any(has_key(cfg, key) for cfg in CONFIGS) or key in (
            inspect.signature(Runner).parameters
        ), text


NAMES = sorted({name for row in cells() for name in quoted(row[1])})


@pytest.mark.parametrize('name', NAMES)
def test_what_is_named_is_here(name):
    check_name(name)


def test_remarks_name_what_is_here():
    for row in cells():
        for text in quoted(row[2]) if len(row) > 2 else ():
            if KEY.match(text) or text.startswith('ibot_mm.'):
                check_name(text)


def test_a_wrong_name_is_found():
    for name in ('model.neck.num_prototype', 'model.backbne.arch', '--work_dir', 'configs/x.py',
                 'tools/evaluate.py C --protocols kmn', 'ibot-mm export C --too timm',
                 'ibot_mm.Nothing'):  # fmt: skip
        with pytest.raises((AssertionError, OSError)):
            check_name(name)


@pytest.mark.parametrize('title, names', [
    ('### main_ibot.py', [f'--{name}' for name in MAIN_IBOT]),
    ('## From lightly and lightly-train', LIGHTLY_TRAIN),
])  # fmt: skip
def test_no_argument_is_missing(title, names):
    section = PAGE.split(f'{title}\n')[1].split('\n##')[0]
    rows = [line.split('|')[1] for line in section.splitlines() if line.startswith('| `')]
    found = {name for row in rows for name in quoted(row)}
    assert not set(names) - found
    if title.startswith('###'):
        assert found == set(names)


def test_no_script_is_missing():
    section = PAGE.split('### Evaluation\n')[1].split('\n## ')[0]
    found = set()
    for line in section.splitlines():
        if line.startswith('| `'):
            first, *others = quoted(line.split('|')[1])  # others lie beside the first
            found |= {first, *(str(Path(first).with_name(name)) for name in others)}
    assert found == set(SCRIPTS)
