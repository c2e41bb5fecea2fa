"""Certificates that the standard library's TLS takes, keys that Flower takes, and files nobody else reads."""

import socket
import ssl
import stat
import threading

import pytest

pytest.importorskip("cryptography", reason="the extra flower is not installed")

from consilium.core.errors import Refused
from consilium.deploy.transport.certificates import make_server_keys, make_site_key, roster, server_keys


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_server_keys(tmp_path_factory.mktemp("keys") / "server", ["fed.example.org", "192.0.2.7"])


def shake(keys, ca, name):
    """What a client that trusts ``ca`` and dials ``name`` says of a server with ``keys``."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys.certificate, keys.key)
    here, there = socket.socketpair()
    here.settimeout(10)
    there.settimeout(10)

    def answer():
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with ssl.create_default_context(cafile=str(ca)).wrap_socket(here, server_hostname=name) as line:
            return line.version()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        thread.join()
        here.close()


@pytest.mark.parametrize("name", ["fed.example.org", "192.0.2.7", "127.0.0.1", "localhost"])
def test_the_server_is_known_by_every_address_that_was_named_and_the_loopback(made, name):
    assert shake(made, made.ca, name) == "TLSv1.3"


def test_another_address_or_another_authority_is_refused(made, tmp_path):
    assert "mismatch" in shake(made, made.ca, "evil.example.org")
    foreign = make_server_keys(tmp_path, ["fed.example.org"])
    assert "issuer" in shake(made, foreign.ca, "fed.example.org") or "self" in shake(
        made, foreign.ca, "fed.example.org"
    )


def test_private_files_are_for_their_owner_alone(made, tmp_path):
    private, public = make_site_key("site-1", tmp_path)
    for path in (made.key, made.folder / "ca.key", private):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.read_text().startswith("ecdsa-sha2-nistp384 ")


def test_keys_are_never_written_over(made, tmp_path):
    with pytest.raises(Refused, match="exists already"):
        make_server_keys(made.folder, ["127.0.0.1"])
    make_site_key("site-1", tmp_path)
    with pytest.raises(Refused, match="exists already"):
        make_site_key("site-1", tmp_path)


def test_a_new_certificate_is_signed_by_the_authority_that_is_there(tmp_path):
    first = make_server_keys(tmp_path, ["old.example.org"])
    authority = first.ca.read_bytes()
    first.certificate.unlink()
    first.key.unlink()
    second = make_server_keys(tmp_path, ["new.example.org"])
    assert second.ca.read_bytes() == authority
    assert shake(second, second.ca, "new.example.org") == "TLSv1.3"


@pytest.mark.parametrize("address", ["", "host:8000", "a b", "../x", "999.1.1.1", "-x"])
def test_an_address_that_is_none_is_refused(tmp_path, address):
    with pytest.raises(Refused):
        make_server_keys(tmp_path, [address])
    assert not any(tmp_path.glob("*.key"))


@pytest.mark.parametrize("site", ["", "../evil", "a/b", "-x", "x" * 64, "a b"])
def test_a_name_that_is_none_is_refused(tmp_path, site):
    with pytest.raises(Refused):
        make_site_key(site, tmp_path)


def test_the_roster_holds_each_sites_key_once(made, tmp_path):
    keys = make_server_keys(tmp_path / "keys", ["127.0.0.1"])
    with pytest.raises(Refused, match="no public key"):
        roster(keys)
    for site in ("b", "a"):
        _, public = make_site_key(site, tmp_path)
        (keys.sites / f"{site}.pub").write_bytes(public.read_bytes())
    assert list(roster(keys)) == ["a", "b"]
    (keys.sites / "twin.pub").write_bytes(public.read_bytes())
    with pytest.raises(Refused, match="one key"):
        roster(keys)
    (keys.sites / "twin.pub").write_text("ssh-ed25519 AAAA")
    with pytest.raises(Refused, match="no public key"):
        roster(keys)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    keys = make_server_keys(tmp_path, ["127.0.0.1"])
    keys.key.chmod(0o640)
    with pytest.raises(Refused, match="others can read"):
        server_keys(tmp_path)
