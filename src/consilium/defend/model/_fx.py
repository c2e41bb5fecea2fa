"""The only module that uses torch.ao.quantization: FX graph mode, post-training static int8 on a CPU engine.

It is deprecated and has no successor yet that is fast on CPU convolutions; so it is used through three functions, and
its deprecation warnings end here.  The engine is process-wide state in torch and is put back after every use.

Some of torch's int8 kernels compute something else than the layer they stand for (pytorch/pytorch 54837): those known
run in float, and the result is compared with torch's own reference of it, which quantises the same numbers and
computes in float between.  What kernels add must be of the size of what quantisation itself costs.

Tracing may lose part of a module, and the reference then lacks it too: so the traced graph, still in float, is compared
with the module itself, and hooks that tracing or int8 layers leave out are refused by name.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx.config
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.random import Stream, scoped
from consilium.learn.standardised import StandardisedConv2d

__all__ = ["embedded", "is_quantised", "quantise", "weighted"]

_ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
_MODULES_WITHOUT_KERNEL = (nn.SiLU, nn.Mish, nn.SELU)
_FUNCTIONS_WITHOUT_KERNEL = (F.silu, F.mish, F.selu)
_FLOAT_MODULES: tuple[type[nn.Module], ...] = (
    # Wrong in batches where channels come last; running statistics are ignored.
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    # Wrong for one record too; the slopes would not be stored.
    nn.PReLU,
    # Wrong for one record too under the engine x86.
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_FLOAT_FUNCTIONS: tuple[Callable[..., Tensor], ...] = (
    # Weights that forward makes or hands over are packed where nothing stores them: another model would be loaded.
    *(F.linear, F.conv1d, F.conv2d, F.conv3d),
    *(F.instance_norm, F.group_norm, F.prelu),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
)
"""What stays in float between int8 layers: torch's int8 kernels of it are wrong (measured, torch 2.13), or its weights
belong to no layer."""
_MOST_CALLS = 8
"""Of one layer in one pass, for which the range of each is searched; for more the extremes are taken."""
_NO_TRACES = "do_not_emit_stack_traces"
_MOST_ADDED = 4.0
"""How many times the cost of quantisation kernels may add to it: a pooling rounds once more than its reference does,
1.4 times at most; wrong kernels were at 27 and more (measured over 110 layers)."""
_ROUNDING = 1e-4
"""What they may add as a share of the answers where quantisation costs nothing: rounding in another order."""
_FOLDING = 1e-3
"""By what share of the answers the traced float graph may depart: BatchNorm is folded into the layer before it."""


def quantise(module: nn.Module, batches: list[Tensor], *, search: bool = True, proved: bool = False) -> nn.Module:
    """``module`` as a static int8 graph whose activation ranges are those seen on ``batches``; a separate module.

    Without ``search`` a range is simply the least and the greatest value seen: enough, and much faster, for a structure
    whose ranges are filled in afterwards.  ``proved``: its kernels are compared with their reference on the first
    batch.  Refused, by name, are activations without int8 kernel, code that cannot be traced, layers that cannot run,
    and kernels that compute something else.

    Raises Refused: the module cannot be traced or quantised, or its kernels differ from their reference.
    """
    _refuse_by_name(module)
    try:
        with _adapter(), torch.no_grad():
            prepared = _traced(module, batches[0])
            if not search or _recurrent(prepared):
                _observe_extremes(prepared)
            for batch in batches:
                answered = prepared(batch)
                if proved:
                    _refuse_another_function(module, answered, batch)
            reference = _reference(prepared) if proved else None
            graph = _converted(prepared)
            _try(graph, batches[0][:1])
            if reference is not None:
                _refuse_wrong_kernels(module, reference, graph, batches[0])
    except ConsiliumError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code runs under torch's observers: any exception is possible
        raise Refused(f"the model cannot be quantised: {_line(error)}", remedy="leave out static-int8") from error
    return graph.eval().requires_grad_(False)


def is_quantised(module: nn.Module) -> bool:
    """Whether ``module`` has a layer with int8 weights."""
    return any(weighted(layer) or embedded(layer) for layer in module.modules())


def embedded(layer: nn.Module) -> bool:
    """Whether ``layer`` is an embedding of 8-bit codes: ``weight()`` and ``set_weight()``."""
    return callable(getattr(layer, "set_weight", None)) and hasattr(layer, "num_embeddings")


def weighted(layer: nn.Module) -> bool:
    """Whether ``layer`` is an int8 convolution or linear layer: ``weight()``, ``bias()`` and ``set_weight_bias()``."""
    return callable(getattr(layer, "set_weight_bias", None)) and hasattr(layer, "scale")


@contextmanager
def _adapter() -> Iterator[None]:
    before = torch.backends.quantized.engine
    engine = next((e for e in _ENGINES if e in torch.backends.quantized.supported_engines), None)
    if engine is None:
        raise Refused("this build of torch has no int8 engine", remedy="leave out static-int8")
    with warnings.catch_warnings(), scoped(Stream(0, ("fx",))), _without_stack_traces():
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = engine
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


@contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Nodes of a graph do not record where they were traced: nobody reads it, and it imports the whole compiler."""
    config = torch.fx.config
    before = getattr(config, _NO_TRACES, None)  # older releases of torch lack it
    if before is not None:
        setattr(config, _NO_TRACES, True)
    try:
        yield
    finally:
        if before is not None:
            setattr(config, _NO_TRACES, before)


