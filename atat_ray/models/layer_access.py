"""Access to stages, layers and outputs inside a network, wrapped or not."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class FrontEnd(nn.Module):
    """A target model made of a module that changes the images and a network."""

    def __init__(self, front: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, num_classes) logits."""
        return self.body(self.front(images))

    def features(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, D) penultimate features."""
        return self.body.features(self.front(images))  # type: ignore[operator]

    def stages(self) -> list[nn.Module]:
        """List the modules whose outputs are the stages of the network."""
        return stages(self.body)


def unwrap(model: Any) -> Any:
    """Remove the DistributedDataParallel wrapper of a model, if it has one."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def require_method(model: Any, method: str, defense: str, what: str) -> Any:
    """Return a method of the network that a defense needs.

    Args:
        model: wrapped or not.
        method: name of the method.
        defense: name for the error message.
        what: what the method gives, for the error message.

    Raises:
        ValueError: the network has no such method.
    """
    inner = unwrap(model)
    found = getattr(inner, method, None)
    if found is None:
        raise ValueError(
            f"{defense} needs a network with {what}, got {type(inner).__name__}, which has no "
            f"method {method}; choose another architecture or defense"
        )
    return found


def stages(model: Any, defense: str = "this measure") -> list[nn.Module]:
    """List the stages of a network.

    Raises:
        ValueError: the network does not define stages.
    """
    return require_method(model, "stages", defense, "named stages")()


def head(model: Any, defense: str) -> nn.Linear:
    """Return the last linear layer of a network, its attribute ``head``.

    Raises:
        ValueError: the network does not end in a linear layer of that name.
    """
    found = getattr(unwrap(model), "head", None)
    if not isinstance(found, nn.Linear):
        raise ValueError(
            f"{defense} needs a network that ends in one linear layer named head, got "
            f"{type(unwrap(model)).__name__}; choose another architecture or defense"
        )
    return found


@contextmanager
def outputs_of(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs of modules, in the order given, while a model runs inside the block.

    Run the model exactly once; it may be wrapped.
    """
    kept: dict[int, Tensor] = {}
    found: list[Tensor] = []
    with ExitStack() as stack:
        for index, module in enumerate(modules):

            def keep(module: nn.Module, inputs: Any, output: Tensor, index: int = index) -> None:
                kept[index] = output
                if len(kept) == len(modules):
                    found[:] = [kept[i] for i in range(len(modules))]

            handle = module.register_forward_hook(keep)
            stack.callback(handle.remove)
        yield found
