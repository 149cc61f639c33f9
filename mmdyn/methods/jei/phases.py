"""Phases of a JEI-DNN's training, by iteration.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
Algorithm 1 and Appendices 9.7 and 9.16.
"""

from dataclasses import dataclass

from mmdyn.utils.validation import check_counts

STAGES = dict(
    warmup='warm-up, exits learn from all images',
    gate='gates and exits are trained alternately',
    classifier='gates and exits are trained alternately',
    backbone='the whole network is trained, but for the gates',
)
"""What happens in each phase, for logs; alternating phases are one stage."""


@dataclass(frozen=True)
class PhaseSchedule:
    """Warm-up, then gates and exits alternately, and the whole network in between.

    Args:
        warmup_epochs (int): Epochs of the warm-up.
        bi_switch (int): Iterations until gates and exits alternate.
        fixed_exits (bool): Whether exits stay fixed after the warm-up.
        end_to_end (tuple[int, int] | None): Epochs of alternation, and of training the
            whole network, one after the other.

    Raises:
        ValueError: For numbers that are not above 0.
    """

    warmup_epochs: int
    bi_switch: int
    fixed_exits: bool = False
    end_to_end: tuple[int, int] | None = None

    def __post_init__(self):
        check_counts(warmup_epochs=self.warmup_epochs, bi_switch=self.bi_switch)
        if self.end_to_end is None:
            return
        check_counts(end_to_end=self.end_to_end)
        if len(self.end_to_end) != 2:
            raise ValueError(
                f'end_to_end needs two numbers of epochs, of exits and gates and of '
                f'the whole network, got {self.end_to_end}'
            )

    def phase_at(self, iteration: int, epoch_length: int) -> str:
        """The phase of an iteration.

        Args:
            iteration (int): Number of the iteration, from 0.
            epoch_length (int): Iterations of an epoch.

        Returns:
            str: ``'warmup'``, ``'gate'``, ``'classifier'`` or ``'backbone'``.
        """
        done = iteration - self.warmup_epochs * epoch_length
        if done < 0:
            return 'warmup'
        if self.end_to_end:
            alternating, whole = self.end_to_end
            cycle, epoch = divmod(done // epoch_length, alternating + whole)
            if epoch >= alternating:
                return 'backbone'
            done -= cycle * whole * epoch_length  # alternation continues where it was
        if self.fixed_exits or done // self.bi_switch % 2 == 0:
            return 'gate'
        return 'classifier'