def _traced(module: nn.Module, example: Tensor) -> GraphModule:
    from torch.ao.quantization import (
        float_qparams_weight_only_qconfig,
        get_default_qconfig_mapping,
        quantize_fx,
    )

    mapping = get_default_qconfig_mapping(torch.backends.quantized.engine)
    if not example.is_floating_point():  # vectors of words: codes with a scale for each word
        mapping.set_object_type(nn.Embedding, float_qparams_weight_only_qconfig)
    float_targets: tuple[Callable[..., Any], ...] = (*_FLOAT_MODULES, *_FLOAT_FUNCTIONS)
    for kind in float_targets:
        mapping.set_object_type(kind, None)
    try:
        graph: GraphModule = quantize_fx.prepare_fx(_with_plain_layers(module), mapping, (example,))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # torch.fx runs the user's code: any exception is possible
        raise Refused(
            f"the model cannot be traced for int8: {_line(error)}",
            remedy="write its forward without branches on values, or leave out static-int8",
        ) from error
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _FUNCTIONS_WITHOUT_KERNEL:
            raise _no_kernel(node.target.__name__)
    _keep_in_float(graph)
    return graph


def _with_plain_layers(module: nn.Module) -> nn.Module:
    """A copy of ``module`` in evaluation whose standardised convolutions are ordinary ones, which int8 stores."""
    module = copy.deepcopy(module).eval()
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        if path and isinstance(layer, StandardisedConv2d):
            module.set_submodule(path, layer.plain())
    return module


def _keep_in_float(graph: GraphModule) -> None:
    """Hide from the conversion what has to stay: between two int8 layers it would be replaced, configured or not."""
    for layer in graph.modules():
        if type(layer) in _FLOAT_MODULES:
            layer.__class__ = type(f"Float{type(layer).__name__}", (type(layer),), {})
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target in _FLOAT_FUNCTIONS:
            node.target = _in_float(node.target)
    graph.recompile()


