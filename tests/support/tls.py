"""TLS for the black-box tests: certificates of every kind, and a client's end of a connection.

The certificates are made with the openssl command when they are first asked for, once in a process,
in a folder that goes with it.
"""

import atexit
import contextlib
import datetime
import errno
import functools
import os
import shutil
import socket
import ssl
import subprocess
import tempfile

NAME = "localhost"  # what clients want the server to be
READ_SIZE = 256 * 1024

# What `openssl` is told: who signs, and what certificates are for.
OPENSSL_CNF = """
[req]
distinguished_name = names
prompt = no
[names]
[ca]
default_ca = signer
[signer]
database = $dir/index.txt
new_certs_dir = $dir
rand_serial = yes
unique_subject = no
default_md = sha256
policy = policy
email_in_dn = no
[policy]
commonName = optional
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
[elsewhere]
basicConstraints = critical, CA:false
extendedKeyUsage = serverAuth
subjectAltName = DNS:elsewhere.invalid
[client]
basicConstraints = critical, CA:false
extendedKeyUsage = clientAuth
"""


# --- certificates --------------------------------------------------------------------------------


class Certificate:
    """Paths of a certificate and of its key. `ca` is the path of the certificate that signed it."""

    def __init__(self, cert, key, ca):
        self.cert = cert
        self.key = key
        self.ca = ca

    @property
    def serial(self):
        return int(_openssl("x509", "-in", self.cert, "-noout", "-serial").partition(b"=")[2], 16)


@functools.cache
def folder():
    path = tempfile.mkdtemp(prefix="evrelay-tls-")
    os.chmod(path, 0o755)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    with open(os.path.join(path, "openssl.cnf"), "w", encoding="ascii") as file:
        file.write(OPENSSL_CNF.replace("$dir", path))
    with open(os.path.join(path, "index.txt"), "w", encoding="ascii"):
        pass
    return path


@functools.cache
def authority(name):
    """A CA, which has signed itself."""
    cert, key = _path(name + ".pem"), _path(name + ".key")
    _openssl(
        *("req", "-x509", "-config", _path("openssl.cnf"), "-extensions", "root", "-days", "30"),
        *("-subj", f"/CN=evrelay test {name}", "-out", cert, *_new_key(key)),
    )
    return Certificate(cert, key, cert)


def server(name="server", ca="ca"):
    """A server's certificate, for localhost, 127.0.0.1 and ::1."""
    return _issue(name, "server", ca, -1, 30)


def expired_server():
    return _issue("expired-server", "server", "ca", -2, -1)


def elsewhere():
    """A server's certificate, for another host."""
    return _issue("elsewhere", "elsewhere", "ca", -1, 30)


def client(name="desk-1", ca="ca", *, begin=-1, end=30):
    """A client's certificate: CN is `name`; valid from `begin` to `end`, in days from now."""
    return _issue(name, "client", ca, begin, end)


def expired():
    return client("expired", begin=-2, end=-1)


def not_yet_valid():
    return client("not-yet-valid", begin=1, end=2)


def stranger():
    """A client's certificate that another CA has signed."""
    return client("stranger", "other-ca")


@functools.cache
def _issue(name, kind, ca, begin, end):
    ca = authority(ca)
    request, cert, key = (_path(f"{name}.{suffix}") for suffix in ("csr", "pem", "key"))
    _openssl(
        *("req", "-new", "-config", _path("openssl.cnf"), "-subj", f"/CN={name}"),
        *("-out", request, *_new_key(key)),
    )
    _openssl(
        *("ca", "-batch", "-notext", "-config", _path("openssl.cnf"), "-extensions", kind),
        *("-cert", ca.cert, "-keyfile", ca.key, "-in", request, "-out", cert),
        *("-startdate", _days_from_now(begin), "-enddate", _days_from_now(end)),
    )
    os.chmod(key, 0o644)  # some tests start evrelay as another user
    return Certificate(cert, key, ca.cert)


def _new_key(path):
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path)


def _days_from_now(days):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return at.strftime("%Y%m%d%H%M%SZ")


def _path(name):
    return os.path.join(folder(), name)


def _openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]}: {done.stderr.decode()}")
    return done.stdout


# --- a client's end ------------------------------------------------------------------------------


def context(certificate=None, *, ca=None, version=None):
    """What a client brings along: its own certificate, if any, whom it trusts (the path of a file),
    and the one version it speaks; by default any."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(ca or authority("ca").cert)
    if certificate is not None:
        made.load_cert_chain(certificate.cert, certificate.key)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made


@functools.cache
def plain_context():
    """That of a client without a certificate, which trusts the CA of `server()`."""
    return context()


class Cut(Exception):
    """The connection has ended, but the peer has not said that it would."""


class Channel:
    """The bytes of a connected, non-blocking socket through TLS. send and recv behave like the
    socket's own: BlockingIOError means later, ConnectionError a reset, b"" the end. Besides,
    ssl.SSLError is a refusal, ours or by an alert, and Cut an end without close_notify.

    The handshake begins at once and goes on with each call."""

    def __init__(self, sock, client_context, name=NAME):
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._records = bytearray()  # not written yet
        self._payload = 0  # bytes of what `send` was given that they hold
        self._ending = False  # our close_notify is among them, or has gone
        self._ended = False  # it has gone
        self._peer_ended = False  # its close_notify has come
        self.shaking = True
        self._shake()
        with _later():
            self._flush()

    @property
    def version(self):
        return self._tls.version()

    @property
    def server_serial(self):
        return int(self._tls.getpeercert()["serialNumber"], 16)

    @property
    def unsent(self):
        """Something waits until the socket is writable."""
        return bool(self._records)

    def send(self, data):
        """The number of bytes that have been taken and written. The rest is to be given again."""
        if self.shaking:
            raise BlockingIOError
        if self._ending:
            raise BrokenPipeError
        if not self._payload:
            self._payload = self._tls.write(data)
        self._flush()
        sent, self._payload = self._payload, 0
        return sent

    def recv(self, size):
        chunk = self._sock.recv(size)
        if not chunk:
            if self.shaking or self._peer_ended:
                return b""
            raise Cut
        self._incoming.write(chunk)
        if self.shaking:
            self._shake()
        payload = b"" if self.shaking else self._read()
        with _later():
            self._flush()
        if not payload:
            raise BlockingIOError
        return payload

    def end(self):
        """Says that nothing more will be sent; `flush` until nothing is unsent."""
        if self.shaking or self._ending:
            return
        self._ending = True
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:  # the peer may still send
            pass
        self.flush()

    def flush(self):
        with _later():
            self._flush()
            if self._ending and not self._ended:
                self._ended = True
                self._sock.shutdown(socket.SHUT_WR)

    def _shake(self):
        try:
            self._tls.do_handshake()
            self.shaking = False
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            with _later():
                self._flush()  # the alert
            raise

    def _read(self):
        payload = bytearray()
        try:
            while not self._peer_ended:
                piece = self._tls.read(READ_SIZE)
                payload += piece
                self._peer_ended = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
        return bytes(payload)

    def _flush(self):
        self._records += self._outgoing.read()
        while self._records:
            with memoryview(self._records) as view:
                sent = self._sock.send(view)
            del self._records[:sent]


@contextlib.contextmanager
def _later():
    """What cannot be written now is written later; that the peer has gone, reading tells."""
    try:
        yield
    except BlockingIOError:
        pass
    except OSError as error:
        if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
            raise
