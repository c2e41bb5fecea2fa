"""Label skew: each label's units are divided over the sites by its own draw of shares.

    p_c ~ Dirichlet(alpha, ..., alpha) for every label c;  site k holds a share p_c[k] of label c

alpha -> infinity gives even sites, alpha -> 0 gives each label to one site.  Some draws leave a site almost nothing;
they are drawn again, and the number of tries is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.data.partition import Partition

__all__ = ["Dirichlet"]


@dataclass(frozen=True)
class Dirichlet(Partition):
    """Label skew: every label is divided over the sites by shares drawn from Dirichlet(alpha).

    ``minimum`` is the least number of units of a site; draws are repeated up to ``tries`` times for it.

    Source: Yurochkin et al. 2019, Bayesian Nonparametric Federated Learning of Neural Networks
    """

    alpha: float = 0.5
    """Concentration: the smaller, the more unequal are the classes of the sites."""
    minimum: int = 10
    """Fewest units that a site may have."""
    tries: int = 100
    """How often the draw is repeated until every site has the minimum."""

    def __post_init__(self) -> None:
        check(0 < self.alpha < float("inf"), "alpha", self.alpha, "a number above 0, such as 0.5")
        check(self.minimum >= 1, "minimum", self.minimum, "1 or more")
        check(self.tries >= 1, "tries", self.tries, "1 or more")

    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site ``(u,)`` of each unit; refused where no try gives every site its minimum.

        Raises Refused: too few units, or no draw gives every site its minimum.
        """
        if len(y) < sites * self.minimum:
            raise Refused(
                f"{len(y)} units cannot give {sites} sites {self.minimum} each",
                remedy="use fewer sites or a smaller minimum",
                where="minimum",
            )
        for _ in range(self.tries):
            site = self._draw(y, sites, generator)
            sizes = torch.bincount(site, minlength=sites)
            if int(sizes.min()) >= self.minimum:
                return site
        raise Refused(
            f"site-{int(sizes.argmin())} got {int(sizes.min())} units, fewer than {self.minimum}, in the last of "
            f"{self.tries} draws at alpha = {self.alpha:g}",
            remedy="use fewer sites, a larger alpha, or a smaller minimum",
            where="partition",
        )

    def _draw(self, y: Tensor, sites: int, generator: torch.Generator) -> Tensor:
        numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        site = torch.empty(len(y), dtype=torch.long)
        for label in torch.unique(y).tolist():
            units = torch.from_numpy(numbers.permutation((y == label).nonzero().flatten().numpy()))
            ends = np.rint(numbers.dirichlet([self.alpha] * sites).cumsum() * len(units)).astype(np.int64)[:-1]
            for k, part in enumerate(torch.tensor_split(units, ends.tolist())):
                site[part] = k
        return site
