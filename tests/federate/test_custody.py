"""Where a site's secret is kept: under a passphrase or in a keyring, a stolen folder tells nobody's membership."""

import json
import logging
import os
import sys
import types

import pytest
import torch

from consilium.core.charge import Composed, Gaussian
from consilium.core.errors import MissingExtra, Refused
from consilium.core.records import Records
from consilium.deploy.site import passphrase as module
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.deploy.site.os_keyring import Keyring
from consilium.deploy.site.passphrase import Passphrase
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard
from consilium.deploy.site.record_tokens import fingerprint
from consilium.deploy.site.secret import PlainFile, read_secret

RIGHT = "correct horse battery staple"
ROUND = (Composed(Gaussian(2.0), 3),)
RECORDS = Records.of(torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What is written here costs less to guess; the parameters that are written otherwise have a test of their own."""
    monkeypatch.setattr(module, "_N", 2**4)


def told(*answers):
    """A passphrase that is asked for once for each answer; ``asked`` says whether it was for a new one."""
    left, asked = list(answers), []

    def ask(new):
        asked.append(new)
        return left.pop(0)

    return Passphrase(ask), asked


def pay(folder, custody, number):
    with open_ledger(folder, custody=custody) as ledger:
        ledger.claim("study", number, b"w", ledger.fingerprint(RECORDS), ROUND, Budget(1e6, 1e-4))


def spent(folder, custody=None):
    with open_ledger(folder, custody=custody) as ledger:
        return ledger.cost(ledger.fingerprint(RECORDS), 1e-4)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_ledger_under_a_passphrase_goes_on_with_it_and_only_with_it(tmp_path):
    first, asked = told(RIGHT)
    for number in (1, 2):
        pay(tmp_path / "ledger", first, number)
    assert asked == [True], "asked once in a process"
    again, asked = told(RIGHT)
    assert spent(tmp_path / "ledger", again) > 0 and spent(tmp_path / "ledger", again) > 0 and asked == [False]
    before = contents(tmp_path / "ledger")
    with pytest.raises(Refused, match=r"the passphrase does not open the site's secret.*nothing was changed"):
        spent(tmp_path / "ledger", told("correct horse battery stable")[0])
    with pytest.raises(Refused, match=r"is not stored by file.*--secret-from passphrase"):
        spent(tmp_path / "ledger")
    with pytest.raises(Refused, match=r"is not stored by keyring.*--secret-from passphrase"):
        spent(tmp_path / "ledger", Keyring())
    assert contents(tmp_path / "ledger") == before


def test_a_stolen_folder_is_an_oracle_of_membership_and_under_a_passphrase_it_is_none(tmp_path):
    """What the how-to says: with the secret beside the tokens, anybody's records can be looked up."""
    pay(tmp_path / "open", PlainFile(), 1)
    pay(tmp_path / "kept", told(RIGHT)[0], 1)

    def oracle(folder):
        tokens = next((folder / "records").iterdir()).read_bytes()
        data = (folder / "secret").read_bytes()
        key = read_secret(folder / "secret").derive("tokens") if len(data) == 32 else data[:32]
        tried = fingerprint(RECORDS, key).tokens()
        return sum(tried[i : i + 16] in tokens for i in range(0, len(tried), 16)) / (len(tried) // 16)

    assert oracle(tmp_path / "open") == 1.0 and oracle(tmp_path / "kept") == 0.0
    secret = (tmp_path / "open" / "secret").read_bytes()
    assert secret not in b"".join(contents(tmp_path / "kept").values())


def test_the_parameters_that_are_written_are_those_of_the_source(tmp_path, monkeypatch):
    monkeypatch.undo()
    told(RIGHT)[0].make(tmp_path / "secret")
    about = json.loads((tmp_path / "secret").read_text())
    assert (about["kdf"], about["n"], about["r"], about["p"]) == ("scrypt", 131072, 8, 1)
    assert about["cipher"] == "aes-256-gcm" and len(about["salt"]) == 32 and len(about["nonce"]) == 24
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [{"n": 2**30}, {"n": 3}, {"r": 10**9}, {"p": 64}, {"salt": "x"}, {"sealed": "00"}, {"nonce": ""}, {"n": 32}],
)
def test_a_file_that_was_changed_is_refused_and_asks_for_no_gigabytes(tmp_path, change):
    told(RIGHT)[0].make(tmp_path / "secret")
    about = json.loads((tmp_path / "secret").read_text())
    (tmp_path / "secret").write_text(json.dumps(about | change))
    with pytest.raises(Refused, match="damaged") as caught:
        told(RIGHT)[0].read(tmp_path / "secret")
    assert str(tmp_path / "secret") in str(caught.value)


def test_a_short_passphrase_makes_nothing(tmp_path):
    with pytest.raises(Refused, match="fewer than 15 characters"):
        pay(tmp_path / "ledger", told("hunter2")[0], 1)
    assert not (tmp_path / "ledger").exists()


def test_the_same_words_written_in_other_code_points_are_the_same_passphrase(tmp_path):
    told("Schlüssel für drei Kliniken")[0].make(tmp_path / "secret")
    told("Schlu\u0308ssel fu\u0308r drei Kliniken")[0].read(tmp_path / "secret")


def test_a_secret_that_lay_open_is_taken_in_and_the_ledger_goes_on(tmp_path, caplog):
    pay(tmp_path / "ledger", None, 1)
    before, key = spent(tmp_path / "ledger"), (tmp_path / "ledger" / "secret").read_bytes()
    with pytest.raises(Refused, match="fewer than 15"):
        spent(tmp_path / "ledger", told("hunter2")[0])
    assert (tmp_path / "ledger" / "secret").read_bytes() == key
    custody, asked = told(RIGHT)
    with caplog.at_level(logging.INFO, "consilium.site"):
        assert spent(tmp_path / "ledger", custody) == pytest.approx(before) and asked == [True]
    assert "stored by passphrase from now on; earlier copies, as in backups, are still unencrypted" in caplog.text
    assert key not in (tmp_path / "ledger" / "secret").read_bytes()
    assert (tmp_path / "ledger" / "secret").stat().st_mode & 0o777 == 0o600
    assert spent(tmp_path / "ledger", told(RIGHT)[0]) == pytest.approx(before)


def test_a_guard_asks_before_anything_else(tmp_path):
    custody, asked = told(RIGHT)
    Guard(SiteLimits(), tmp_path / "ledger", custody).unlock()
    assert asked == [True] and (tmp_path / "ledger" / "head.json").is_file()


def test_without_cryptography_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingExtra, match=r"consilium\[flower\]"):
        told(RIGHT)[0].make(tmp_path / "secret")
    assert not (tmp_path / "secret").exists()


