"""One module to export: how it is made, what it takes, which dims stay open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Sizes = Mapping[str, int]
DYNAMO, TORCHSCRIPT = "dynamo", "torchscript"


@dataclass(frozen=True)
class Sample:
    """``inputs(sizes)`` gives the tensors; ``dims`` names the open axes of each input, by axis.

    The module is exported at ``sizes[0]`` and run at all of them. ``exporters`` names those that can export it.
    """

    name: str
    make: Callable[[], torch.nn.Module]
    inputs: Callable[[Sizes], tuple[torch.Tensor, ...]]
    dims: Sequence[Mapping[int, str]] = ()
    sizes: Sequence[Sizes] = ({},)
    exporters: Sequence[str] = (DYNAMO, TORCHSCRIPT)
    scripted: bool = False
    """Whether the older exporter needs torch.jit.script: tracing would keep one branch, or one number of rounds."""

    slack: float = 1.0
    """Times the tolerance: above 1 where the module rounds to fewer bits inside."""

    @property
    def input_names(self) -> list[str]:
        return [f"input_{index}" for index in range(len(self.inputs(self.sizes[0])))]

    def module(self) -> torch.nn.Module:
        """The module with the same random weights every time, in evaluation mode."""
        torch.manual_seed(0)
        return self.make().eval()

    def feeds(self, sizes: Sizes) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(1)
        return self.inputs(sizes)


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def tokens(*shape: int, vocabulary: int = 50) -> torch.Tensor:
    return torch.randint(0, vocabulary, shape)
