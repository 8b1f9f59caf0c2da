# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Trainings on several machines, of which one is lost: a dist_train.sh for each."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibot_mm.engine.checkpointing import read_checkpoint
from ibot_mm.engine.checkpointing.compare import first_difference

TOP = Path(__file__).parents[2]
HOOK = """
import os, time
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Hold(Hook):
    '''Waits, after two epochs of the first start, for something to happen.'''

    def after_train_iter(self, runner, *args, **kwargs):
        folder = Path(runner.work_dir)
        if os.environ['IBOT_MM_RESTARTS'] == '0' and runner.iter == 4:
            (folder / f'held_{os.environ["RANK"]}').touch()
            while not (folder / 'happened').exists():
                time.sleep(0.1)
"""


@pytest.fixture
def config(tiny_config, tmp_path):
    """Four epochs of two iterations, for two processes."""
    tiny_config.pop('launcher')
    tiny_config.pop('work_dir')
    tiny_config.train_dataloader.batch_size = 2
    tiny_config.train_cfg.update(max_epochs=4, val_interval=9)
    tiny_config.default_hooks.checkpoint.start_again = False
    tiny_config.env_cfg = dict(dist_cfg=dict(timeout=10))
    tiny_config.custom_hooks = [dict(type='Hold')]
    tiny_config.custom_imports = dict(imports=['ibot_mm.registry', 'hold'])
    tiny_config.dump(tmp_path / 'tiny.py')
    (tmp_path / 'hold.py').write_text(HOOK)
    return tmp_path / 'tiny.py'


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def wait_for(condition, seconds=300):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'waited in vain'
        time.sleep(0.2)


class Machine:
    """A dist_train.sh with one process, and all that it has started."""

    def __init__(self, config, work_dir, log, enter=(), **variables):
        environment = os.environ | dict(
            PYTHON=sys.executable,
            OMP_NUM_THREADS='1',
            PYTHONPATH=f'{TOP}:{config.parent}',
            PET_LOCAL_ADDR='127.0.0.1',
            MASTER_ADDR='127.0.0.1',
            RDZV_CONF='join_timeout=300,last_call_timeout=3',
        )
        self.log = log
        with log.open('w') as file:
            self.process = subprocess.Popen(
                [*enter, 'bash', 'tools/dist_train.sh', str(config), '1', '--work-dir', work_dir],
                cwd=TOP, env=environment | variables, stdout=file, stderr=file,
            )  # fmt: skip

    def end(self):
        return self.process.wait(300), self.log.read_text()

    def kill(self):
        for process in family(self.process.pid):
            os.kill(process, signal.SIGKILL)
        self.process.wait()


def family(process):
    """A process and all that it has started; torchrun gives each of its own a session."""
    found = subprocess.run(['pgrep', '-P', str(process)], capture_output=True, text=True)
    return [process, *(one for child in found.stdout.split() for one in family(int(child)))]


@pytest.fixture
def start(config, tmp_path):
    """Start machines with one folder; what still runs at the end of the test is killed."""
    machines, port = [], free_port()

    def start_one(**options):
        log = tmp_path / f'machine_{len(machines)}.log'
        options = dict(PORT=port, NNODES='2') | options
        machines.append(Machine(config, tmp_path / 'work_dir', log, **options))
        return machines[-1]

    start_one.port = port
    yield start_one
    for machine in machines:
        if machine.process.poll() is None:
            machine.kill()


@pytest.fixture
def happen(tmp_path):
    """Let something happen when all processes of the first start are held."""

    def act(function, number=2):
        wait_for(lambda: len([*(tmp_path / 'work_dir').glob('held_*')]) == number)
        function()
        (tmp_path / 'work_dir/happened').touch()

    return act


@pytest.fixture
def store(start):
    """The store in a process of its own, by the command of the page."""
    page = (TOP / 'docs/reliability.md').read_text()
    command = re.search(r'^python (-c ".*TCPStore.*")$', page, re.MULTILINE)[1]
    words = shlex.split(command.replace('29500', start.port))
    process = subprocess.Popen([sys.executable, *words])
    yield process
    process.kill()
    process.wait()


def check_end(call, config, tmp_path, logs):
    """The same bits as in a training on one machine with which nothing happens."""
    assert 'Resuming from the newest valid checkpoint' in logs
    assert 'epoch_2.pth' in logs
    work_dir = tmp_path / 'whole'
    work_dir.mkdir()
    (work_dir / 'happened').touch()
    call('bash', 'tools/dist_train.sh', config, 2, '--work-dir', work_dir,
         PYTHONPATH=f'{TOP}:{tmp_path}')  # fmt: skip
    ends = [read_checkpoint(tmp_path / name / 'epoch_4.pth') for name in ('whole', 'work_dir')]
    assert first_difference(*ends) is None


