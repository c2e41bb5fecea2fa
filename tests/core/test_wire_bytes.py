"""Bytes on the wire are those of the file that safetensors would write of the same tensors."""

import pytest
import torch
from safetensors.torch import save

from consilium.core.update import payload_bytes, wire_bytes

PAYLOADS = {
    "empty": {},
    "delta": {"delta": torch.zeros(50_890), "buffers": torch.zeros(0)},
    "parts": {"delta.indices": torch.zeros(7, dtype=torch.int32), "delta.values": torch.zeros(7)},
    "mixed": {
        "a.signs": torch.zeros(9, dtype=torch.uint8),
        "b": torch.zeros(2, 3, dtype=torch.float64),
        "\u00e9": torch.zeros(1, dtype=torch.bool),
        "scalar": torch.zeros(()),
        "half": torch.zeros(3, dtype=torch.bfloat16),
    },
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_it_is_the_size_of_the_message(payload):
    assert wire_bytes(payload) == len(save(dict(payload)))


def test_the_framing_is_counted():
    """A count of the tensors alone would miss it, which matters where a codec makes them small."""
    payload = PAYLOADS["parts"]
    assert payload_bytes(payload) == 56
    assert wire_bytes(payload) > payload_bytes(payload) + 100
