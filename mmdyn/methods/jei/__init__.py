"""Jointly-Learned Exit and Inference for a Dynamic Neural Network, Regol et al., 2024."""

from mmdyn.registry import HOOKS, MODELS

_ROOM = 'mmdyn.methods.jei'

MODELS.offer(f'{_ROOM}.gates', 'LearnedGatePolicy')
MODELS.offer(f'{_ROOM}.t2t_vit', 'T2TViT', needs='mmpretrain')
HOOKS.offer(f'{_ROOM}.schedule_hook', 'JEIScheduleHook')
