"""Per-example gradients, clipped and summed: sum_i g_i min(1, C / ||g_i||), g_i the gradient of example i's loss alone.

Book-keeping: one forward, one backward to the OUTPUTS of the layers, then per layer the norm of every example's
gradient from a layer's input and output gradient, and one weighted sum.  Layers without a rule use ``vmap``, which is
logged; networks that vmap cannot run are evaluated one example at a time.

To follow a private step of a Linear network, read ``defend/training/dp_sgd`` (the knobs), ``_dp_sgd_rule`` (batch,
sum, noise, charge), and here ``clipping``, ``bookkeeping`` and ``linear``, in this order.

    clipping         the clipped sum, its sensitivity and the norms: flat, per-layer and automatic
    dispatch         book-keeping, vmap or one by one: decided once per network, by types and a proof on two examples
    bookkeeping      a live module that records its layers      by_vmap   the whole network, one example at a time
    one_by_one       the same without vmap, for what it cannot carry
    units            physical parts of a batch, and several records that count as one
    layer_rule       the base of all rules, and where they are registered, a user's own too
    linear, convolution, depthwise, normalisation, embedding, any_module: one rule for each family
    layer_gradients  one layer's per-example gradients: formed, or never formed (ghost)
    attention        multi-head attention taken apart into linear layers

Source: Abadi et al. 2016, arXiv 1607.00133 (clipping per example); Bu et al. 2023, arXiv 2210.00038 (book-keeping);
Li et al. 2022, arXiv 2110.05679 (ghost norms)
"""

from .clipping import ClippedSum, ClippingStyle, clipped_sum, per_example_norms
from .layer_gradients import FormedGradients
from .layer_rule import LayerCall, LayerRule, register

__all__ = ["ClippedSum", "ClippingStyle", "FormedGradients", "LayerCall", "LayerRule", "clipped_sum",
           "per_example_norms", "register"]  # fmt: skip
