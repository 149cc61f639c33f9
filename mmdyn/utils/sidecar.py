"""Sidecar files: results for a checkpoint, tied to its hash."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any


def write_sidecar(file: Path, checkpoint: str | Path, content: dict[str, Any]) -> Path:
    """Write results for a checkpoint as JSON, with its hash; returns the file."""
    content = {'checkpoint_sha256': _sha256(checkpoint), **content}
    file.write_text(json.dumps(content, indent=2) + '\n')
    return file


def read_sidecar(file: Path, checkpoint: str | Path, consequence: str) -> dict | None:
    """Read results for a checkpoint; ``None`` if there are none for its weights.

    If they belong to other weights, a warning says so, and goes on with ``consequence``:
    what follows and what helps.
    """
    if not file.is_file():
        return None
    content = json.loads(file.read_text())
    if content.get('checkpoint_sha256') == _sha256(checkpoint):
        return content
    warnings.warn(
        f'{file} is of other weights than {checkpoint} has{consequence}, or delete the '
        f'file',
        stacklevel=3,
    )
    return None


def _sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
