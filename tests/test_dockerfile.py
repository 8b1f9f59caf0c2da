# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What can be told of the image for GPU machines without building it."""

import re
import shlex
from pathlib import Path

import pytest
import torch

TOP = Path(__file__).parents[1]
TEXT = (TOP / 'docker/Dockerfile').read_text()
LINES = [
    line
    for line in re.sub(r'\\\n', ' ', re.sub(r'^#.*\n', '', TEXT, flags=re.M)).splitlines()
    if line.strip()
]
INSTRUCTIONS = ('FROM', 'RUN', 'ENV', 'WORKDIR', 'COPY', 'CMD')


def test_each_line_is_an_instruction():
    assert LINES[0].startswith('FROM ')
    assert {line.split()[0] for line in LINES} == set(INSTRUCTIONS)


def test_pip_reads_files_that_are_copied_before_and_packages_that_are_known():
    known = {
        re.split(r'[<>=;\[ ]', line)[0].lower()
        for path in (TOP / 'requirements').glob('*.txt')
        for line in path.read_text().splitlines()
        if line and not line.startswith('#')
    }
    copied = set()
    for line in LINES:
        kind, *words = shlex.split(line)
        if kind == 'COPY':
            copied |= set(words[:-1])
        if kind != 'RUN' or words[:2] != ['pip', 'install']:
            continue
        for flag, word in zip(words[1:], words[2:]):
            if flag in ('-r', '-c'):
                assert (TOP / word).is_file() and word.split('/')[0] in copied, word
            elif flag != '--editable' and not word.startswith('-'):
                assert word in known, word


@pytest.mark.skipif(torch.version.cuda is None, reason='this torch is not built for CUDA')
def test_its_compiler_is_of_the_cuda_that_torch_is_built_for():
    version = re.search(r'^FROM nvidia/cuda:(\d+\.\d+)', TEXT, re.M)[1]
    assert version == torch.version.cuda
