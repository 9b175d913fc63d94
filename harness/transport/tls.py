"""TLS 1.3 between two buffers in memory, so that a socket's bytes can be dated and sent as they are.

Each process makes one certificate, signed by itself, when it starts. The two ends of a connection
know each other's before TLS begins (see `handshake`) and trust that one alone.
"""

import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from threading import Lock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RECORD_BYTES = 1 << 14  # plaintext of a full record
RECORD_OVERHEAD = 22  # header 5, type 1, tag 16: of every cipher suite that is on by default
BLOCK_BYTES = 4 * RECORD_BYTES  # given to OpenSSL at once
FINGERPRINT_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """A process's certificate (DER), and its key (PEM), which never leaves the process."""

    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def fresh(cls, name: str) -> "Identity":
        """A new key on P-256 and a certificate for it. It ends with its process, whatever the clock
        of a host says: it has no date of expiry."""
        key = ec.generate_private_key(ec.SECP256R1())
        title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(title, title, key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(datetime(2000, 1, 1))
        certificate = builder.not_valid_after(datetime(9999, 12, 31)).sign(key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(certificate.public_bytes(serialization.Encoding.DER), private)


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a certificate (DER)."""
    return sha256(certificate).digest()


def wire_bytes(size: int) -> int:
    """What `size` bytes of plaintext are in records, as `blocks` cuts them."""
    return size + RECORD_OVERHEAD * -(-size // RECORD_BYTES)


def blocks(views: Sequence[memoryview]) -> Iterator[memoryview]:
    """`views` as one stream, cut where a full record ends. Only what a border between views splits
    is copied: less than a record at each."""
    loose = bytearray()
    for whole in views:
        view = whole
        if loose:
            size = RECORD_BYTES - len(loose)
            loose += view[:size]
            view = view[size:]
            if len(loose) < RECORD_BYTES:
                continue
            yield memoryview(loose)
        end = len(view) - len(view) % RECORD_BYTES
        for at in range(0, end, BLOCK_BYTES):
            yield view[at : min(at + BLOCK_BYTES, end)]
        loose = bytearray(view[end:])
    if loose:
        yield memoryview(loose)


def batches(views: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """Their blocks, so many at a time as are worth a system call."""
    batch: list[memoryview] = []
    for block in blocks(views):
        batch.append(block)
        if sum(map(len, batch)) >= BLOCK_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


class Tls:
    """One end of a connection. One thread may encrypt while another decrypts.

    trusted: the peer's certificate (DER). Every method but `feed` raises ssl.SSLError.
    """

    def __init__(self, identity: Identity, trusted: bytes, server: bool) -> None:
        self._trusted = trusted
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _context(identity, trusted, server)
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        self._lock = Lock()  # OpenSSL allows no two calls on one connection at once

    def shake_hands(self) -> bool:
        """As far as what came in allows; whether it is done. What to send is in `outgoing`."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if self._ssl.getpeercert(binary_form=True) != self._trusted:
            raise ssl.SSLError("another certificate than the one of the handshake")
        return True

    def outgoing(self) -> bytes:
        """What is to be sent, and was not taken yet."""
        return self._outgoing.read()

    def feed(self, data: memoryview | bytes) -> None:
        """Take in what came from the peer."""
        self._incoming.write(data)

    @property
    def buffered(self) -> bool:
        """Whether there is something that `decrypt` has not used up."""
        with self._lock:
            return bool(self._incoming.pending or self._ssl.pending())

    def encrypt(self, batch: Sequence[memoryview]) -> memoryview:
        """The records of some blocks, to be sent with one system call."""
        with self._lock:
            for block in batch:
                self._ssl.write(block)
            return memoryview(self._outgoing.read())

    def decrypt(self, buffer: memoryview) -> int:
        """Fill `buffer` as far as one record goes; how far. 0: more must be fed first. Raises EOFError
        where the peer has ended the stream."""
        if not self.buffered:
            return 0
        try:
            with self._lock:
                return self._ssl.read(len(buffer), buffer)  # type: ignore[return-value]
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLZeroReturnError:
            raise EOFError("end of stream") from None


def reason(error: ssl.SSLError) -> str:
    """What an error of TLS says, without numbers of lines of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or str(error)).lower().replace("_", " ")


def _context(identity: Identity, trusted: bytes, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a name says nothing here: one certificate is trusted
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trusted)
    if server:
        context.num_tickets = 0  # no session is resumed
    _load(context, identity)
    return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """The ssl module reads keys from files only: this one is in memory."""
    certificate = ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
    with os.fdopen(os.memfd_create("identity"), "wb") as file:
        file.write(certificate + identity.key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