class Ring:
    """A keyring of a system, in memory."""

    priority = 5

    def __init__(self):
        self.held = {}

    def set_password(self, service, account, password):
        self.held[service, account] = password

    def get_password(self, service, account):
        return self.held.get((service, account))


class KeyringError(Exception):
    pass


@pytest.fixture
def ring(monkeypatch):
    ring = Ring()
    package, errors = types.ModuleType("keyring"), types.ModuleType("keyring.errors")
    package.get_keyring, errors.KeyringError = lambda: ring, KeyringError
    monkeypatch.setitem(sys.modules, "keyring", package)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return ring


def test_a_keyring_holds_the_secret_and_the_file_only_points_to_it(tmp_path, ring):
    pay(tmp_path / "ledger", Keyring(), 1)
    assert spent(tmp_path / "ledger", Keyring()) > 0
    (key,) = ring.held.values()
    everything = b"".join(contents(tmp_path / "ledger").values())
    assert bytes.fromhex(key) not in everything and key.encode() not in everything
    before = contents(tmp_path / "ledger")
    for held in ({}, dict.fromkeys(ring.held, "no key"), dict.fromkeys(ring.held, os.urandom(32).hex())):
        ring.held = held
        with pytest.raises(Refused, match=r"does not have the site's secret.*would lose the record of what was spent"):
            spent(tmp_path / "ledger", Keyring())
    assert contents(tmp_path / "ledger") == before


@pytest.mark.parametrize("priority", [0, -1, 0.5])
def test_a_keyring_that_keeps_nothing_or_in_the_open_is_refused(tmp_path, ring, priority):
    ring.priority = priority
    with pytest.raises(Refused, match=r"this system has no keyring.*--secret-from passphrase"):
        pay(tmp_path / "ledger", Keyring(), 1)
    assert not (tmp_path / "ledger").exists()


def test_a_keyring_that_does_not_answer_or_forgets_is_refused(tmp_path, ring, monkeypatch):
    def locked(*_):
        raise KeyringError("locked")

    monkeypatch.setattr(ring, "get_password", lambda *_: None)
    with pytest.raises(Refused, match="did not keep the site's secret"):
        pay(tmp_path / "ledger", Keyring(), 1)
    monkeypatch.setattr(ring, "set_password", locked)
    with pytest.raises(Refused, match="the system's keyring does not answer: KeyringError"):
        pay(tmp_path / "ledger", Keyring(), 1)


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingExtra, match=r"consilium\[keyring\]"):
        pay(tmp_path / "ledger", Keyring(), 1)
