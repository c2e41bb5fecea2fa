"""Whether a built module is a model, judged on a few random inputs before any arm is looked at.

A model is a function of one record, of its parameters and of its buffers, and of nothing else: no draw, no memory, no
neighbour in the batch, no tensor that a copy would leave behind.  Every figure rests on that, and what a user's module
does can only be found by running it.  All arms, sites and seeds share the model, so it is refused for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from consilium.core.errors import ConsiliumError
from consilium.core.frozen import frozen_layers, set_mode, trained_parameters
from consilium.core.inputs import random_inputs
from consilium.core.network import Network, fill, named_tensors
from consilium.core.random import Stream, scoped
from consilium.core.task import Task
from consilium.core.workspace import Compute
from consilium.learn.alike import SIZES, departure, same_answers
from consilium.learn.architecture import Architecture
from consilium.learn.per_example.independence import outlying, varied
from consilium.learn.user_code.custom_code import group_norm, has_custom_code
from consilium.learn.user_code.imported import imported_afresh
from consilium.study.store.error_summary import error_summary

from .hooks import check_hooks, check_kinds
from .input_memory import check_memory
from .model_refusal import model_refusal
from .reached import check_reached, trial_loss
from .registered import check_registered

__all__ = ["built", "probed"]

_log = logging.getLogger("consilium.probe")
_RECORDS = 4
_SIZES = (2, 3)
_NUDGE = 0.05
"""Weights are moved by this, so that no layer stands at zero; as in the proof of per-example gradients."""
_PUSH = 3.0
"""Weights are moved by this where answers are to leave the interval from 0 to 1."""
_PLACE = "keep it in parameters and buffers (register_buffer), reached through self"


@dataclass(frozen=True)
class _Asked:
    """The ``shape`` of one answer, and how a refusal says what the task asks for."""

    shape: tuple[int, ...]
    words: str

    @classmethod
    def of(cls, task: Task | None, classes: int, inputs: tuple[int, ...]) -> _Asked:
        """What ``task`` asks for (None: one class a record) of inputs of that shape."""
        if task is None or task.exclusive:
            other = "for findings, numbers or masks name another by data.task"
            return cls((classes,), f"one logit per class, as the task single-label asks for; {other}")
        shape = task.answer_shape(classes, inputs)
        each = "one logit a label" if task.counted else "" if task.logits else "one number a quantity"
        each = each if len(shape) == 1 else "one logit a label and place"
        return cls(shape, f"answers of shape {shape}, as the task {task.kind()} asks for{f': {each}' if each else ''}")


def probed(
    module: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    compute: Compute | None = None,
    *,
    trained: bool,
    followed: bool = False,
    again: Callable[[], nn.Module] | None = None,
    task: Task | None = None,
    tokens: int = 0,
) -> Network:
    """``module`` as a network, if it is a model for inputs of ``shape``; else refused, by what it does.

    It answers one logit a class, or as ``task`` asks of that many labels.

    ``tokens``: the size of the vocabulary where inputs are ids.  ``trained``: gradients are needed too; ``followed``:
    in its inputs as well.  ``again`` builds the module anew, from the same seed.
    """
    answer = _Asked.of(task, classes, shape)
    check_kinds(module, trained)
    check_registered(module)
    if trained:
        check_hooks(module)
    _refuse_numbers(module, trained)
    network = _copied(module, compute, tokens)
    device = network.start()[0].device
    x = random_inputs(_RECORDS, shape, tokens, Stream(0, ("probe",)).generator()).to(device)
    try:
        _refuse_answers(network, x[:2], answer)
        for check in (_refuse_side_effects, _refuse_neighbours):
            check(network, x)
        if task is None or task.logits:
            _refuse_probabilities(network, x)
        _refuse_left_behind(module, network, x)
        if again is not None:
            _refuse_unrepeatable(network, again(), x, trained)
            _refuse_other_process(network, again, x, trained)
        if trained:
            _refuse_untrainable(network, x, answer)
            check_reached(network, _moved(network, _NUDGE), x)
            if followed:
                _refuse_unfollowed(network, x)
            check_memory(network, *_moved(network, _NUDGE), x)
    except ConsiliumError:
        raise
    except BaseException as error:  # a user's module may raise anything
        raise model_refusal(
            f"the model fails on random inputs: {error_summary(error)}", "let its forward read any batch"
        ) from error
    return network


def built(model: Architecture, shape: tuple[int, ...], classes: int, stream: Stream, tokens: int = 0) -> nn.Module:
    """What ``model`` builds with the draws of ``stream``; whatever it raises is a refusal."""
    try:
        with scoped(stream):
            return model.build_for(tokens, shape, classes)
    except ConsiliumError:
        raise
    except BaseException as error:  # a user's code may raise anything, and memory may not suffice
        raise model_refusal(f"the model cannot be built: {error_summary(error)}", "check its knobs") from error


def _refuse_numbers(module: nn.Module, trained: bool) -> None:
    """Parameters in float32, and buffers that a flat float32 vector can hold."""
    lazy = [name for name, tensor in named_tensors(module).items() if is_lazy(tensor)]
    if lazy:
        raise model_refusal(
            f"{lazy[0]} has no shape yet: its layer is lazy and forward does not reach it", "give its sizes"
        )
    for name, tensor in named_tensors(module).items():
        if tensor.layout != torch.strided:
            raise model_refusal(
                f"{name} is laid out as {_layout(tensor)}, and vectors are dense", "call .to_dense() on it"
            )
    for name, p in module.named_parameters():
        if p.dtype != torch.float32:
            raise model_refusal(
                f"parameter {name} is {_kind(p)}, and training computes in float32", "call .float() on it"
            )
    for name, b in module.named_buffers():
        if b.is_complex() or not torch.equal(_bits(b.float().to(b.dtype)), _bits(b)):
            raise model_refusal(f"buffer {name} ({_kind(b)}) holds numbers that float32 cannot", "store it as float32")
    if trained and not any(p.numel() for p in module.parameters()):
        raise model_refusal("the model has no parameters: there is nothing to train", "give it layers that learn")
    if trained and not any(p.numel() for p in trained_parameters(module).values()):
        raise model_refusal(
            "every parameter of the model is frozen: there is nothing to train",
            "leave requires_grad of those that train",
        )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _layout(tensor: Tensor) -> str:
    return str(tensor.layout).removeprefix("torch.")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.nan_to_num() if tensor.is_floating_point() else tensor


def _copied(module: nn.Module, compute: Compute | None, tokens: int) -> Network:
    """Sites, shadows and released models are copies."""
    odd = next(_computed(module), None)
    if odd is not None:
        raise model_refusal(
            f"{odd} is computed outside of forward and cannot be copied (the old torch.nn.utils.weight_norm does so)",
            "use torch.nn.utils.parametrizations, or compute it in forward",
        )
    if any(isinstance(layer, nn.DataParallel) for layer in module.modules()):
        raise model_refusal("the model is wrapped in torch.nn.DataParallel", "give the module inside: model.module")
    try:
        return Network(module, compute, tokens)
    except BaseException as error:
        reason = f"the model cannot be copied: {error_summary(error)}"
        raise model_refusal(reason, "keep no open files, generators or locks in it") from error


def _computed(module: nn.Module) -> Iterator[str]:
    """Attributes that hang on a graph of autograd."""
    for path, layer in module.named_modules():
        for name, value in (*vars(layer).items(), *layer._buffers.items()):
            if isinstance(value, Tensor) and not value.is_leaf:
                yield f"{path}.{name}" if path else name


def _refuse_answers(network: Network, x: Tensor, answer: _Asked) -> None:
    """One finite logit per class and record."""
    try:
        answers = network.module_at(*network.start())(x)
    except BaseException as error:  # a user's module may raise anything
        reason = f"the model cannot read inputs of shape {tuple(x.shape[1:])}: {error_summary(error)}"
        raise model_refusal(reason, "choose a model for such inputs") from error
    _refuse_shape(answers, len(x), answer, "")
    if not answers.is_floating_point():
        raise model_refusal(f"the model answers {_kind(answers)}, not logits", "return them before they are rounded")
    if not bool(answers.isfinite().all()):
        raise model_refusal(
            "the model answers NaN or infinity for an input in [0, 1]", "look for log(0), 0/0 and overflow in it"
        )


def _refuse_shape(answers: object, n: int, answer: _Asked, when: str) -> None:
    remedy, per_class = f"it must return {answer.words}", answer.words.startswith("one logit per class")
    if not isinstance(answers, Tensor):
        kind = type(answers).__name__
        raise model_refusal(f"the model answers a {kind}, not a tensor of logits{when}", f"{remedy}, and nothing else")
    if answers.layout != torch.strided:
        raise model_refusal(
            f"the model answers a tensor laid out as {_layout(answers)}{when}, not a dense one", "return out.to_dense()"
        )
    if tuple(answers.shape) == (n, *answer.shape):
        return
    if per_class and answer.shape == (2,) and answers.numel() == n:
        remedy += ": for one logit z per record, torch.stack([torch.zeros_like(z), z], 1) says the same"
    needs = f"{answer.shape[0]} classes" if per_class else f"answers of shape {answer.shape}"
    raise model_refusal(f"the model answers {tuple(answers.shape)} for {n} records and {needs}{when}", remedy)


def _refuse_side_effects(network: Network, x: Tensor) -> None:
    """In evaluation nothing is changed, drawn or remembered."""
    module, shown = network.module_at(*network.start()), x.clone()
    before = {name: t.clone() for name, t in named_tensors(module).items()}
    with torch.no_grad():
        answers = []
        for number in range(2):
            with scoped(Stream(number, ("probe", "draws"))):
                answers.append(module(shown).clone())
            if not torch.equal(shown, x):
                raise model_refusal("the model changes its inputs in place", "write x = x * 2 for x *= 2, and the like")
    changed = [n for n, t in named_tensors(module).items() if not torch.equal(_bits(before[n]), _bits(t))]
    if changed:
        raise model_refusal(
            f"the model changes {changed[0]} in evaluation", "change it only where self.training is true"
        )
    if not same_answers(*answers):
        raise model_refusal(
            "the model answers the same input otherwise when it is asked again, in evaluation: it draws or remembers",
            "hand training=self.training to F.dropout and the like, or use nn.Dropout; keep no state between calls",
        )


def _moved(network: Network, by: float) -> tuple[Tensor, Tensor]:
    """Other weights, the same buffers."""
    params, buffers = network.start()
    direction = torch.randn(params.shape, generator=Stream(0, ("probe", "weights")).generator())
    return params + by * direction.to(params.device), buffers


def _refuse_neighbours(network: Network, x: Tensor) -> None:
    tolerance = 1e-3 if x.device.type == "cpu" else 1e-2  # convolutions on a GPU round to ten bits
    with torch.no_grad():
        sound = bool(network.logits(*_moved(network, _NUDGE), x).isfinite().all())
    sizes = SIZES if has_custom_code(network.template) else _SIZES  # torch's layers do not ask for the size
    if sizes is SIZES:
        with scoped(Stream(0, ("probe", "varied"))):
            more = [draw(x.shape[1:], like=x, tokens=network.tokens) for draw in (varied, outlying)]
            x = torch.cat([x, *more])
    difference = departure(network.module_at(*_moved(network, _NUDGE if sound else 0.0)), x, tolerance, sizes)
    if difference is not None:
        remedy = group_norm(network.template).removeprefix("use ")
        raise model_refusal(
            f"an answer depends on the other examples of its batch, in evaluation too: {difference}",
            f"use running statistics there (track_running_stats), or {remedy}" if "Norm" in remedy else remedy,
        )


def _refuse_probabilities(network: Network, x: Tensor) -> None:
    """Rows that sum to one, or answers that stay within 0 and 1 whatever the weights are."""
    with torch.no_grad():
        near, far = (network.logits(*_moved(network, by), x) for by in (_NUDGE, _PUSH))
        start = network.logits(*network.start(), x)
    sums = all(bool((a >= 0).all() and ((a.sum(1) - 1).abs() < 1e-3).all()) for a in (start, near))
    within = all(bool(((a >= 0) & (a <= 1)).all()) for a in (start, near, far))
    if sums or (within and bool((far.amax(0) > far.amin(0)).any())):
        raise model_refusal(
            "the model answers probabilities, and softmax is taken of its answers once more",
            "give logits: leave out the softmax or sigmoid at its end (log_softmax may stay)",
        )


def _refuse_left_behind(module: nn.Module, network: Network, x: Tensor) -> None:
    """Closures and bound hooks of a copy still reach the tensors of the first module."""
    params, buffers = _moved(network, _NUDGE)
    before, training = {name: t.detach().clone() for name, t in named_tensors(module).items()}, module.training
    try:
        fill(module, network.tensors_at(params, buffers))
        with torch.no_grad():
            original = module.eval()(x.clone())
    finally:
        fill(module, before)
        module.train(training)
    with torch.no_grad():
        copied = network.logits(params, buffers, x)
    if not same_answers(copied, original):
        raise model_refusal("a copy of the model with other weights still answers from those of the first", _PLACE)


def _refuse_unrepeatable(network: Network, again: nn.Module, x: Tensor, trained: bool, how: str = "") -> None:
    """A stored model is read back into one that is built again, ``how`` where not simply so."""
    params, buffers = network.start()
    rebuilt = named_tensors(again)
    same = all(torch.equal(_bits(rebuilt[name]), _bits(t)) for name, t in network.constants.items())
    if trained and not (same and torch.equal(_bits(network.flatten(again)[0]), _bits(params))):
        raise model_refusal(
            f"built again{how} from the same seed, the model has other first weights",
            "draw them from torch's own generator, and initialise every parameter",
        )
    fill(again, network.tensors_at(params, buffers))
    with torch.no_grad():
        if not same_answers(network.logits(params, buffers, x), again.eval()(x)):
            raise model_refusal(
                f"built again{how} with the same weights, the model answers otherwise: it is not all stored", _PLACE
            )


def _refuse_other_process(network: Network, again: Callable[[], nn.Module], x: Tensor, trained: bool) -> None:
    """So too in another process, where the user's files are executed once more."""
    with imported_afresh() as modules:
        if not modules:
            return
        try:
            built_again = again()
        except ConsiliumError as error:  # such as a file that registers what may be registered once
            _log.warning("the model's files cannot be imported twice, so that is not compared: %s", error.reason)
            return
        _refuse_unrepeatable(network, built_again, x, trained, " after a fresh import")


