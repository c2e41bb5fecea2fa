"""Every rule against vmap in float64 to 1e-12: random shapes and options, some examples clipped and some not."""

import runpy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.per_example import clipped_sum, dispatch, layer_gradients, layer_rule, per_example_norms
from consilium.learn.per_example.bookkeeping import BookKeeping, rules_of
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.per_example.layers import convolution, linear
from consilium.learn.per_example.layers.depthwise import DepthwiseRule

made = runpy.run_path(str(Path(__file__).with_name("layer_problem.py")))
Dot, N, close, problem = (made[name] for name in ("Dot", "N", "close", "problem"))

few = settings(max_examples=12, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


class Around(nn.Module):
    """``layer`` called by ``how(layer, x)``."""

    def __init__(self, layer, how=None, first=None):
        super().__init__()
        self.first, self.layer, self.how = first or nn.Identity(), layer, how

    def forward(self, x):
        x = self.first(x)
        return self.layer(x) if self.how is None else self.how(self.layer, x)


def check(module, x, *, seed=0, layout="contiguous", clip=None, modules_by_vmap=False, **knobs):
    """Book-keeping is the route taken, and agrees with vmap on norms and on the clipped sum."""
    network, params, buffers, batch = problem(module, x, seed, layout)
    ours = per_example_norms(network, params, buffers, Dot(), batch)
    books = dispatch._known[network]
    assert isinstance(books, BookKeeping)
    assert bool(books.by_vmap) == modules_by_vmap
    clip = clip or float(ours.median())
    sums = clipped_sum(network, params, buffers, Dot(), batch, clip, **knobs).value
    dispatch._known[network] = ByVmap(network)
    theirs = per_example_norms(network, params, buffers, Dot(), batch)
    assert 0 < int((theirs > clip * (1 + 1e-9)).sum()) < len(theirs)
    close(ours, theirs)
    close(sums, clipped_sum(network, params, buffers, Dot(), batch, clip, **knobs).value)


@pytest.fixture(params=["cheaper", "ghost", "instantiate"])
def norm(request, monkeypatch):
    """Both exact norms, whichever the cost rule would take."""
    if request.param != "cheaper":
        for room in (linear, convolution):
            monkeypatch.setattr(room, "ghost_is_cheaper", lambda *_: request.param == "ghost")
    return request.param


def test_linear_with_any_leading_dimensions(norm):
    @few
    @given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 5), st.integers(1, 5), st.booleans(), seeds)
    def law(lead, before, after, bias, seed):
        check(nn.Linear(before, after, bias=bias), (*lead, before), seed=seed)

    law()


