"""Static int8: really smaller, exact when stored, fitted on public records, and clear about what it cannot do."""

import warnings

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model import _fx
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.alike import departure
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.tasks.single_label import SingleLabel

SHAPE = (1, 16, 16)


def public(n=80, shape=SHAPE):
    g = Stream(1).generator()
    return Records.of(torch.rand(n, *shape, generator=g), torch.randint(3, (n,), generator=g))


class Residual(nn.Module):
    """Convolutions with either normalisation, a residual, pooling: all that the adapter promises to carry."""

    def __init__(self, norm, bias=False):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=bias), norm(), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=bias), norm(), nn.ReLU())
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        h = self.first((x - 0.5) * 2)
        return self.out(F.adaptive_avg_pool2d(h + self.second(h), 1).flatten(1))


def group():
    return nn.GroupNorm(2, 8)


def batch():
    norm = nn.BatchNorm2d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


def built(make, seed=0):
    with scoped(Stream(seed)):
        return make().eval().requires_grad_(False)


MODELS = {
    "group norm": lambda: Residual(group),
    "batch norm": lambda: Residual(batch),
    "biases": lambda: Residual(nn.Identity, bias=True),
    "perceptron": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 3)),
    "average pool": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten(), nn.Linear(32, 3)
    ),
    "elu": lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ELU(), nn.Flatten(), nn.Linear(8 * 196, 3)),
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 3)),
    "prelu": lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.PReLU(8, init=0.7), nn.Flatten(), nn.Linear(8 * 196, 3)),
    "instance norm": lambda: Residual(lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
}


@pytest.mark.parametrize("name", MODELS)
def test_stored_and_rebuilt_it_answers_the_same_bits(name):
    module, records = built(MODELS[name]), public()
    defended = StaticInt8().apply(module, records, Stream(0), SingleLabel())
    stored = load(save(StaticInt8().pack(defended)))
    fresh = built(MODELS[name], seed=9)  # other weights: everything must come from the artefact
    again = StaticInt8().unpack(StaticInt8().structure(fresh, torch.zeros(1, *SHAPE)), stored)
    assert torch.equal(again(records.x), defended(records.x))
    # The comparison can fail: the structure alone answers something else.
    assert not torch.equal(StaticInt8().structure(fresh, records.x[:1])(records.x), defended(records.x))


@pytest.mark.parametrize("name", ["group norm", "batch norm", "perceptron"])
def test_it_answers_nearly_what_the_float_model_does(name):
    module, records = built(MODELS[name]), public()
    before, after = module(records.x), StaticInt8().apply(module, records, Stream(0), SingleLabel())(records.x)
    assert 0 < float((after - before).norm() / before.norm()) < 0.05
    # Ranges fitted elsewhere do not pass: the tolerance is one of int8, not of anything.
    dim = StaticInt8().apply(module, Records.of(0.5 + 0.01 * records.x, records.y), Stream(0), SingleLabel())(records.x)
    assert float((dim - before).norm() / before.norm()) > 0.1


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_resnet9_is_at_least_74_percent_smaller(norm):
    module = built(lambda: ResNet9(width=16, norm=norm).build((1, 28, 28), 2))
    full = len(save({k: t.contiguous() for k, t in module.state_dict().items()}))
    defended = StaticInt8(8).apply(module, public(8, (1, 28, 28)), Stream(0), SingleLabel())
    assert len(save(StaticInt8().pack(defended))) <= 0.26 * full


def test_the_artefact_is_plain_integers_and_floats():
    packed = StaticInt8().pack(StaticInt8().apply(built(MODELS["group norm"]), public(), Stream(0), SingleLabel()))
    assert {t.dtype for t in packed.values()} <= {torch.int8, torch.int32, torch.int64, torch.float32}
    assert packed["int8"].numel() == 8 * 9 + 8 * 8 * 9 + 8 * 3


