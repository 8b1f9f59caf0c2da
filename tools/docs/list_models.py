# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Write docs/model_zoo.md: every config of the metafiles and what is published for it."""

import argparse
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).parents[2]
PAGE = TOP / 'docs/model_zoo.md'
TASKS = dict(
    pretrain='Pre-training', cls='Classification', det='Detection', seg='Semantic segmentation'
)
HEAD = """# Model zoo

Every config, with the results that iBOT's authors published for these settings. None was trained
again here. A dash says that nothing is published. Weights are published for the pre-trainings
alone; name one wherever a checkpoint is taken, as `ibot_mm::pretrain/ibot_vitb16`
([weights](weights.md)). `python tools/docs/list_models.py` writes this page from the metafiles.
"""


def page() -> str:
    """Compose the page."""
    sections = [HEAD]
    for room, title in TASKS.items():
        models = yaml.safe_load((TOP / f'configs/{room}/metafile.yml').read_text())['Models']
        columns = ['config', 'length', 'batch', 'published', *(['weights'] * (room == 'pretrain'))]
        rows = [f'## {title}\n', _row(columns), '|---' * len(columns) + '|']
        rows += [_row(_cells(model)[: len(columns)]) for model in models]
        sections.append('\n'.join(rows) + '\n')
    return '\n'.join(sections)


def _cells(model: dict[str, Any]) -> list[str]:
    facts = model['Metadata']
    epochs = f'{facts["Epochs"]} epochs' if 'Epochs' in facts else f'{facts["Iterations"]:,} steps'
    results = [_result(result) for result in model.get('Results', [])]
    weights = model.get('Weights')
    return [
        f'[{model["Name"]}](../{model["Config"]})',
        epochs,
        f'{facts["Batch Size"]:,}',
        '; '.join(results) or '–',
        f'[{Path(weights).stem.removeprefix("checkpoint_")}]({weights})' if weights else '–',
    ]


def _result(result: dict[str, Any]) -> str:
    names = [name.replace(' Top 1 Accuracy', '') for name in result['Metrics']]
    values = ', '.join(f'{n} {value}' for n, value in zip(names, result['Metrics'].values()))
    return f'{values} ({result["Dataset"]})'


def _row(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page())
    print(f'wrote {PAGE}')
