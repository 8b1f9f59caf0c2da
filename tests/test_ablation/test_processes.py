# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tasks in real processes, of plain Python, and as Slurm would run them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ibot_mm.ablation import Task, run_tasks, write_array_jobs


def python(code):
    return [sys.executable, '-S', '-c', code]


@pytest.fixture
def make(tmp_path):
    """A task that appends its name to a file at each of its commands."""

    def task(name, *codes, needs=None):
        note = f'open({str(tmp_path / "order")!r}, "a").write({name!r} + "\\n");'
        return Task(name, [python(note + code) for code in codes], tmp_path / f'{name}.log', needs)

    return task


@pytest.mark.parametrize('jobs', [1, 2])
def test_failures_are_named_and_the_rest_goes_on(make, tmp_path, jobs):
    tasks = [
        make('prepare', ''),
        make('broken', 'raise SystemExit("no such thing")'),
        make('trained', '', 'print(1)', needs='prepare'),
        make('stuck', '', needs='broken'),
        make('half', '', 'print("out of it"); raise SystemExit(3)', ''),
        make('free', '', needs='done before'),
    ]
    lines = []
    failed = run_tasks(tasks, jobs, lines.append)
    assert failed == dict(
        broken='status 1, no such thing', half='status 3, out of it', stuck='broken failed'
    )
    order = (tmp_path / 'order').read_text().split()
    assert sorted(order) == sorted(['prepare', 'broken', *['trained'] * 2, *['half'] * 2, 'free'])
    assert order.index('prepare') < order.index('trained')
    assert (tmp_path / 'trained.log').read_text() == '1\n'
    assert any('FAILED, status 3' in line for line in lines)


def test_two_at_once(make, tmp_path):
    """Each waits for the other's file."""
    names = 'one', 'two'
    wait = (
        'import os, time\nopen({own!r}, "w")\nend = time.time() + 20\n'
        'while not os.path.exists({other!r}): assert time.time() < end; time.sleep(0.01)'
    )
    tasks = []
    for own, other in (names, names[::-1]):
        code = wait.format(own=str(tmp_path / own), other=str(tmp_path / other))
        tasks.append(Task(own, [python(code)], tmp_path / f'{own}.log'))
    assert run_tasks(tasks, 2, lambda line: None) == {}


def test_an_interruption_stops_what_runs(tmp_path):
    """The process gets SIGTERM, on which a training saves itself, and is waited for."""
    code = (
        'import signal, sys, time\n'
        f'signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path / "saved")!r}, "w"), '
        'sys.exit(75)))\n'
        f'open({str(tmp_path / "begun")!r}, "w")\ntime.sleep(20)'
    )
    task = Task('long', [python(code)], tmp_path / 'long.log')

    def interrupt_once_begun(*_):
        if (tmp_path / 'begun').exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt_once_begun)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with pytest.raises(KeyboardInterrupt):
            run_tasks([task], 1, lambda line: None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / 'saved').exists() and time.monotonic() - start < 15


def test_array_jobs_of_slurm(make, tmp_path):
    tasks = [
        make('prepare', ''),
        make('b/seed_0', '', needs='prepare'),
        make('b/seed_1', '', '', needs='prepare'),
    ]
    commands = write_array_jobs(tasks, tmp_path, jobs=4)
    script = tmp_path / 'trainings.sbatch'
    assert commands[0] == f'job=$(sbatch --parsable {tmp_path}/preparations.sbatch)'
    assert commands[1] == f'sbatch --dependency=afterany:$job {script}'
    assert '#SBATCH --array=0-1%4' in script.read_text()
    environment = dict(os.environ, SLURM_SUBMIT_DIR=str(tmp_path), SLURM_ARRAY_TASK_ID='1')
    subprocess.run(['bash', script], env=environment, check=True)
    assert (tmp_path / 'order').read_text().split() == ['b/seed_1'] * 2
    assert write_array_jobs(tasks[1:2], tmp_path, 1) == [f'sbatch {script}']
    assert write_array_jobs([], tmp_path, 1) == []
