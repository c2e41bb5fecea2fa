"""Models of words: per-example gradients, padding, torch's own layers as oracles, and what they refuse."""

import itertools
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from consilium.core.errors import Refused
from consilium.core.inputs import random_inputs
from consilium.core.random import Stream, scoped
from consilium.learn.models.bag_of_embeddings import BagOfEmbeddings
from consilium.learn.models.cnn import CNN
from consilium.learn.models.gru import GRU
from consilium.learn.models.logistic import Logistic
from consilium.learn.models.text_cnn import TextCNN
from consilium.learn.per_example import clipped_sum, dispatch, per_example_norms
from consilium.learn.per_example.bookkeeping import BookKeeping
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.per_example.one_by_one import OneByOne

made = runpy.run_path(str(Path(__file__).with_name("layer_problem.py")))
Dot, close, problem = (made[name] for name in ("Dot", "close", "problem"))

TOKENS, LENGTH, CLASSES = 20, 9, 3
MODELS = [TextCNN(width=4, channels=3), TextCNN(width=3, channels=2, windows=(1, 12)), GRU(4, 5), BagOfEmbeddings(4)]


def built(model, length=LENGTH):
    with scoped(Stream(0)):
        return model.build_for(TOKENS, (length,), CLASSES)


def words(n=7, seed=0):
    return random_inputs(n, (LENGTH,), TOKENS, Stream(seed).generator())


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("slow", [ByVmap, OneByOne])
def test_per_example_gradients_are_exact(model, slow) -> None:
    """The rules of the layers, a recurrent one among them that is called at every position, against autograd."""
    network, params, buffers, batch = problem(built(model), words)
    ours = per_example_norms(network, params, buffers, Dot(), batch)
    assert isinstance(dispatch._known[network], BookKeeping)
    assert not dispatch._known[network].by_vmap
    clip = float(ours.median())
    sums = clipped_sum(network, params, buffers, Dot(), batch, clip).value
    dispatch._known[network] = slow(network)
    close(ours, per_example_norms(network, params, buffers, Dot(), batch))
    close(sums, clipped_sum(network, params, buffers, Dot(), batch, clip).value)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_padding_changes_no_answer(model) -> None:
    """More padding at the end, and other numbers in the row of padding, as noise leaves them."""
    short, long = built(model).double(), built(model, LENGTH + 4).double()
    long.load_state_dict(short.state_dict())
    x = words()
    padded = torch.cat([x, torch.zeros(len(x), 4, dtype=torch.int64)], 1)
    torch.testing.assert_close(long(padded), short(x), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        long.embedding.weight[0] += 5
    torch.testing.assert_close(long(padded), short(x), rtol=1e-12, atol=1e-12)
    unmasked = torch.where(padded == 0, 2, padded)
    assert not torch.allclose(long(unmasked), short(x))  # what padding would do if it were a word


def test_the_gated_unit_is_torchs_own() -> None:
    module, width, hidden = built(GRU(4, 5)).double(), 4, 5
    oracle = nn.GRU(width, hidden, batch_first=True).double()
    with torch.no_grad():
        oracle.weight_ih_l0.copy_(module.of_word.weight)
        oracle.weight_hh_l0.copy_(module.of_state.weight)
        oracle.bias_ih_l0.copy_(module.of_word.bias)
        oracle.bias_hh_l0.copy_(module.of_state.bias)
    x = words()
    packed = pack_padded_sequence(module.embedding(x), (x != 0).sum(1), batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(module(x), module.output(oracle(packed)[1][0]), rtol=1e-12, atol=1e-12)


def test_the_bag_is_torchs_embedding_bag() -> None:
    module = built(BagOfEmbeddings(4)).double()
    oracle = nn.EmbeddingBag.from_pretrained(module.embedding.weight.detach(), mode="mean", padding_idx=0)
    x = words()
    torch.testing.assert_close(module(x), module.output(oracle(x)), rtol=1e-12, atol=1e-12)


def test_the_convolution_is_a_maximum_over_windows_by_hand() -> None:
    module, x = built(TextCNN(width=3, channels=2, windows=(2,))).double(), words(1)
    weight, bias = module.convolutions[0].weight, module.convolutions[0].bias
    vectors = [*module.embedding(x[0][x[0] != 0]), torch.zeros(3, dtype=torch.float64)]
    windows = [torch.stack(pair, 1) for pair in itertools.pairwise(vectors)]
    largest = torch.stack([((weight * one).sum((1, 2)) + bias).relu() for one in windows]).amax(0)
    torch.testing.assert_close(module(x)[0], module.outputs[0](largest), rtol=1e-12, atol=1e-12)


def test_a_record_of_padding_alone_is_answered() -> None:
    for model in MODELS:
        assert built(model)(torch.zeros(2, LENGTH, dtype=torch.int64)).isfinite().all()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_pixels_are_refused_by_name(model) -> None:
    with pytest.raises(Refused, match=rf"model {model.kind()} reads words .* shape \(1, 8, 8\)"):
        model.build_for(0, (1, 8, 8), 2)


@pytest.mark.parametrize("model", [CNN(), Logistic()], ids=repr)
def test_models_of_numbers_refuse_words_by_name(model) -> None:
    with pytest.raises(Refused, match=rf"model {model.kind()} reads numbers .* 9 ids below 20"):
        model.build_for(TOKENS, (LENGTH,), CLASSES)


def test_random_inputs() -> None:
    x = random_inputs(200, (LENGTH,), TOKENS, Stream(0).generator())
    assert x.dtype == torch.int64
    assert (int(x.min()), int(x.max())) == (0, TOKENS - 1)
    lengths = (x != 0).sum(1)
    assert set(lengths.tolist()) == set(range(5, 10))
    assert all((row[:n] != 0).all() and (row[n:] == 0).all() for row, n in zip(x, lengths.tolist(), strict=True))
    one, other = (
        random_inputs(3, (2, 2), 0, Stream(1).generator()),
        torch.rand(3, 2, 2, generator=Stream(1).generator()),
    )
    assert torch.equal(one, other)