@st.composite
def convolutions(draw, depthwise=False):
    """A convolution of any rank and options, and a size of image that it fits."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(2 if depthwise else 1, 3))
    each = st.integers(1, 2)
    axis = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, dilation = draw(axis), draw(st.lists(each, min_size=rank, max_size=rank))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    mode = "zeros" if rank == 3 and mode == "reflect" else mode
    same = draw(st.booleans())
    stride = [1] * rank if same else draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    padding = "same" if same else [draw(st.integers(0, 1)) for _ in range(rank)]
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](
        groups * (1 if depthwise else draw(each)), groups * draw(each), kernel, stride=stride, dilation=dilation,
        groups=groups, padding=padding, padding_mode=mode, bias=draw(st.booleans()),
    )  # fmt: skip
    size = [d * (k - 1) + 1 + draw(st.integers(0, 2)) for k, d in zip(kernel, dilation, strict=True)]
    return layer, (layer.in_channels, *[max(s, 3) if mode != "zeros" else s for s in size])


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_convolutions_with_every_option(norm, layout):
    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(convolutions(), seeds)
    def law(made, seed):
        check(*made, seed=seed, layout=layout)

    law()


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_depthwise_convolutions_have_a_rule_of_their_own(layout):
    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(convolutions(depthwise=True), seeds)
    def law(made, seed):
        layer, size = made
        assert isinstance(rules_of(layer)[0], DepthwiseRule)
        check(layer, size, seed=seed, layout=layout)

    law()


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_group_and_instance_norm(layout):
    @few
    @given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(2, 4), min_size=1, max_size=3), seeds)
    def law(groups, each, size, seed):
        c = groups * each
        check(nn.GroupNorm(groups, c), (c, *size), seed=seed, layout=layout)
        instance = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[len(size) - 1]
        check(instance(c, affine=True), (c, *size), seed=seed, layout=layout)

    law()


def test_layer_and_rms_norm():
    @few
    @given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.data(), seeds)
    def law(shape, data, seed):
        size = shape[-data.draw(st.integers(1, len(shape))) :]
        for layer in (nn.LayerNorm(size), nn.LayerNorm(size, bias=False), nn.RMSNorm(size), nn.RMSNorm(size, eps=0.1)):
            check(layer, tuple(shape), seed=seed)

    law()


def test_norms_without_scale_have_no_gradient_and_no_rule():
    layers = (nn.GroupNorm(2, 4, affine=False), nn.InstanceNorm2d(4), nn.LayerNorm(3, elementwise_affine=False))
    for layer in layers:
        check(nn.Sequential(nn.Conv2d(4, 4, 1), layer, nn.Conv2d(4, 2, 1)), (4, 3, 3))


def test_embedding_with_repeated_tokens():
    @few
    @given(st.integers(1, 6), st.integers(2, 5), st.sampled_from([None, 0, 1]), seeds)
    def law(length, vocabulary, padding, seed):
        net = nn.Sequential(nn.Embedding(vocabulary, 3, padding_idx=padding), nn.Flatten(), nn.Linear(3 * length, 2))
        check(net, lambda: torch.randint(vocabulary, (N, length)), seed=seed)

    law()


class Attention(nn.Module):
    """Self- or cross-attention, with or without a mask."""

    def __init__(self, masked=False, cross=False, **knobs):
        super().__init__()
        self.attention, self.masked, self.cross = nn.MultiheadAttention(6, 2, **knobs), masked, cross

    def forward(self, x):
        q = x if self.attention.batch_first else x.transpose(0, 1)
        k = q.flip(1) * 2 if self.cross else q
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if self.masked else None
        hidden = torch.zeros(x.shape[:2], dtype=torch.bool).index_fill(1, torch.tensor(0), self.cross)
        kd = self.attention.kdim
        out, weights = self.attention(
            q, k[..., :kd], k[..., :6], attn_mask=mask, key_padding_mask=hidden, need_weights=self.cross
        )
        out = out if self.attention.batch_first else out.transpose(0, 1)
        return out if weights is None else torch.cat([out, weights], 2)


ATTENTIONS = {
    "self": {"batch_first": True},
    "no bias": {"batch_first": True, "bias": False},
    "sequence first": {},
    "causal": {"batch_first": True, "masked": True},
    "cross, other widths": {"batch_first": True, "cross": True, "kdim": 4},
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention(kind, norm):
    check(Attention(**ATTENTIONS[kind]), (4, 6))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_transformer_layer():
    check(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True), (4, 6))


class Tied(nn.Module):
    """An embedding whose weight is also the last layer's: two different layers, one parameter."""

    def __init__(self):
        super().__init__()
        self.tokens, self.out = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x):
        return self.out(torch.tanh(self.tokens(x)))


def twice(layer, x):
    return layer(torch.tanh(layer(x)))


def test_shared_and_reused_layers(norm):
    check(Tied(), lambda: torch.randint(7, (N, 4)))
    check(Around(nn.Linear(4, 4), twice), (3, 4))
    check(Around(nn.Conv2d(2, 2, 3, padding=1), twice), (2, 4, 4))
    check(Around(nn.Conv2d(4, 4, 2, groups=2), twice), (4, 5, 5))
    check(Around(nn.Conv2d(2, 2, 2, groups=2), twice), (2, 5, 5))
    check(Around(nn.InstanceNorm2d(2, affine=True), twice), (2, 5, 5))
    check(Around(nn.GroupNorm(2, 4), twice), (4, 3))


def test_examples_folded_into_the_first_dimension(norm):
    check(Around(nn.Linear(4, 3), lambda layer, x: layer(x.flatten(0, 1)).view(len(x), -1)), (3, 4))


def test_what_is_done_in_place_to_an_output(norm):
    check(
        nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(inplace=True), nn.GroupNorm(2, 4), nn.ReLU(inplace=True)), (2, 4, 4)
    )