def test_a_foreign_artefact_is_refused():
    narrow, wide = built(MODELS["perceptron"]), built(MODELS["group norm"])
    packed = StaticInt8().pack(StaticInt8().apply(narrow, public(), Stream(0), SingleLabel()))
    with pytest.raises(Refused, match="does not fit"):
        StaticInt8().unpack(StaticInt8().structure(wide, public().x[:1]), packed)


def test_only_public_records_set_the_ranges_and_there_must_be_some():
    module, records = built(MODELS["group norm"]), public()
    none = records.select(torch.zeros(len(records), dtype=torch.bool))
    with pytest.raises(Refused, match="public") as refused:
        StaticInt8().apply(module, none, Stream(0), SingleLabel())
    assert "data.public" in refused.value.remedy
    dim = Records.of(0.1 * records.x, records.y)
    packs = [StaticInt8().pack(StaticInt8().apply(module, r, Stream(0), SingleLabel())) for r in (records, dim)]
    assert torch.equal(packs[0]["int8"], packs[1]["int8"])  # weights alone
    assert not torch.equal(packs[0]["float32"], packs[1]["float32"])  # ranges too


def test_calibration_takes_as_many_records_as_asked():
    module, records = built(MODELS["perceptron"]), public()
    few, more = (
        StaticInt8().pack(StaticInt8(c).apply(module, records, Stream(0), SingleLabel()))["float32"] for c in (2, 64)
    )
    assert not torch.equal(few, more)


def test_the_surrogate_answers_like_int8_and_has_the_gradient_of_the_float_model():
    module, records = built(MODELS["group norm"]), public(6)
    defended = StaticInt8().apply(module, records, Stream(0), SingleLabel())
    surrogate = StaticInt8().surrogate(defended, module)
    x = records.x.clone().requires_grad_()
    out = surrogate(x)
    assert torch.equal(out.detach(), defended(records.x))
    (followed,) = torch.autograd.grad(out[:, 0].sum(), x)
    (float_one,) = torch.autograd.grad(module(x)[:, 0].sum(), x)
    torch.testing.assert_close(followed, float_one)
    assert float(followed.abs().sum()) > 0
    assert StaticInt8().surrogate(defended, None) is None


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(256, 3)

    def forward(self, x):
        return F.silu(self.out(x.flatten(1)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(256, 3)

    def forward(self, x):
        return self.out(x.flatten(1)) if x.sum() > 0 else self.out(-x.flatten(1))


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(256, 3))

    def forward(self, x):
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.SiLU(), nn.Linear(8, 3)), "SiLU has no int8 kernel"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Mish(), nn.Linear(8, 3)), "Mish has no int8 kernel"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.SELU(), nn.Linear(8, 3)), "SELU has no int8 kernel"),
        (Functional, "silu has no int8 kernel"),
        (Branching, "cannot be traced.*control flow"),
        (Bare, "no layer that int8 could store"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(make, reason):
    with pytest.raises(Refused, match=reason) as refused:
        StaticInt8().apply(built(make), public(), Stream(0), SingleLabel())
    assert refused.value.remedy


def test_twice_is_refused():
    defended = StaticInt8().apply(built(MODELS["perceptron"]), public(), Stream(0), SingleLabel())
    with pytest.raises(Refused, match="int8 already"):
        StaticInt8().apply(defended, public(), Stream(0), SingleLabel())


def test_the_engine_and_the_warnings_end_in_the_adapter():
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StaticInt8().apply(built(MODELS["group norm"]), public(), Stream(0), SingleLabel())
    assert torch.backends.quantized.engine == before


class Between(nn.Module):
    """A convolution, something, a linear layer."""

    def __init__(self, between, dims=2):
        super().__init__()
        shape = {1: (1, 64), 2: (1, 8, 8), 3: (1, 4, 6, 6)}[dims]
        self.first, self.shape = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](1, 8, 3, padding=1), shape
        self.between = between if isinstance(between, nn.Module) else Calls(between)
        self.out = nn.Linear(self._between(torch.rand(2, *shape)).flatten(1).shape[1], 3)

    def _between(self, x):
        return self.between(self.first(x))

    def forward(self, x):
        return self.out(self._between(x).flatten(1))


