"""The one place that knows torch.ao.quantization: FX graph mode, post-training static int8 on a CPU engine.

It is deprecated and has no successor yet that is fast on CPU convolutions; so it stands behind three functions, and its
deprecation warnings end here.  The engine is process-wide state in torch and is put back after every use.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped

__all__ = ["is_quantised", "quantise", "weighted"]

_ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
_MODULES_WITHOUT_KERNEL = (nn.SiLU, nn.Mish, nn.SELU)
_FUNCTIONS_WITHOUT_KERNEL = (F.silu, F.mish, F.selu)


def quantise(module: nn.Module, batches: list[Tensor], *, search: bool = True) -> nn.Module:
    """``module`` as a static int8 graph whose activation ranges are those seen on ``batches``; a separate module.

    Without ``search`` a range is simply the least and the greatest value seen: enough, and much faster, for a structure
    whose ranges are filled in afterwards.  Refused, by name, are activations without int8 kernel, code that cannot be
    traced and layers that cannot run.
    """
    _refuse_by_name(module)
    with _adapter():
        prepared = _traced(module, batches[0])
        if not search:
            _observe_extremes(prepared)
        with torch.no_grad():
            for batch in batches:
                prepared(batch)
        graph = _converted(prepared)
        _try(graph, batches[0][:1])
    return graph.eval().requires_grad_(False)


def is_quantised(module: nn.Module) -> bool:
    """Whether ``module`` has a layer with int8 weights."""
    return any(weighted(layer) for layer in module.modules())


def weighted(layer: nn.Module) -> bool:
    """Whether ``layer`` is an int8 convolution or linear layer: ``weight()``, ``bias()`` and ``set_weight_bias()``."""
    return callable(getattr(layer, "set_weight_bias", None)) and hasattr(layer, "scale")


@contextmanager
def _adapter() -> Iterator[None]:
    before = torch.backends.quantized.engine
    engine = next((e for e in _ENGINES if e in torch.backends.quantized.supported_engines), None)
    if engine is None:
        raise Refused("this build of torch has no int8 engine", remedy="leave out static-int8")
    with warnings.catch_warnings(), scoped(Stream(0, ("fx",))):
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = engine
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


def _traced(module: nn.Module, example: Tensor) -> GraphModule:
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    mapping = get_default_qconfig_mapping(torch.backends.quantized.engine)
    try:
        graph: GraphModule = quantize_fx.prepare_fx(copy.deepcopy(module).eval(), mapping, (example,))
    except Exception as error:  # torch.fx runs the user's code: anything may come out of it
        raise Refused(
            f"the model cannot be traced for int8: {_line(error)}",
            remedy="write its forward without branches on values, or leave out static-int8",
        ) from error
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _FUNCTIONS_WITHOUT_KERNEL:
            raise _no_kernel(node.target.__name__)
    return graph


def _observe_extremes(prepared: GraphModule) -> None:
    """Put plain observers where histograms would be searched for the range that loses least."""
    from torch.ao.quantization.observer import HistogramObserver, MinMaxObserver

    for path, observer in list(prepared.named_modules()):
        if isinstance(observer, HistogramObserver):
            plain = MinMaxObserver(observer.dtype, observer.qscheme, reduce_range=observer.reduce_range)
            prepared.set_submodule(path, plain)


def _converted(prepared: GraphModule) -> nn.Module:
    from torch.ao.quantization import quantize_fx

    graph: nn.Module = quantize_fx.convert_fx(prepared)
    if not is_quantised(graph):
        raise Refused("the model has no layer that int8 could store", remedy="leave out static-int8")
    return graph


def _try(graph: nn.Module, example: Tensor) -> None:
    try:
        with torch.no_grad():
            graph(example)
    except Exception as error:  # a missing kernel shows only when it is called
        raise Refused(
            f"the model cannot run in int8: {_line(error)}", remedy="use ReLU networks, or leave out static-int8"
        ) from error


def _refuse_by_name(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, _MODULES_WITHOUT_KERNEL):
            raise _no_kernel(type(layer).__name__)
        if weighted(layer):
            raise Refused("the model is int8 already", remedy="name static-int8 once")
    if any(p.device.type != "cpu" for p in module.parameters()):
        raise Refused("int8 kernels run on the CPU only", remedy='use device = "cpu", or leave out static-int8')


def _no_kernel(name: str) -> Refused:
    return Refused(f"{name} has no int8 kernel", remedy="use ReLU, or leave out static-int8")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
