# SGD whose learning rate falls linearly from 0.01, 256 images per batch.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(
    type='LinearLR', start_factor=1, end_factor=1e-3, end=60, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=1)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
auto_scale_lr = dict(base_batch_size=256)
