"""A runner that trains a very small network with budgets."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from mmdyn.registry import MODELS


class Images(torch.utils.data.Dataset):
    metainfo = dict()

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.rand(3, 16, 16, generator=generator), label=index % 3)


class Classifier(BaseModel):
    """Two classes more than the labels need, so that logits are (N, 5)."""

    def __init__(self, **backbone):
        super().__init__()
        small = dict(depth=8, base_channels=4, stem_channels=4)
        self.backbone = MODELS.build(
            dict(type='mmdyn.SpatialResNet', **small, **backbone)
        )
        self.head = nn.Module()
        self.head.fc = nn.Linear(16, 5)

    def forward(self, inputs, label=None, mode='tensor'):
        logits = self.head.fc(self.backbone(inputs)[0].mean(dim=(2, 3)))
        if mode == 'loss':
            return dict(loss_cls=nn.functional.cross_entropy(logits, label), seen=logits)
        if mode == 'tensor':
            return logits
        scores = logits.softmax(dim=1)
        return [BaseDataElement(right=float(s[y])) for s, y in zip(scores, label)]


class MeanScore(BaseMetric):
    default_prefix = 'score'

    def process(self, data_batch, data_samples):
        self.results += [sample['right'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(right=100 * sum(results) / len(results))


def make_runner(work_dir, hooks, iters=6, interval=3, budgets=(0.3, 0.5, 0.7), **options):
    """The loader has enough images: a runner sleeps for seconds when it begins anew."""
    torch.manual_seed(1)
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=Images(4 * iters),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    settings = dict(
        model=options.pop('model', None) or Classifier(budgets=budgets),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader={**loader, 'dataset': Images(12)},
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=interval),
        val_cfg=dict(type='mmdyn.OperatingPointValLoop'),
        val_evaluator=[MeanScore()],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        custom_hooks=hooks,
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=interval),
            logger=dict(type='LoggerHook', interval=1),
        ),
        log_level='ERROR',
        experiment_name=str(work_dir).replace('/', '_'),
    )
    settings['model'].init_weights()  # not when training begins
    return Runner(**{**settings, **options})


class Recorder:
    """What was in force and what was returned at each training step."""

    def __init__(self, runner):
        self.steps = []
        step = runner.model.forward

        def forward(*args, mode='tensor', **kwargs):
            if mode == 'loss' and runner.model.training:
                backbone = runner.model.backbone
                schedule = backbone.mask_schedule
                self.steps.append(
                    dict(
                        point=backbone.operating_point.name,
                        temperature=schedule.temperature,
                        noise=schedule.noise,
                        progress=schedule.progress,
                    )
                )
            return step(*args, mode=mode, **kwargs)

        runner.model.forward = forward
