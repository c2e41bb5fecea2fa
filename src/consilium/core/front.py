"""A fixed front: the part of a model that learns nothing, so that its output for a record can be cached.

    module = Sequential(front, *rest);  logits(w, x) = rest(w, front(x))

It maps every record on its own and nothing of it trains, hence ``rest`` has the trained parameters and the buffers of
the whole module, in the same order, and a vector of one is a vector of the other.  A front is a :class:`Front`, or the
layers that a partly frozen module opens with, up to the first that trains, keeps statistics or may draw.
"""

from __future__ import annotations

import itertools

from torch import nn

from .errors import Refused
from .frozen import frozen_layers
from .workspace import draws_nothing

__all__ = ["Front", "behind"]


class Front(nn.Module):
    """Base of fixed, record-wise maps; constants are made where they are used and are no buffers."""


def behind(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The fixed front that ``module`` opens with, and the rest of it; None if it has none.

    Refused if a :class:`Front` holds tensors: they would be trained, or merged, and are not fixed.

    Raises Refused: a :class:`Front` holds tensors.
    """
    if type(module) is not nn.Sequential or not len(module):
        return None
    if (size := _frozen_layers_in_front(module)) > 0:
        return module[:size], module[size:]
    if not isinstance(module[0], Front):
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


def _frozen_layers_in_front(module: nn.Sequential) -> int:
    """How many layers a partly frozen ``module`` opens with whose output for a record is always the same."""
    frozen = set(frozen_layers(module).values())
    opening = [*itertools.takewhile(lambda layer: layer in frozen or _holds_and_draws_nothing(layer), module)]
    return len(opening) if any(layer in frozen for layer in opening) else 0


def _holds_and_draws_nothing(layer: nn.Module) -> bool:
    return next(itertools.chain(layer.parameters(), layer.buffers()), None) is None and draws_nothing(layer)