def _refuse_training_mode(network: Network, x: Tensor, answer: _Asked) -> None:
    """Logits there too; and a vector of buffers follows what is written into them, not what is put in their place."""
    module = network.copy_at(*network.start())
    set_mode(module, True, frozen_layers(module).values())
    before = dict(module.named_buffers())
    _refuse_shape(module(x.clone()), len(x), answer, ", in training mode")
    after = dict(module.named_buffers())
    replaced = [name for name in before if after.get(name) is not before[name]]
    if replaced:
        name = replaced[0]
        raise model_refusal(f"training replaces the buffer {name}", f"write into it: self.{name}.copy_(...)")
    tensors = named_tensors(module)
    moved = next((n for n, t in network.constants.items() if not torch.equal(_bits(tensors[n]), _bits(t))), None)
    if moved is not None:
        raise model_refusal(
            f"training changes {moved} in forward, and its layer is frozen",
            "change it only where self.training is true, or train a parameter of its layer",
        )


def _refuse_unfollowed(network: Network, x: Tensor) -> None:
    """Some input can be changed for the worse."""
    leaf = x.clone().requires_grad_(True)
    answers = network.logits(*_moved(network, _NUDGE), leaf)
    loss = trial_loss(answers)
    if loss.requires_grad and bool(torch.autograd.grad(loss, leaf, materialize_grads=True)[0].any()):
        return
    raise model_refusal(
        "no gradient reaches the inputs, and the study makes adversarial examples in training: it would find none",
        "leave out round, sign, detach and backward hooks that stop it, or adversarial training and poisoning",
    )


def _refuse_untrainable(network: Network, x: Tensor, answer: _Asked) -> None:
    """A gradient comes back."""

    def loss(predict: Callable[[Tensor], Tensor]) -> Tensor:
        answers = predict(x)
        if not answers.requires_grad:
            raise model_refusal("no gradient reaches the model's parameters", "leave out torch.no_grad and .detach()")
        return trial_loss(answers)

    with scoped(Stream(0, ("probe", "training"))):
        _refuse_training_mode(network, x, answer)
        gradient, _ = network.workspace.gradient(*network.start(), loss)
    if not bool(gradient.isfinite().all()):
        raise model_refusal(
            "the model's gradient is NaN or infinite at its first weights", "look for sqrt(0) and overflow"
        )
    if not bool(gradient.any()):
        raise model_refusal("the gradient of every parameter is zero: nothing would be learned", "check its forward")