class Scale(nn.Module):
    """A module of the user's own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return torch.tanh(x * self.scale)


def test_any_other_module_goes_by_vmap_and_the_log_says_so(caplog):
    caplog.set_level("INFO", logger="consilium.per_example")
    check(Around(Scale(), first=nn.Linear(4, 4)), (3, 4), modules_by_vmap=True)
    check(Around(nn.ConvTranspose1d(4, 2, 3), first=nn.Conv1d(4, 4, 1)), (4, 5), modules_by_vmap=True)
    named = [r for r in caplog.records if "go by vmap: layer" in r.getMessage()]
    assert len(named) == 2


def test_a_weight_put_together_by_a_parametrisation_goes_by_vmap():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    check(Around(layer, first=nn.Linear(4, 4)), (3, 4), modules_by_vmap=True)


class Past(nn.Module):
    """Uses a layer's weight past the layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) + F.linear(x, self.layer.weight)


def centred(layer, x):
    return layer(x - x.mean(0))


def detached(layer, x):
    return layer(x - x.mean(0).detach())


def counted(layer, x):
    return layer(x) / len(x)


REFUSED = {
    "past its layer": Past(),
    "mixes": Around(nn.Linear(4, 4), centred),
    "mixes past autograd": Around(nn.Linear(4, 4), detached),
    "size of the batch": Around(nn.Linear(4, 4), counted),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_book_keeping_cannot_do_goes_by_vmap_as_a_whole(kind, caplog):
    network, params, buffers, batch = problem(REFUSED[kind], (4,))
    norms = per_example_norms(network, params, buffers, Dot(), batch)
    assert isinstance(dispatch._known[network], ByVmap)
    per_example_norms(network, params, buffers, Dot(), batch)
    assert len([r for r in caplog.records if "by vmap" in r.getMessage()]) == 1
    for i in range(N):
        at = params.clone().requires_grad_()
        one = {name: t[i : i + 1] for name, t in batch.items()}
        loss = Dot().losses(lambda x, at=at: network.logits(at, buffers, x, training=True), one)
        close(norms[i], torch.autograd.grad(loss.sum(), at)[0].norm())


def test_batch_norm_is_never_book_kept():
    assert dispatch._by_type(Network(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)))) is None
    assert "BatchNorm1d" in dispatch._by_type(Network(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))))
    assert "InstanceNorm1d" in dispatch._by_type(Network(nn.InstanceNorm1d(4, track_running_stats=True)))


class Forgets(linear.LinearRule):
    """A broken rule: positions are taken for examples of their own, so a norm misses what they have in common."""

    def gradients(self, calls, n):
        made = super().gradients(calls, n)
        if isinstance(made, layer_gradients.MatrixGradients):
            made._squares = (made.g.square().sum(2) * made.products.a.square().sum(2)).sum(1)
        return made


def test_a_broken_rule_is_told_apart_by_the_comparison_and_by_the_proof(monkeypatch):
    monkeypatch.setitem(layer_rule._RULES, nn.Linear, [Forgets])
    with pytest.raises(Refused, match="Forgets of the model"):  # the proof sees it
        check(nn.Linear(3, 2), (4, 3))
    monkeypatch.setattr(dispatch, "_differs", lambda *_: None)
    with pytest.raises(AssertionError, match="close"):
        check(nn.Linear(3, 2), (4, 3))
    check(nn.Linear(3, 2), (3,))  # one position: nothing to forget


def cancelling():
    """In float32: positions of one large input each, whose gradients sum to almost nothing."""
    with scoped(Stream(0)):
        network = Network(nn.Linear(512, 256, bias=False))
        x = torch.rand(1, 1, 512).expand(4, 16, 512) * torch.tensor([1.0, 10, 100, 1000])[:, None, None]
        g = torch.randn(4, 16, 256)
        return network, {"x": x.contiguous(), "y": (g - g.mean(1, keepdim=True)).flatten(1)}


def longest(network, batch):
    """How far a sum moves with one example, in units of the clip."""
    params, buffers = network.start()
    ones = [{name: t[i : i + 1] for name, t in batch.items()} for i in range(4)]
    return max(float(clipped_sum(network, params, buffers, Dot(), one, 1e-3).value.norm()) / 1e-3 for one in ones)


def test_an_example_whose_terms_cancel_moves_the_sum_no_further_than_the_clip(monkeypatch):
    monkeypatch.setattr(linear, "ghost_is_cheaper", lambda *_: True)
    assert longest(*cancelling()) <= 1 + 1e-6
    monkeypatch.setattr(layer_gradients.MatrixGradients, "_rounding", lambda _: 0.0)
    assert longest(*cancelling()) > 1.5


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize("style", ["flat", "per-layer", "automatic"])
def test_physical_chunks_and_styles_do_not_change_the_result(chunk, style):
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
    check(net, (2, 3, 3), chunk=chunk, style=style)