@pytest.mark.long
def test_a_machine_that_is_killed_is_replaced(call, config, start, happen, store, tmp_path):
    """Any of them may be, since the store is elsewhere."""
    first, other = start(), start()
    happen(first.kill)
    status, log = start().end()
    assert status == 0, log
    status, other_log = other.end()
    assert status == 0, other_log
    check_end(call, config, tmp_path, log + other_log)


@pytest.fixture
def networks():
    """Two network namespaces with a cable between them: how to enter each, and their process."""
    holders = []

    def hold(*command):
        holders.append(subprocess.Popen([*command, 'sleep', '1200'], stderr=subprocess.PIPE))
        own, path = os.readlink('/proc/self/ns/net'), Path(f'/proc/{holders[-1].pid}/ns/net')
        for _ in range(50):
            if holders[-1].poll() is None and os.readlink(path) != own:
                return str(holders[-1].pid)
            time.sleep(0.1)
        pytest.skip(f'no network namespaces here: {" ".join(command)} failed')

    def enter(holder, *options):
        return ['nsenter', '--preserve-credentials', '-t', holder, '-U', *options]

    first = hold('unshare', '-Urn')
    second = hold(*enter(first), 'unshare', '-n')
    entrances = [enter(first, '-n'), enter(first, f'--net=/proc/{second}/ns/net')]
    cable = ['ip', 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'cable', 'netns', second]
    try:
        subprocess.run([*entrances[0], *cable], check=True, capture_output=True)
        for number, entrance in enumerate(entrances, 1):
            for words in (
                f'addr add 10.77.0.{number}/24 dev cable', 'link set cable up', 'link set lo up',
            ):  # fmt: skip
                subprocess.run([*entrance, 'ip', *words.split()], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'no network namespaces here: {error}')
    yield entrances
    for holder in holders:
        holder.kill()
        holder.wait()


@pytest.mark.long
def test_a_machine_that_is_lost_without_a_word_is_replaced(
    call, config, start, happen, networks, tmp_path
):
    """No packet says that it has ended: the cable is cut first."""

    def start_at(number):
        return start(
            enter=networks[number],
            MASTER_ADDR='10.77.0.1',
            PET_LOCAL_ADDR=f'10.77.0.{number + 1}',
            NODE_RANK=str(number),
            GLOO_SOCKET_IFNAME='cable',
        )

    def set_cable(state):
        subprocess.run([*networks[1], 'ip', 'link', 'set', 'cable', state], check=True)

    first, second = start_at(0), start_at(1)

    def lose():
        set_cable('down')
        second.kill()

    happen(lose)
    wait_for(lambda: 'Rank 1 of 2 did not come to where rank 0' in first.log.read_text())
    set_cable('up')
    status, log = start_at(1).end()
    assert status == 0, log
    status, first_log = first.end()
    assert status == 0, first_log
    check_end(call, config, tmp_path, log + first_log)


@pytest.mark.long
def test_a_range_of_machines_goes_on_with_fewer(start, happen, tmp_path):
    options = dict(NNODES='1:2')
    first, second = start(NODE_RANK='0', **options), start(NODE_RANK='1', **options)
    happen(second.kill)
    status, log = first.end()
    assert status == 0, log
    assert 'world_size: 2 -> 1: the epoch has another number of iterations' in log
    settings = read_checkpoint(tmp_path / 'work_dir/epoch_4.pth')['meta']['settings']
    assert settings['world_size'] == 1


@pytest.mark.slow
def test_the_rest_ends_where_no_machine_comes(start):
    status, log = start(NODE_RANK='0', RDZV_CONF='join_timeout=1').end()
    assert status == 69, log
    assert 'too few machines came in time' in log
    assert 'Traceback' not in log


@pytest.mark.long
def test_a_machine_that_loses_the_store_ends(start, happen, store):
    machine = start(NNODES='1:1')
    happen(store.kill, number=1)
    status, log = machine.end()
    assert status == 69, log
    assert 'the store at MASTER_ADDR:PORT is lost' in log


@pytest.mark.long
def test_processes_that_end_on_purpose_are_not_started_again(start, happen):
    machine = start(NNODES='1:1', NODE_RANK='0')
    happen(lambda: os.kill(machine.process.pid, signal.SIGUSR1), number=1)
    status, log = machine.end()
    assert status == 75, log
    assert log.count('Exit status 75') == 1
