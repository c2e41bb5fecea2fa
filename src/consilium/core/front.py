"""A fixed front: the part of a model that learns nothing, so that its output for a record can be cached.

    module = Sequential(front, *rest);  logits(w, x) = rest(w, front(x))

It maps every record on its own and holds no tensors, hence ``rest`` has the parameters and buffers of the whole module,
in the same order, and a vector of one is a vector of the other.
"""

from __future__ import annotations

from torch import nn

from .errors import Refused

__all__ = ["Front", "behind"]


class Front(nn.Module):
    """Base of fixed, record-wise maps; constants are made where they are used and are no buffers."""


def behind(module: nn.Module) -> tuple[Front, nn.Module] | None:
    """The fixed front that ``module`` opens with, and the rest of it; None if it has none.

    Refused if the front holds tensors: they would be trained, or merged, and are not fixed.

    Raises Refused: the front holds tensors.
    """
    if type(module) is not nn.Sequential or not len(module) or not isinstance(module[0], Front):
        return None
    front = module[0]
    names = [name for name, _ in [*front.named_parameters(), *front.named_buffers()]]
    if names:
        raise Refused(
            f"the fixed front {type(front).__name__} holds {names[0]}, which would be trained or merged",
            remedy="keep its constants as plain attributes, or derive it from torch.nn.Module",
            where="model",
        )
    return front, module[1:]
