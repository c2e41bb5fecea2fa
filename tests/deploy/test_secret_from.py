"""Where a passphrase comes from: never an argument, never a question where nobody is, and gone from the environment."""

import os

import pytest

from consilium.core.errors import Refused
from consilium.deploy.site import secret_source as module
from consilium.deploy.site.os_keyring import Keyring
from consilium.deploy.site.secret import PlainFile
from consilium.deploy.site.secret_source import custody
from consilium.deploy.site.site import SiteConnection, take_part

RIGHT = "correct horse battery staple"


class Terminal:
    def __init__(self, there):
        self.there = there

    def isatty(self):
        return self.there


def given(path):
    """The passphrase under which ``path`` was made is what reads it: what was asked for, that is."""
    from consilium.deploy.site.passphrase import Passphrase

    Passphrase(lambda new: RIGHT).read(path)


def test_the_words(monkeypatch):
    assert isinstance(custody("file"), PlainFile) and isinstance(custody("keyring"), Keyring)
    for said in ("passphrase", "passphrase:env:NAME", "passphrase:fd:7"):
        assert custody(said).name == "passphrase"


@pytest.mark.parametrize(
    "said", ["passphrase:hunter2", "hunter2", "passphrase:env:", "passphrase:fd:hunter2", "", "passphrase:hunter2:x"]
)
def test_what_may_be_a_passphrase_is_refused_and_not_repeated(said):
    with pytest.raises(Refused) as caught:
        custody(said)
    assert "hunter2" not in str(caught.value) and "never an argument" in str(caught.value)


def test_of_the_environment_and_gone_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SITE_PASSPHRASE", RIGHT)
    custody("passphrase:env:SITE_PASSPHRASE").make(tmp_path / "secret")
    assert "SITE_PASSPHRASE" not in os.environ
    given(tmp_path / "secret")
    with pytest.raises(Refused, match="SITE_PASSPHRASE is not set"):
        custody("passphrase:env:SITE_PASSPHRASE").read(tmp_path / "secret")


def test_of_a_descriptor(tmp_path):
    (tmp_path / "words").write_text(RIGHT + "\nanything else\n")
    number = os.open(tmp_path / "words", os.O_RDONLY)
    custody(f"passphrase:fd:{number}").make(tmp_path / "secret")
    given(tmp_path / "secret")
    with pytest.raises(Refused, match=f"cannot be read from descriptor {number}"):
        custody(f"passphrase:fd:{number}").read(tmp_path / "secret")
    for content, why in ((b"", "holds no passphrase"), (b"\xff\xfe", "cannot be read")):
        (tmp_path / "words").write_bytes(content)
        number = os.open(tmp_path / "words", os.O_RDONLY)
        with pytest.raises(Refused, match=why):
            custody(f"passphrase:fd:{number}").read(tmp_path / "secret")


def test_of_a_terminal_twice_when_new(tmp_path, monkeypatch):
    monkeypatch.setattr(module.sys, "stdin", Terminal(True))
    answers = [RIGHT, RIGHT + "x", RIGHT, RIGHT, RIGHT]
    monkeypatch.setattr(module.getpass, "getpass", lambda _: answers.pop(0))
    with pytest.raises(Refused, match="the two passphrases differ"):
        custody("passphrase").make(tmp_path / "secret")
    assert not (tmp_path / "secret").exists()
    custody("passphrase").make(tmp_path / "secret")
    custody("passphrase").read(tmp_path / "secret")
    assert answers == []


@pytest.mark.parametrize("stdin", [None, Terminal(False)])
def test_nobody_is_asked_where_there_is_no_terminal(tmp_path, monkeypatch, stdin):
    monkeypatch.setattr(module.sys, "stdin", stdin)
    monkeypatch.setattr(module.getpass, "getpass", lambda _: pytest.fail("asked"))
    with pytest.raises(Refused, match=r"no terminal to read.*passphrase:env:NAME or passphrase:fd:N"):
        custody("passphrase").make(tmp_path / "secret")


def test_a_site_is_asked_before_it_dials(tmp_path, monkeypatch):
    monkeypatch.setattr("consilium.deploy.site.site.join", lambda *_: pytest.fail("it dialled"))
    line = SiteConnection("127.0.0.1:9", None, None, insecure=True)
    monkeypatch.delenv("NOT_SET", raising=False)
    mask = os.umask(0o077)
    try:
        with pytest.raises(Refused, match="NOT_SET is not set"):
            take_part(line, "site-0", "study", None, tmp_path / "state", "passphrase:env:NOT_SET")
    finally:
        os.umask(mask)
    assert not (tmp_path / "state" / "ledger").exists()


def test_the_command_takes_it(consilium_cli, tmp_path):
    done = consilium_cli(
        "join", "127.0.0.1:9", "--site", "site-0", "--data", "study", "--insecure-loopback", "--state", tmp_path,
        "--secret-from", "passphrase:hunter2",
    )  # fmt: skip
    assert done.code == 2 and "hunter2" not in done.err and "--secret-from" in done.err
