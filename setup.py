# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name: str) -> list[str]:
    lines = (HERE / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


setup(
    name='ibot-mm',
    version=runpy.run_path(str(HERE / 'ibot_mm/version.py'))['__version__'],
    description='iBOT self-supervised pre-training as a plug-in of OpenMMLab',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords=['self-supervised learning', 'iBOT', 'vision transformer', 'OpenMMLab'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12, 13)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=['ibot_mm', 'ibot_mm.*']),
    # `.mim` is where mmengine looks for a package's configs (`_base_ = 'ibot_mm::...'`) and tools.
    # It holds links, which a wheel turns into copies.
    package_data={
        'ibot_mm': [
            'py.typed',
            'visualization/*.json',
            'report/*.html',
            'report/*.md',
            '.mim/**/*.py',
            '.mim/**/*.sh',
            '.mim/**/*.yml',
        ]
    },
    entry_points={'console_scripts': ['ibot-mm = ibot_mm.cli:main']},
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={
        name: requirements(name)
        for name in (
            *('onedl', 'openmmlab', 'demo', 'analysis', 'sensors', 'stores', 'docs', 'test'),
        )
    },
)