class Calls(nn.Module):
    """A function as a layer, with weights to hand to it."""

    def __init__(self, function):
        super().__init__()
        self.function, self.slope = function, nn.Parameter(torch.full((1,), 0.7))
        self.kernel = nn.Parameter(torch.randn(8, 4, 3, 3) / 6)

    def forward(self, x):
        return self.function(x, self)


def tracked(dims):
    norm = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1](8, affine=True, track_running_stats=True)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


LAYERS = {
    "InstanceNorm1d": lambda: Between(nn.InstanceNorm1d(8, affine=True), 1),
    "InstanceNorm2d": lambda: Between(nn.InstanceNorm2d(8, affine=True)),
    "InstanceNorm3d": lambda: Between(nn.InstanceNorm3d(8, affine=True), 3),
    "tracked InstanceNorm1d": lambda: Between(tracked(1), 1),
    "tracked InstanceNorm2d": lambda: Between(tracked(2)),
    "tracked InstanceNorm3d": lambda: Between(tracked(3), 3),
    "F.instance_norm": lambda: Between(lambda x, _: F.instance_norm(x)),
    "GroupNorm": lambda: Between(nn.GroupNorm(2, 8)),
    "F.group_norm": lambda: Between(lambda x, _: F.group_norm(x, 2)),
    "LayerNorm": lambda: Between(nn.LayerNorm((8, 8))),
    "late BatchNorm2d": lambda: Between(nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(8))),
    "PReLU": lambda: Between(nn.PReLU(8)),
    "F.prelu": lambda: Between(lambda x, layer: F.prelu(x, layer.slope)),
    "ConvTranspose1d": lambda: Between(nn.ConvTranspose1d(8, 4, 3), 1),
    "ConvTranspose2d": lambda: Between(nn.ConvTranspose2d(8, 4, 3)),
    "ConvTranspose3d": lambda: Between(nn.ConvTranspose3d(8, 4, 3), 3),
    "F.conv_transpose2d": lambda: Between(lambda x, layer: F.conv_transpose2d(x, layer.kernel)),
    "depthwise": lambda: Between(nn.Conv2d(8, 8, 3, groups=8)),
    "AvgPool2d": lambda: Between(nn.AvgPool2d(2)),
    "AdaptiveAvgPool2d": lambda: Between(nn.AdaptiveAvgPool2d(3)),
    "interpolate": lambda: Between(lambda x, _: F.interpolate(x, scale_factor=2)),
    "ELU": lambda: Between(nn.ELU()),
    "LeakyReLU": lambda: Between(nn.LeakyReLU()),
    "Hardswish": lambda: Between(nn.Hardswish()),
    "Hardsigmoid": lambda: Between(nn.Hardsigmoid()),
    "Sigmoid": lambda: Between(nn.Sigmoid()),
    "Tanh": lambda: Between(nn.Tanh()),
    "Softmax": lambda: Between(nn.Softmax(1)),
    "GELU": lambda: Between(nn.GELU()),
    "add, mul, cat": lambda: Between(lambda x, _: torch.cat([x + x.relu(), x * x.relu()], 1)),
    "constants": lambda: Between(lambda x, _: 1.5 * x + 1),
    "gate": lambda: Between(lambda x, _: x * torch.sigmoid(x.mean((2, 3))).unsqueeze(-1).unsqueeze(-1)),
    "matmul": lambda: Between(lambda x, _: torch.matmul(x.flatten(2), x.flatten(2).transpose(1, 2))),
}


