"""The stages in their order, until they are done or time is up."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import torch

from gpu_check import blocks, ceilings, cuda_tests, kernel, speed, trainings
from gpu_check.record import Record

STAGES = dict(
    ceilings=ceilings,
    kernel=kernel,
    tests=cuda_tests,
    blocks=blocks,
    speed=speed,
    trainings=trainings,
)
MUST_PASS = 'kernel'
"""With a wrong kernel the later stages would mean nothing."""


class OutOfTime(BaseException):
    """Raised when time is up; handlers of ordinary exceptions let it pass."""


def run(plan: list[tuple], write, end: float) -> bool:
    """Run jobs until time is up, or the stage that has to pass has failed.

    Args:
        plan (list[tuple[str, str, Callable]]): Stage, name and function of each job.
        write (Callable): Takes stage, name of the job and row; a summary comes last.
        end (float): When time is up, in seconds since the epoch.

    Returns:
        bool: Whether no job failed.
    """
    left, failed, broken = list(plan), [], False
    signal.signal(signal.SIGALRM, _out_of_time)
    try:
        # A destructor may swallow the exception: the next second raises another.
        signal.setitimer(signal.ITIMER_REAL, max(end - time.time(), 1e-6), 1)
        while left and not (broken and left[0][0] != MUST_PASS):
            if not _done(*left[0], write):
                failed.append(left[0])
                broken |= left[0][0] == MUST_PASS
            left.pop(0)
    except OutOfTime:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    why = 'a failed kernel check stops the rest' if broken else 'time' if left else 'done'
    names = [[f'{stage}: {name}' for stage, name, _ in jobs] for jobs in (failed, left)]
    write('summary', 'all', dict(ended_by=why, failed=names[0], not_reached=names[1]))
    return not failed


def _out_of_time(*_):
    raise OutOfTime


def _done(stage: str, name: str, job, write) -> bool:
    try:
        for row in job():
            write(stage, name, row)
    except Exception as error:
        write(stage, name, dict(failed=f'{type(error).__name__}: {error}'))
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog='gpu_check.sh', description=__doc__)
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument(
        '--minutes', type=float, default=8, help='time limit (default: 8)'
    )
    parser.add_argument('--dry', action='store_true', help='tiny shapes, on a CPU')
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        sys.exit(f'torch {torch.__version__} sees no CUDA device; --dry needs none')
    torch.manual_seed(0)
    args.out = args.out.absolute()
    args.device, args.seconds = ('cpu', 0.0) if args.dry else ('cuda', 0.5)
    record = Record(args.out, args.dry)
    plan = [
        (stage, name, job)
        for stage, module in STAGES.items()
        for name, job in module.jobs(args).items()
    ]
    started = float(os.environ['GPU_CHECK_STARTED'])
    sys.exit(not run(plan, record.write, started + 60 * args.minutes))


if __name__ == '__main__':
    main()
