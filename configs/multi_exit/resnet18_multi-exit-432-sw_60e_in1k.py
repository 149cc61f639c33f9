"""ResNet-18 trained from stage to stage, each with its exit (SW): 60 epochs per stage.

Paper (Table V): top-1 65.5, 66.6, 67.8, 67.6 % of exits 1 to 4; adaptive 68.3 % at 1.3
GMACs.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

find_unused_parameters = True
custom_hooks = [dict(type='mmdyn.TrainingStrategyHook', strategy='stage_wise')]
train_cfg = dict(max_epochs=4 * 60)
param_scheduler = [
    # The learning rate starts again with each stage after the first.
    dict(
        type='MultiStepLR',
        milestones=[60, 120, 180],
        gamma=1000,
        convert_to_iter_based=True,
    ),
    *[
        dict(
            type='LinearLR',
            start_factor=1,
            end_factor=1e-3,
            begin=60 * stage,
            end=60 * (stage + 1),
            convert_to_iter_based=True,
        )
        for stage in range(4)
    ],
]
