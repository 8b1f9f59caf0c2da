# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which commit a checkout tells, and that an installed package does not take another's."""

import shutil
import subprocess

import pytest

from ibot_mm import version


@pytest.fixture(autouse=True)
def ask_anew():
    version.find_commit.cache_clear()
    yield
    version.find_commit.cache_clear()


@pytest.mark.skipif(shutil.which('git') is None, reason='git is not installed')
def test_the_commit_is_that_of_the_checkout_alone(tmp_path, monkeypatch):
    def git(*words):
        names = ('-c', 'user.name=x', '-c', 'user.email=x@y')
        command = ['git', '-C', str(tmp_path), *names, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / 'ibot_mm'
    package.mkdir()
    (package / 'version.py').write_text('x = 1\n')
    git('init')
    git('add', '.')
    git('commit', '-m', 'one')
    monkeypatch.setattr(version, '__file__', str(package / 'version.py'))
    assert version.find_commit() == git('rev-parse', '--short', 'HEAD')
    (package / 'version.py').write_text('x = 2\n')
    version.find_commit.cache_clear()
    assert version.find_commit() == git('rev-parse', '--short', 'HEAD') + '-dirty'
    # Installed below somebody's repository.
    monkeypatch.setattr(version, '__file__', str(tmp_path / 'env/site-packages/ibot_mm/version.py'))
    version.find_commit.cache_clear()
    assert version.find_commit() is None
