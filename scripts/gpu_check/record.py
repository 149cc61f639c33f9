"""Rows of results, written as they come: JSON lines, and a table to read."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path

import torch


class Record:
    """The files ``rows.jsonl`` and ``table.txt``; the table is printed too.

    Args:
        out (Path): Their folder, which is created.
        dry (bool): Whether the device is a CPU.
    """

    def __init__(self, out: Path, dry: bool):
        out.mkdir(parents=True, exist_ok=True)
        self.files = [(out / name).open('w') for name in ('rows.jsonl', 'table.txt')]
        self.machine = dict(
            card='CPU' if dry else torch.cuda.get_device_name(),
            driver=os.environ['GPU_CHECK_DRIVER'],
            torch=torch.__version__,
            date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
            commit=os.environ['GPU_CHECK_COMMIT'],
        )
        print(*self.machine.values(), sep=', ', file=self.files[1])

    def write(self, stage: str, job: str, row: dict) -> None:
        values = '  '.join(f'{name} {_text(value)}' for name, value in row.items())
        line = f'{stage:<9} {job:<36} {values}'
        row = json.dumps(dict(stage=stage, job=job, **row, **self.machine))
        for text, file in zip((row, line, line), (*self.files, None)):
            print(text, file=file, flush=True)


def _text(value) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
