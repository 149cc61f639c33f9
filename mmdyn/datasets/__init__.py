from mmdyn.registry import DATASETS, register_unavailable

# Whatever is wrong with mmpretrain, the other registries work.
try:
    from .long_tail import CIFAR10LT, CIFAR100LT

    __all__ = ['CIFAR10LT', 'CIFAR100LT']
except Exception as error:
    register_unavailable(
        DATASETS, ('CIFAR10LT', 'CIFAR100LT'), package='mmpretrain', reason=error
    )
