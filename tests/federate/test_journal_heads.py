"""The heads of a ledger are keyed: nobody without the secret makes one that fits a journal that was cut."""

import hashlib
import hmac
import json
import logging

import pytest
import torch

from consilium.core.charge import Composed, Gaussian
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.deploy.site import journal as module
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.deploy.site.secret import read_secret

ROUND = (Composed(Gaussian(2.0), 3),)
RECORDS = Records.of(torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def pay(folder, number, witness=None):
    with open_ledger(folder, witness=witness) as ledger:
        ledger.claim("study", number, b"w", ledger.fingerprint(RECORDS), ROUND, Budget(1e6, 1e-4))


def spent(folder, witness=None):
    with open_ledger(folder, witness=witness) as ledger:
        return ledger.cost(ledger.fingerprint(RECORDS), 1e-4)


def lines(folder):
    return (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


def cut(folder, left):
    """The journal after ``left`` lines; returns the mac that stands in the last one."""
    kept = lines(folder)[:left]
    (folder / "journal.jsonl").write_bytes(b"".join(kept))
    return json.loads(kept[-1])["mac"]


def first_version(folder):
    """The same ledger as the first release wrote it: its own chain, heads without a mac."""
    key = read_secret(folder / "secret").derive("journal")
    mac, old = bytes(32), b""
    for raw in lines(folder):
        line = {name: value for name, value in json.loads(raw).items() if name not in ("mac", "journal")}
        mac = hmac.new(key, mac + canonical(line), hashlib.sha256).digest()
        old += canonical({**line, "mac": mac.hex()}) + b"\n"
    (folder / "journal.jsonl").write_bytes(old)
    (folder / "head.json").write_bytes(canonical({"count": len(lines(folder)), "mac": mac.hex()}))


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 3):
        pay(tmp_path / "ledger", number)
    return tmp_path / "ledger"


@pytest.mark.parametrize("forged", [{}, {"version": 1}, {"version": 2}, {"version": 2, "seal": "0" * 64}, "kept seal"])
def test_a_cut_journal_with_a_head_made_of_its_own_mac_is_refused(folder, forged):
    head = json.loads((folder / "head.json").read_text())
    mac = cut(folder, 2)
    forged = {"version": 2, "seal": head["seal"]} if forged == "kept seal" else forged
    (folder / "head.json").write_bytes(canonical({"count": 2, "mac": mac, **forged}))
    for use in (spent, lambda folder: pay(folder, 4)):
        with pytest.raises(Refused, match="was not written with this site's secret"):
            use(folder)


def test_the_first_version_is_written_anew_once_and_says_so(folder, caplog):
    before = spent(folder)
    first_version(folder)
    with caplog.at_level(logging.INFO, "consilium.site"):
        assert spent(folder) == pytest.approx(before, rel=1e-12)
        assert spent(folder) == pytest.approx(before, rel=1e-12)
    assert caplog.text.count("its 4 lines hold; its heads are keyed from now on") == 1
    assert json.loads(lines(folder)[0])["journal"] == 2
    assert set(json.loads((folder / "head.json").read_text())) == {"count", "mac", "version", "seal"}
    pay(folder, 4)


@pytest.mark.parametrize("damage", ["line", "head", "mac"])
def test_a_first_version_that_does_not_hold_is_not_upgraded(folder, damage):
    first_version(folder)
    path = folder / ("journal.jsonl" if damage == "line" else "head.json")
    text = path.read_bytes()
    old = {"line": b'"gaussian":2.0', "head": b'"count":4', "mac": b'"mac":"'}[damage]
    new = {"line": b'"gaussian":9.0', "head": b'"count":5', "mac": b'"mac":"00'}[damage]
    path.write_bytes(text.replace(old, new, 1))
    before = {p: p.read_bytes() for p in folder.glob("*.json*")}
    with pytest.raises(Refused):
        spent(folder)
    assert before == {p: p.read_bytes() for p in folder.glob("*.json*")}


def test_nothing_goes_back_to_the_first_version(folder):
    first_version(folder)
    old_journal, old_head = (folder / "journal.jsonl").read_bytes(), (folder / "head.json").read_bytes()
    spent(folder)
    pay(folder, 4)
    (folder / "head.json").write_bytes(old_head)
    with pytest.raises(Refused, match="was not written with this site's secret"):
        spent(folder)
    kept = (folder / "journal.jsonl").read_bytes()
    (folder / "journal.jsonl").write_bytes(kept.replace(b',"journal":2', b"", 1))
    with pytest.raises(Refused, match="line 1 does not follow"):
        spent(folder)
    (folder / "journal.jsonl").write_bytes(old_journal)
    (folder / "head.json").write_bytes(
        canonical({"count": 4, "mac": json.loads(lines(folder)[-1])["mac"], "version": 2})
    )
    with pytest.raises(Refused, match="was not written with this site's secret"):
        spent(folder)


def test_a_kill_in_mid_upgrade_is_upgraded_again(folder, tmp_path, monkeypatch):
    witness = tmp_path / "witness.json"
    before = spent(folder)
    first_version(folder)
    witness.write_bytes((folder / "head.json").read_bytes())
    real = module.durable
    for survives in (0, 1, 2):
        written = []

        def dies(path, data, most=survives, written=written):
            if len(written) == most:
                raise KeyboardInterrupt
            written.append(path)
            real(path, data)

        monkeypatch.setattr(module, "durable", dies)
        with pytest.raises(KeyboardInterrupt):
            spent(folder, witness)
        monkeypatch.undo()
    assert spent(folder, witness) == pytest.approx(before, rel=1e-12)
    assert json.loads(lines(folder)[0])["journal"] == 2 and witness.read_bytes() == (folder / "head.json").read_bytes()


def test_a_witness_tells_an_old_copy_from_before_the_upgrade(folder, tmp_path):
    witness = tmp_path / "witness.json"
    first_version(folder)
    old = {path: path.read_bytes() for path in folder.glob("*.json*")}
    witness.write_bytes((folder / "head.json").read_bytes())
    pay(folder, 4, witness)
    for path, data in old.items():
        path.write_bytes(data)
    with pytest.raises(Refused, match="cut or rolled back"):
        spent(folder, witness)


def test_a_version_that_is_not_known_yet_is_said(folder):
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"journal":2', b'"journal":3', 1))
    with pytest.raises(Refused, match="it has version 3"):
        spent(folder)
