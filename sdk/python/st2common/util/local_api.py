"""A connection to the API: by the node's own socket where there is one, else by its address.

The node that starts an action or a sensor names its socket in `ST2_ACTION_API_SOCKET`. It needs no port, no name to
resolve and no certificate, and the node keeps it open until the last action has ended.
"""

import http.client
import os
import socket
import ssl
from urllib.parse import urlsplit

__all__ = ["SOCKET_VARIABLE", "connect"]

SOCKET_VARIABLE = "ST2_ACTION_API_SOCKET"


class LocalConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system; `sock` is connected when it is made."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(timeout)
            self.sock.connect(path)
        except OSError:
            self.close()
            raise


def connect(url, timeout):
    """The connection, and what paths on it begin with.

    The socket serves the node's own API alone: another address is connected to as it stands. Who may not open the
    socket (an action that runs as another user) uses the address too.
    """
    parts = urlsplit(url)
    path = os.environ.get(SOCKET_VARIABLE)
    if path and url == os.environ.get("ST2_ACTION_API_URL"):
        try:
            return LocalConnection(path, timeout), "/v1"
        except OSError:
            pass
    base = parts.path.rstrip("/")
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context), base
    return http.client.HTTPConnection(parts.netloc, timeout=timeout), base
