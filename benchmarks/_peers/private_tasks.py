"""What DP-SGD is timed on: three models, and every kind of layer alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from consilium.learn.models.resnet9 import ResNet9

from .private_steps import Task


class Averaged(nn.Module):
    """``layer``, its answer averaged over all positions: ``(n, classes)`` with the classes in dimension ``dim``."""

    def __init__(self, layer: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.layer, self.dim = layer, dim

    def forward(self, x: Tensor) -> Tensor:
        """One number per class."""
        found: Tensor = self.layer(x).movedim(self.dim, 1).flatten(2).mean(2)
        return found


class SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        found: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return found


def small() -> nn.Module:
    """The 26,010-parameter network of Opacus' MNIST example."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
        nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def _resnet(width: int, batch: int) -> Task:
    name = f"ResNet-9 width {width}, B {batch}"
    return Task(name, lambda: ResNet9(width=width).build((3, 32, 32), 10), (3, 32, 32), batch)


MODELS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("CNN 26k, B 64", small, (1, 28, 28), 64),
        Task("CNN 26k, B 256", small, (1, 28, 28), 256),
        _resnet(32, 64),
        _resnet(32, 256),
        _resnet(64, 64),
    )
}

LAYERS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("Linear", lambda: nn.Linear(512, 256), (512,), 256),
        Task("Linear, 64 positions", lambda: Averaged(nn.Linear(128, 128), 2), (64, 128), 64),
        Task("Conv1d", lambda: Averaged(nn.Conv1d(32, 64, 5, padding=2)), (32, 128), 64),
        Task("Conv2d, 32x32", lambda: Averaged(nn.Conv2d(32, 64, 3, padding=1)), (32, 32, 32), 64),
        Task("Conv2d, 4x4", lambda: Averaged(nn.Conv2d(256, 256, 3, padding=1)), (256, 4, 4), 64),
        Task("Conv2d, stride 2", lambda: Averaged(nn.Conv2d(32, 64, 3, 2, padding=1)), (32, 32, 32), 64),
        Task("Conv2d, dilation 2", lambda: Averaged(nn.Conv2d(32, 64, 3, padding=2, dilation=2)), (32, 16, 16), 64),
        Task("Conv2d, 4 groups", lambda: Averaged(nn.Conv2d(64, 64, 3, padding=1, groups=4)), (64, 16, 16), 64),
        Task("Conv2d, depthwise", lambda: Averaged(nn.Conv2d(64, 64, 3, padding=1, groups=64)), (64, 16, 16), 64),
        Task("Conv3d", lambda: Averaged(nn.Conv3d(8, 16, 3, padding=1)), (8, 12, 12, 12), 32),
        Task("GroupNorm", lambda: Averaged(nn.GroupNorm(8, 64)), (64, 16, 16), 64),
        Task("InstanceNorm", lambda: Averaged(nn.InstanceNorm2d(64, affine=True)), (64, 16, 16), 64),
        Task("LayerNorm", lambda: Averaged(nn.LayerNorm(256), 2), (64, 256), 64),
        Task("Embedding", lambda: Averaged(nn.Embedding(5000, 64), 2), (64,), 64, tokens=5000),
        Task("attention", lambda: Averaged(SelfAttention(128, 4), 2), (64, 128), 64),
    )
}
