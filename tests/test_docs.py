# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The pages: their links lead somewhere, and their commands are commands of this version."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGES = [
    *(TOP / name for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md')),
    TOP / 'benchmarks/README.md',
    *sorted((TOP / 'docs').glob('*.md')),
]
# Other people's commands, and what a shell knows.
FOREIGN = {'pip', 'apt-get', 'git', 'cd', 'docker', 'mim', 'tar', 'wget', 'unzip'}
LAUNCHERS = {
    'tools/dist_train.sh': ('tools/train.py', 2),  # CONFIG GPUS, then arguments of the tool
    'tools/dist_test.sh': ('tools/test.py', 3),
    'tools/slurm_train.sh': ('tools/train.py', 3),
    'tools/slurm_test.sh': ('tools/test.py', 4),
}


class Parsed(Exception):
    """Ends a tool once it has understood its arguments."""


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def commands(page: Path) -> list[str]:
    """List the commands of a page's shell blocks."""
    blocks = re.findall(r'```bash\n(.*?)```', page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def slug(heading: str) -> str:
    """Make the anchor of a heading as the hosting site does."""
    text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading).strip().lower()
    return re.sub(r'[^\w\- ]', '', text).replace(' ', '-')


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith(('http:', 'https:')):
            continue
        path, _, anchor = target.partition('#')
        found = page.parent / path if path else page
        assert found.exists(), f'{target} in {name_of(page)} is not there'
        if anchor:
            headings = re.findall(r'^#+ (.*)', found.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f'{target} in {name_of(page)} has no such heading'


def test_every_page_is_in_the_table_of_contents():
    contents = (TOP / 'docs/index.md').read_text()
    toctrees = re.findall(r'```{toctree}\n(.*?)```', contents, re.DOTALL)
    listed = {line for tree in toctrees for line in tree.splitlines() if re.match(r'\w+$', line)}
    assert listed == {page.stem for page in (TOP / 'docs').glob('*.md')} - {'index'}


def test_the_model_zoo_is_that_of_the_metafiles():
    tool = runpy.run_path(str(TOP / 'tools/docs/list_models.py'))
    assert tool['PAGE'].read_text() == tool['page'](), 'run python tools/docs/list_models.py'


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_are_understood(command, monkeypatch):
    words = shlex.split(command, comments=True)
    while words and re.match(r'\w+=', words[0]):  # variables of the environment
        words.pop(0)
    for word in words:
        if re.match(r'(configs|tools|benchmarks|tests)/[\w/.]+\.(py|sh|npz)$', word):
            assert (TOP / word).exists(), f'{word} is not there'
    if words and words[0] not in FOREIGN:
        understand(words, monkeypatch)


def understand(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's own parser read its arguments."""
    program, *arguments = words
    if program == 'make':
        targets = re.findall(r'^\.PHONY:.*', (TOP / 'Makefile').read_text(), re.MULTILINE)[0]
        for target in arguments:
            assert '=' in target or re.search(rf'\b{target}\b', targets), f'no target {target}'
    elif program == 'ibot-mm':
        from ibot_mm.cli import app

        app.parse_args(arguments, exit_on_error=False, print_error=False)
    elif program == 'bash' and arguments[0] in LAUNCHERS:
        tool, number = LAUNCHERS[arguments[0]]
        positional = [word for word in arguments[1 : 1 + number] if not word.isdigit()]
        own = positional[2:] if 'slurm' in arguments[0] else positional
        parse(tool, [*own, *arguments[1 + number :]], monkeypatch)
    elif program == 'torchrun':
        start = next(i for i, word in enumerate(arguments) if word.endswith('.py'))
        parse(arguments[start], arguments[start + 1 :], monkeypatch)
    elif program == 'python' and arguments[0] == '-m':
        parse(arguments[1], arguments[2:], monkeypatch)
    elif program == 'python' and arguments[0] == '-c':
        compile(arguments[1], 'a command', 'exec')
    elif program == 'python':
        parse(arguments[0], arguments[1:], monkeypatch)
    elif program == 'bash':
        assert (TOP / arguments[0]).exists()
    else:
        pytest.fail(f'{program} is not known to this test')


def parse(tool: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script, or a module without its `.py`, until its arguments are read."""
    read = argparse.ArgumentParser.parse_args

    def end(parser, argv=None, namespace=None):
        read(parser, argv, namespace)
        raise Parsed

    # What stands for many things in the pages: [--option], ..., and one name of a choice.
    arguments = [word.strip('[]') for word in arguments]
    arguments = ['attention' if word == 'KIND' else word for word in arguments if word != '...']
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', end)
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    monkeypatch.chdir(TOP)
    monkeypatch.syspath_prepend(TOP)
    try:
        if tool.endswith('.py'):
            runpy.run_path(tool, run_name='__main__')
        else:
            runpy.run_module(tool, run_name='__main__', alter_sys=True)
    except Parsed:
        return
    except SystemExit as end_of_tool:
        pytest.fail(f'{tool} does not understand its arguments: {end_of_tool}')
    pytest.fail(f'{tool} did not read its arguments')


@pytest.mark.long
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', 'docs', str(tmp_path)]
    run = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 'IBOTHead' in (tmp_path / 'api/models.html').read_text()
