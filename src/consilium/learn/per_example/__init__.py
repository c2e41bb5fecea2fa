"""Per-example gradients, clipped and summed: sum_i g_i min(1, C / ||g_i||), g_i the gradient of example i's loss alone.

Book-keeping: one forward, one backward to the OUTPUTS of the layers, then per layer the norm of every example's
gradient from what went in and what came back, and one weighted sum.  What no rule covers goes through ``vmap``, and the
log says so; what that cannot carry goes one by one.

    sums        what callers use: the clipped sum and the norms, in physical chunks, per unit if asked
    styles      flat, per-layer and automatic clipping
    units       several records that count as one
    route       book-keeping, vmap or one by one: decided once per network, by types and a proof on two made-up examples
    bookkeeping a live module that records its layers       by_vmap   the whole network, one example at a time
    one_by_one  the same without vmap, for what it cannot carry
    pieces      one layer's per-example gradients: formed, or never formed (ghost)
    linear, convolution, normalisation, embedding, any_module: one rule for each family
    attention   multi-head attention taken apart into linear layers

Source: Abadi et al. 2016, arXiv 1607.00133 (clipping per example); Bu et al. 2023, arXiv 2210.00038 (book-keeping);
Li et al. 2022, arXiv 2110.05679 (ghost norms)
"""

from .styles import Style
from .sums import clipped_sum, per_example_norms

__all__ = ["Style", "clipped_sum", "per_example_norms"]
