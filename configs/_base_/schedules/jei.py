"""JEI-DNN's training (Appendix 9.1.2) without its number of epochs; λ is 1."""

custom_hooks = [
    dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0, warmup_epochs=5, bi_switch=100)
]
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01, weight_decay=5e-4))
param_scheduler = []
val_cfg = dict(type='mmdyn.OperatingPointValLoop', points=['adaptive'])
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
find_unused_parameters = True  # exits and gates are trained alternately
