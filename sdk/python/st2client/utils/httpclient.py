"""Requests to a service: JSON in, JSON out, with the token or the API key."""

import base64
import http.client
import json
import os
import ssl
from typing import Any, Dict, Iterator, Optional, Union
from urllib.parse import urlencode, urlsplit

__all__ = ["HTTPClient", "HTTPError", "Response"]

TIMEOUT_SECONDS = 60.0


def _error_bases() -> tuple:
    # Packs catch `requests.HTTPError`, if they have that library.
    try:
        from requests import HTTPError as Base
    except ImportError:
        return (Exception,)
    return (Base,)


class _Lazy:
    """`HTTPError`, made when the first one is needed: importing `requests` takes longer than most actions."""

    made: Optional[type] = None

    @classmethod
    def get(cls) -> type:
        if cls.made is None:
            base = _error_bases()[0]

            def create(self: Any, text: str, response: Any = None) -> None:
                base.__init__(self, text)
                self.response = response

            cls.made = type("HTTPError", (base,), {"__init__": create, "__doc__": "The service refused."})
        return cls.made


def __getattr__(name: str) -> Any:
    if name == "HTTPError":
        return _Lazy.get()
    raise AttributeError(name)


class Response:
    """An answer, with what packs use of that of `requests`."""

    def __init__(self, status: int, reason: str, headers: Dict[str, str], text: str) -> None:
        self.status_code = status
        self.reason = reason
        self.headers = headers
        self.text = text

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    def json(self) -> Any:
        return json.loads(self.text)

    def raise_for_status(self) -> None:
        if self.ok:
            return
        kind = "Client" if self.status_code < 500 else "Server"
        text = "%d %s Error: %s" % (self.status_code, kind, self.reason)
        try:
            text += "\nMESSAGE: %s" % self.json()["faultstring"]
        except (ValueError, KeyError, TypeError):
            pass
        raise _Lazy.get()(text, response=self)


class HTTPClient:
    """One service below `root`. `cacert` is a file, True for the system's authorities, or False or None for no check."""

    def __init__(
        self,
        root: str,
        cacert: Union[str, bool, None] = None,
        debug: bool = False,
        basic_auth: Optional[str] = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.root = root.rstrip("/")
        self.cacert = cacert
        self.debug = debug
        self.basic_auth = basic_auth
        self.timeout = timeout

    def get(self, path: str, **options: Any) -> Response:
        return self.request("GET", path, None, **options)

    def post(self, path: str, data: Any, **options: Any) -> Response:
        return self.request("POST", path, data, **options)

    def put(self, path: str, data: Any, **options: Any) -> Response:
        return self.request("PUT", path, data, **options)

    def patch(self, path: str, data: Any, **options: Any) -> Response:
        return self.request("PATCH", path, data, **options)

    def delete(self, path: str, **options: Any) -> Response:
        return self.request("DELETE", path, None, **options)

    def request(self, method: str, path: str, data: Any = None, **options: Any) -> Response:
        """Options: `token`, `api_key`, `params`, `headers`, `auth` (user, password), `timeout`."""
        connection, answer = self._send(method, path, data, options)
        try:
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        headers = {name.title(): value for name, value in answer.getheaders()}
        return Response(answer.status, answer.reason, headers, text)

    def lines(self, path: str, **options: Any) -> Iterator[str]:
        """The lines of an endless answer."""
        connection, answer = self._send("GET", path, None, dict(options, timeout=options.get("timeout")))
        try:
            if answer.status >= 400:
                text = answer.read().decode("utf-8", "replace")
                Response(answer.status, answer.reason, {}, text).raise_for_status()
            for line in answer:
                yield line.decode("utf-8", "replace").rstrip("\r\n")
        finally:
            connection.close()

    def _send(self, method: str, path: str, data: Any, options: Dict[str, Any]) -> Any:
        url = urlsplit(self.root)
        target = url.path + path
        given = {name: _text(value) for name, value in (options.get("params") or {}).items() if value is not None}
        if given:
            target += ("&" if "?" in target else "?") + urlencode(given, doseq=True)
        body = None if data is None else json.dumps(data).encode("utf-8")
        headers = self._headers(options, body is not None)
        timeout = options.get("timeout", self.timeout)
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(url.netloc, timeout=timeout, context=self._context())
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=timeout)
        try:
            connection.request(method, target, body=body, headers=headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _headers(self, options: Dict[str, Any], has_body: bool) -> Dict[str, str]:
        headers = {"Accept": "*/*"}
        if has_body:
            headers["Content-Type"] = "application/json"
        token = options.get("token") or os.environ.get("ST2_AUTH_TOKEN")
        api_key = options.get("api_key") or os.environ.get("ST2_API_KEY")
        if token:
            headers["X-Auth-Token"] = token
        if api_key:
            headers["St2-Api-Key"] = api_key
        auth = options.get("auth") or (self.basic_auth.split(":", 1) if self.basic_auth else None)
        if auth:
            pair = ":".join(auth).encode("utf-8")
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        headers.update(options.get("headers") or {})
        return headers

    def _context(self) -> ssl.SSLContext:
        if isinstance(self.cacert, str):
            return ssl.create_default_context(cafile=self.cacert)
        context = ssl.create_default_context()
        if not self.cacert:
            # As StackStorm's client: without an authority nothing is checked.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