@pytest.mark.parametrize("after", [nn.Identity, nn.ReLU], ids=["alone", "before ReLU"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_in_int8_what_it_does_in_float_alone_and_in_every_batch(name, after):
    module = built(LAYERS[name])
    module.between = nn.Sequential(module.between, after())
    records = public(70, module.shape)
    defended = StaticInt8().apply(module, records, Stream(0), SingleLabel())
    exact, answered = module(records.x), defended(records.x)
    assert float((answered - exact).norm() / (exact - exact.mean(0)).norm()) < 0.4
    assert departure(defended, records.x, StaticInt8.tolerance) is None


def all_in_int8(monkeypatch):
    """Plants the wrong kernels: no layer stays in float."""
    monkeypatch.setattr(_fx, "_FLOAT_MODULES", ())
    monkeypatch.setattr(_fx, "_FLOAT_FUNCTIONS", ())


@pytest.mark.parametrize(
    "name", ["tracked InstanceNorm1d", "tracked InstanceNorm2d", "tracked InstanceNorm3d", "PReLU", "ConvTranspose2d"]
)
def test_a_kernel_that_is_wrong_for_one_record_too_is_refused(name, monkeypatch):
    all_in_int8(monkeypatch)
    module = built(LAYERS[name])
    for act in (lambda: StaticInt8().apply(module, public(40, module.shape), Stream(0), SingleLabel()),
                lambda: StaticInt8().trial(module, public(8, module.shape).x)):  # fmt: skip
        with pytest.raises(Refused, match="do not compute what its layers do") as refused:
            act()
        assert refused.value.remedy


def test_a_kernel_that_is_wrong_in_batches_alone_is_found_in_batches(monkeypatch):
    all_in_int8(monkeypatch)
    module = built(LAYERS["InstanceNorm2d"])
    found = departure(
        StaticInt8().apply(module, public(32, module.shape), Stream(0), SingleLabel()), public(32, module.shape).x, 0.05
    )
    assert found is not None and found.batch > 32 and found.share > 0.5


def coded(x, _):
    """Reads activations as tokens."""
    return F.embedding((x.flatten(1)[:, :8].abs() * 3).long().clamp(0, 9), torch.ones(10, 4))


def test_whatever_torch_raises_while_it_quantises_is_a_refusal():
    module = built(lambda: Between(coded))
    for act in (lambda: StaticInt8().apply(module, public(40, module.shape), Stream(0), SingleLabel()),
                lambda: StaticInt8().trial(module, public(8, module.shape).x)):  # fmt: skip
        with pytest.raises(Refused, match=r"cannot be quantised: .*not implemented for 'Long'") as refused:
            act()
        assert "static-int8" in refused.value.remedy


def hooked(kind, place):
    """A network with a hook that changes what a layer, or the whole, is given or gives."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8)), nn.Linear(8, 3))
    layer = module.get_submodule(place)
    if kind == "forward hook":
        layer.register_forward_hook(lambda layer, args, out: -out)
    else:
        layer.register_forward_pre_hook(lambda layer, args: (-args[0],))
    return module


@pytest.mark.parametrize("place", ["1", "3.0", ""])
@pytest.mark.parametrize("kind", ["forward hook", "forward pre-hook"])
def test_a_hook_that_int8_would_leave_out_is_refused_by_name(kind, place):
    module = built(lambda: hooked(kind, place))
    name = rf"layer {place} \(Linear\)" if place else "the model itself"
    for act in (lambda: StaticInt8().apply(module, public(40), Stream(0), SingleLabel()),
                lambda: StaticInt8().trial(module, public(8).x)):  # fmt: skip
        with pytest.raises(Refused, match=f"{name} has a {kind}, which int8 kernels would leave out") as refused:
            act()
        assert "forward" in refused.value.remedy


@pytest.mark.parametrize("kind", ["forward hook", "forward pre-hook"])
def test_a_hook_that_is_traced_is_kept(kind):
    module, x = built(lambda: hooked(kind, "3")), public(40).x
    made = StaticInt8().apply(module, public(40), Stream(0), SingleLabel())
    assert float((made(x) - module(x)).norm() / module(x).norm()) < 0.05


class Traced(nn.Module):
    """Answers otherwise while torch.fx traces it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 3)

    def forward(self, x):
        return self.layer(x.flatten(1)) * (1 if isinstance(x, torch.fx.Proxy) else -1)


def test_a_graph_that_is_another_function_than_the_model_is_refused():
    module = built(Traced)
    with pytest.raises(Refused, match="what is traced answers otherwise, by 2 of the size"):
        StaticInt8().trial(module, public(8).x)
