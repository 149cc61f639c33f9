"""The baseline of JEI-DNN: the same exits, all trained on all images, and thresholds.

python tools/train.py CONFIG
python tools/analysis_tools/search_thresholds.py CONFIG CHECKPOINT --max-macs 30e6
"""

_base_ = './resnet20_jei_10e_cifar10-folder.py'

model = dict(policy=None)

# The second phase: exits alone, the backbone and its head as they are.
custom_hooks = [
    dict(type='mmdyn.TrainingStrategyHook', strategy='branches_only', first_phase=2)
]
