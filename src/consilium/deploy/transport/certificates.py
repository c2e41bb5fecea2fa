"""Certificates and keys: who the server is, and who the sites are.

    server   a certificate authority of its own (ca.crt, ca.key) and a certificate it signs (server.crt, server.key)
             whose subject alternative names hold the addresses that sites dial, and those of the loopback
    site     an OpenSSH key on the curve P-384: ID.key stays at the site, ID.pub goes to the server's operator

Private files are made with mode 0600 and never overwritten.  Randomness is the operating system's.

Source: RFC 5280 (certificates), RFC 5656 (elliptic curves in OpenSSH); Flower takes NIST curves in OpenSSH form only.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.core.errors import MissingExtra, Refused
from consilium.core.files import read_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, GeneralName, Name

__all__ = ["ServerKeys", "check_site_name", "make_server_keys", "make_site_key", "roster", "server_keys"]

_CA_DAYS, _SERVER_DAYS = 3650, 397
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62}\.?)+")


@dataclass(frozen=True)
class ServerKeys:
    """The paths of a server's files; ``sites`` holds the public keys of the sites that may take part, ID.pub each."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate: every site gets a copy."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.folder / "server.key"

    @property
    def sites(self) -> Path:
        """Public keys of the sites."""
        return self.folder / "sites"


def make_server_keys(folder: Path, addresses: Sequence[str]) -> ServerKeys:
    """Make authority and server certificate in ``folder`` for the ``addresses`` that sites dial.

    An authority that is already there signs the new certificate; a server key that is there is refused.
    """
    _crypto()
    names = _names(addresses)
    keys = ServerKeys(folder)
    for path in (keys.key, keys.certificate):
        _refuse_existing(path)
    _folder(folder)
    _folder(keys.sites)
    authority, certificate = _authority(folder)
    _server(keys, authority, certificate, names)
    return keys


def make_site_key(site: str, folder: Path) -> tuple[Path, Path]:
    """Make the key of ``site`` in ``folder``; returns the private and the public file."""
    _crypto()
    from cryptography.hazmat.primitives import serialization as s

    check_site_name(site)
    private, public = folder / f"{site}.key", folder / f"{site}.pub"
    for path in (private, public):
        _refuse_existing(path)
    _folder(folder)
    key = _new_key()
    _write(private, key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption()), 0o600)
    line = key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)
    _write(public, line + f" {site}\n".encode(), 0o644)
    return private, public


def server_keys(folder: Path) -> ServerKeys:
    """The keys in ``folder``; refused where one is missing or open to others.

    Raises Refused: a file is missing or open to others.
    """
    keys = ServerKeys(folder)
    for path in (keys.ca, keys.certificate, keys.key):
        if not path.is_file():
            raise Refused(
                f"{path} does not exist", remedy=f"make it: consilium keys server --address HOST --out {folder}"
            )
    if keys.key.stat().st_mode & 0o077:
        raise Refused(f"others can read {keys.key}", remedy=f"chmod 600 {keys.key}")
    return keys


def roster(keys: ServerKeys) -> dict[str, bytes]:
    """Each site's public key in PEM form, by the name of its file, sorted.

    Raises Refused: no key, an invalid key, or one key twice.
    """
    _crypto()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    public_keys: dict[str, bytes] = {}
    for path in sorted(keys.sites.glob("*.pub")):
        check_site_name(path.stem)
        try:
            key = s.load_ssh_public_key(read_bytes(path, 1 << 20))
        except (ValueError, UnsupportedAlgorithm, OSError) as error:
            raise Refused(
                f"{path} is no public key: {error}", remedy="obtain ID.pub from the site's operator"
            ) from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Refused(f"{path} is no elliptic-curve key", remedy="make one: consilium keys site ID")
        public_keys[path.stem] = key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    if not public_keys:
        raise Refused(f"{keys.sites} holds no public key", remedy="put every site's ID.pub there")
    twins = [site for site in public_keys if list(public_keys.values()).count(public_keys[site]) > 1]
    if twins:
        raise Refused(f"{' and '.join(twins)} have the same key", remedy="make one key per site", where=str(keys.sites))
    return public_keys


def check_site_name(site: str) -> None:
    """Refuse what is no name of a site.

    Raises Refused: an invalid name.
    """
    if not _NAME.fullmatch(site):
        raise Refused(f"{site!r:.80} is no site name", remedy="use letters, digits, dots, dashes and underscores")


def _crypto() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingExtra("keys need cryptography", remedy="pip install consilium[flower]") from None


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP384R1())


def _names(addresses: Sequence[str]) -> list[GeneralName]:
    from cryptography import x509

    if not addresses:
        raise Refused("no address is given", remedy="give the address that sites connect to: --address HOST")
    general_names: dict[str, GeneralName] = {}
    for address in (*addresses, "127.0.0.1", "::1", "localhost"):
        try:
            general_names[address] = x509.IPAddress(ipaddress.ip_address(address.strip("[]")))
        except ValueError:
            if not _HOST.fullmatch(address) or address.replace(".", "").isdigit():
                raise Refused(f"{address!r:.80} is no host name or address", remedy="give it without port") from None
            general_names[address] = x509.DNSName(address)
    return list(general_names.values())


def _authority(folder: Path) -> tuple[EllipticCurvePrivateKey, Certificate]:
    """The authority in ``folder``, made if it is not there."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key_file, file = folder / "ca.key", folder / "ca.crt"
    if key_file.exists() and file.exists():
        key = s.load_pem_private_key(read_bytes(key_file, 1 << 20), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Refused(f"{key_file} is no elliptic-curve key", remedy="choose another --out")
        return key, x509.load_pem_x509_certificate(read_bytes(file, 1 << 20))
    for path in (key_file, file):
        _refuse_existing(path)
    key = _new_key()
    name = _name("consilium authority")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = _sign(key, name, key, name, _CA_DAYS, (x509.BasicConstraints(ca=True, path_length=0), usage))
    _write(key_file, key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()), 0o600)
    _write(file, certificate.public_bytes(s.Encoding.PEM), 0o644)
    return key, certificate


def _server(
    keys: ServerKeys, authority: EllipticCurvePrivateKey, issuer: Certificate, names: list[GeneralName]
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = _new_key()
    extensions = (
        x509.BasicConstraints(ca=False, path_length=None),
        x509.SubjectAlternativeName(names),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    certificate = _sign(key, _name("consilium server"), authority, issuer.subject, _SERVER_DAYS, extensions)
    _write(keys.key, key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()), 0o600)
    _write(keys.certificate, certificate.public_bytes(s.Encoding.PEM), 0o644)


def _sign(
    key: EllipticCurvePrivateKey,
    name: Name,
    authority: EllipticCurvePrivateKey,
    issuer: Name,
    days: int,
    extensions: Sequence[object],
) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ a little
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    for extension in extensions:
        assert isinstance(extension, x509.ExtensionType)
        critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(authority, hashes.SHA384())


def _name(common: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise Refused(f"{path} exists already", remedy="move it away first; keys are never overwritten")


def _folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot make {path}: {error.strerror}", remedy="choose another --out") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    """Make a file that was not there; ``mode`` holds from its first moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(data)
        file.flush()
        os.fsync(handle)