def _in_float(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def computed(*args: Any, **kwargs: Any) -> Tensor:
        return function(*args, **kwargs)

    return computed


def _recurrent(prepared: GraphModule) -> bool:
    """Whether one layer is called at many places, as in a network that was unrolled over positions.

    Each call has a range of its own, and to search all of them takes minutes.
    """
    calls = Counter(str(node.target) for node in prepared.graph.nodes if node.op == "call_module")
    layers = dict(prepared.named_modules())
    return any(n > _MOST_CALLS and hasattr(layers[name], "weight") for name, n in calls.items())


def _observe_extremes(prepared: GraphModule) -> None:
    """Put plain observers where histograms would be searched for the range that loses least."""
    from torch.ao.quantization.observer import HistogramObserver, MinMaxObserver

    for path, observer in list(prepared.named_modules()):
        if isinstance(observer, HistogramObserver):
            plain = MinMaxObserver(observer.dtype, observer.qscheme, reduce_range=observer.reduce_range)
            prepared.set_submodule(path, plain)


def _converted(prepared: GraphModule) -> nn.Module:
    from torch.ao.quantization import quantize_fx

    graph: GraphModule = quantize_fx.convert_fx(prepared)
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(_attribute(graph, str(node.target)), torch.ScriptObject):
            raise Refused(
                f"the weights of {next(iter(node.users)).target} belong to no layer, and would not be stored",
                remedy="use nn.Linear, nn.Conv2d and the like in place of functions, or leave out static-int8",
            )
    if not is_quantised(graph):
        raise Refused("the model has no layer that int8 could store", remedy="leave out static-int8")
    return graph


def _attribute(graph: nn.Module, path: str) -> object:
    return functools.reduce(getattr, path.split("."), graph)


def _reference(prepared: GraphModule) -> nn.Module:
    """The same quantised numbers, with torch's float operations between them."""
    from torch.ao.quantization import quantize_fx

    reference: nn.Module = quantize_fx.convert_to_reference_fx(copy.deepcopy(prepared))
    return reference


def _refuse_wrong_kernels(module: nn.Module, reference: nn.Module, graph: nn.Module, x: Tensor) -> None:
    """Refuse a graph that is further from its reference than that is from the float ``module``."""
    exact, rounded, answered = module(x), reference(x), graph(x)
    added, cost = float((answered - rounded).norm()), float((rounded - exact).norm())
    if not added <= _MOST_ADDED * cost + _ROUNDING * float(exact.norm()):  # also where one is not a number
        raise Refused(
            "torch's int8 kernels for this model do not compute what its layers do: they move the answers by "
            f"{added / max(float(exact.norm()), 1e-12):.2g} of their size, and quantisation by "
            f"{cost / max(float(exact.norm()), 1e-12):.2g}",
            remedy="replace the layer that is no convolution, linear layer, pooling or ReLU, or leave out static-int8",
        )


def _try(graph: nn.Module, example: Tensor) -> None:
    try:
        with torch.no_grad():
            graph(example)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a missing kernel shows only when it is called
        raise Refused(
            f"the model cannot run in int8: {_line(error)}", remedy="use ReLU networks, or leave out static-int8"
        ) from error


def _refuse_another_function(module: nn.Module, answered: Tensor, x: Tensor) -> None:
    """Refuse a traced float graph that ``answered`` the inputs ``x`` otherwise than ``module`` does."""
    exact = module(x)
    apart, size = float((answered - exact).norm()), float(exact.norm())
    if exact.isfinite().all() and not apart <= _FOLDING * size:
        raise Refused(
            f"the model cannot be traced for int8: what is traced answers otherwise, by {apart / max(size, 1e-12):.2g} "
            "of the size of the answers",
            remedy="compute everything in forward, without hooks and branches, or leave out static-int8",
        )


def _refuse_hooks(module: nn.Module) -> None:
    """Hooks of the model itself are not traced, and those of an innermost layer are gone with it."""
    inner = torch.fx.Tracer().is_leaf_module
    for path, layer in module.named_modules():
        if path and not inner(layer, path):
            continue
        for kind, hooks in (("forward hook", layer._forward_hooks), ("forward pre-hook", layer._forward_pre_hooks)):
            if hooks:
                name = f"layer {path} ({type(layer).__name__})" if path else "the model itself"
                raise Refused(
                    f"{name} has a {kind}, which int8 kernels would leave out",
                    remedy="do in forward what the hook does, or leave out static-int8",
                )


def _refuse_by_name(module: nn.Module) -> None:
    _refuse_hooks(module)
    for layer in module.modules():
        if isinstance(layer, _MODULES_WITHOUT_KERNEL):
            raise _no_kernel(type(layer).__name__)
        if weighted(layer):
            raise Refused("the model is int8 already", remedy="name static-int8 once")
    if any(p.device.type != "cpu" for p in module.parameters()):
        raise Refused("int8 kernels run on the CPU only", remedy='use device = "cpu", or leave out static-int8')


def _no_kernel(name: str) -> Refused:
    return Refused(f"{name} has no int8 kernel", remedy="use ReLU, or leave out static-int8")


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
