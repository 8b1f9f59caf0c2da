# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Average evaluations over seeds, and compare them.

    python tools/analysis_tools/average_evaluations.py online='runs/online_*' none='runs/none_*'

Each word names a group and the folders of `tools/evaluate.py --out` that belong to it; their names
end with the seed. The table, in Markdown, has mean ± standard deviation, and the paired
difference to the first group with its 95 % interval.
"""

import argparse
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from ibot_mm.ablation import compare_evaluations, markdown, read_evaluations


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('groups', nargs='+', metavar='NAME=PATTERN', help='NAME:NETWORK=PATTERN '
                        'takes another network than the teacher, such as untrained')  # fmt: skip
    parser.add_argument(
        '--every-setting', action='store_true', help='every number, not those of the table alone'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    groups = {}
    for word in args.groups:
        name, _, pattern = word.partition('=')
        title, _, network = name.partition(':')
        folders = [Path(path) for path in sorted(glob(pattern)) if Path(path).is_dir()]
        if not folders:
            raise SystemExit(f'{word}: there is no folder like {pattern!r}; write NAME=PATTERN')
        try:
            groups[title] = read_evaluations(folders, network or 'teacher', args.every_setting)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(str(error)) from None
    header, *rows = compare_evaluations(groups)
    print(markdown(header, rows))


if __name__ == '__main__':
    main()
