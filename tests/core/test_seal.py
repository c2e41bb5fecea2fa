"""Seals of records and of files: whatever is changed is noticed, and what is only written otherwise is not."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.seal import file_digest, is_altered, sealed, unsealed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in ("seal", "sealed")), PLAIN, max_size=4))
def test_a_record_holds_after_any_way_of_writing_it(record):
    for text in (json.dumps(sealed(record), indent=1), json.dumps(sealed(record), sort_keys=True)):
        assert not is_altered(json.loads(text))
    assert unsealed(sealed(record)) == record and sealed(sealed(record)) == sealed(record)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(epsilon=0.1),
        lambda r: r.update(epsilon=3.9900000000000007),
        lambda r: r["measures"][0].update(value=0.999),
        lambda r: r.pop("status"),
        lambda r: r.update(more=1),
        lambda r: r.update(seal=None),
        lambda r: r.update(seam=r.pop("seal")),
        lambda r: r.update(sealer=r.pop("sealed")),
        lambda r: r.update(seal="0" * 64),
        lambda r: r["measures"].reverse(),
    ],
)
def test_whatever_is_changed_is_noticed(change):
    record = sealed({"epsilon": 3.99, "status": "ok", "measures": [{"value": 0.807}, {"value": 0.5}], 7: (1, 2)})
    record = json.loads(json.dumps(record))
    assert not is_altered(record)
    change(record)
    assert is_altered(record)


def test_a_record_from_before_there_were_seals_is_not_altered():
    assert not is_altered({"epsilon": 3.99})


def test_the_digest_of_a_file_is_the_one_that_sha256sum_prints(tmp_path):
    (tmp_path / "model").write_bytes(b"consilium" * 100_000)
    assert file_digest(tmp_path / "model") == hashlib.sha256(b"consilium" * 100_000).hexdigest()
