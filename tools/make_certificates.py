"""An authority and a certificate for each service, for trying TLS out: python tools/make_certificates.py build/tls.

Writes DIR/ca.crt, DIR/client/{tls.crt,tls.key} and the same for each service, named as the services call each other and
`localhost`. They hold for 90 days; the authority's key is not kept. In production a certificate manager does this
(k8s/components/tls).
"""

from __future__ import annotations

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVICES = ("classifier", "embedder", "retrieval", "gateway", "web")
DAYS = datetime.timedelta(days=90)


def main(folder: Path) -> None:
    """Write all of it into `folder`."""
    authority = ec.generate_private_key(ec.SECP256R1())
    name = _name("geofix trial authority")
    root = _builder(name, name, authority.public_key()).add_extension(x509.BasicConstraints(True, 0), critical=True)
    certificate = root.sign(authority, hashes.SHA256())
    pem = certificate.public_bytes(Encoding.PEM)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(pem)
    for service in (*SERVICES, "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(service), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            _builder(_name(service), name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(authority, hashes.SHA256())
        )
        own = folder / service
        own.mkdir(exist_ok=True)
        (own / "ca.crt").write_bytes(pem)
        (own / "tls.crt").write_bytes(leaf.public_bytes(Encoding.PEM))
        secret = own / "tls.key"
        secret.touch(mode=0o644)  # the containers' user, 65532, reads it: keep the folder itself to yourself
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    folder.chmod(0o711)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + DAYS)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/tls"))
