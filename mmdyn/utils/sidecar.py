"""What was found for a checkpoint, in a file beside it that knows these very weights."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any


def write_sidecar(file: Path, checkpoint: str | Path, content: dict[str, Any]) -> Path:
    """Write what was found for a checkpoint.

    Args:
        file (Path): Where to.
        checkpoint (str | Path): The checkpoint.
        content (dict[str, Any]): What JSON knows.

    Returns:
        Path: The file.
    """
    content = {'checkpoint_sha256': _sha256(checkpoint), **content}
    file.write_text(json.dumps(content, indent=2) + '\n')
    return file


def read_sidecar(file: Path, checkpoint: str | Path, consequence: str) -> dict | None:
    """Read what was found for a checkpoint.

    Args:
        file (Path): The file.
        checkpoint (str | Path): The checkpoint.
        consequence (str): What to warn of, and what helps, if the checkpoint has changed
            since: how the message ends.

    Returns:
        dict | None: The content; ``None`` if there is no file, or, with a warning, if it
        is of other weights.
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
