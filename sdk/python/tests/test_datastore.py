import http.server
import json
import logging
import os
import socketserver
import tempfile
import threading
import unittest
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

from st2common.services.datastore import ActionDatastoreService


class Api(http.server.BaseHTTPRequestHandler):
    """As much of the keys API as the service uses."""

    def _answer(self, status, document=None):
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, unquote(url.path), query, self.headers.get("X-Auth-Token"), body))
        keys = self.server.keys
        if url.path == "/v1/user":
            return self._answer(200, {"username": "ana"})
        if url.path == "/v1/keys":
            found = [item for name, item in keys.items() if name.startswith(query.get("prefix", ""))]
            return self._answer(200, found)
        name = unquote(url.path[len("/v1/keys/"):])
        if self.command == "PUT":
            keys[name] = json.loads(body)
            return self._answer(200, keys[name])
        if name not in keys:
            return self._answer(404, {"faultstring": "KeyValuePair not found"})
        if self.command == "DELETE":
            del keys[name]
            return self._answer(204)
        return self._answer(200, keys[name])

    do_GET = do_PUT = do_DELETE = _serve

    def log_message(self, *args):
        pass


class LocalServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class LocalApi(Api):
    def address_string(self):
        return "local"


class Datastore(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.server.keys, self.server.seen = {}, []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        url = "http://127.0.0.1:%d/v1" % self.server.server_address[1]
        self.service = ActionDatastoreService(logging.getLogger("test"), "p", "Cls", url, "token")

    def test_pairs_live_under_the_class_or_under_their_own_name(self):
        self.assertTrue(self.service.set_value("a", {"x": 1}, ttl=5, encrypt=True))
        method, path, _query, token, body = self.server.seen[0]
        self.assertEqual((method, path, token), ("PUT", "/v1/keys/p.Cls:a", "token"))
        self.assertEqual(
            json.loads(body),
            {"id": "p.Cls:a", "name": "p.Cls:a", "value": "{'x': 1}", "scope": "system", "secret": True, "ttl": 5},
        )
        self.service.set_value("b", 2, local=False)
        self.assertEqual(self.service.get_value("a"), "{'x': 1}")
        self.assertEqual(self.service.get_value("b", local=False, decrypt=True), "2")
        self.assertEqual(self.server.seen[-1][2], {"decrypt": "true", "scope": "system"})
        self.assertIsNone(self.service.get_value("b"))
        self.assertEqual([pair.name for pair in self.service.list_values()], ["p.Cls:a"])
        self.assertEqual([pair.value for pair in self.service.list_values(local=False)], ["{'x': 1}", "2"])
        self.assertTrue(self.service.delete_value("a"))
        self.assertFalse(self.service.delete_value("a"))
        self.assertEqual(self.service.get_user_info(), {"username": "ana"})

    def test_other_scopes_are_refused_and_a_dead_api_is_no_value(self):
        for call in (self.service.get_value, self.service.delete_value):
            with self.assertRaisesRegex(ValueError, "Scope user is unsupported."):
                call("a", scope="user")
        self.server.shutdown()
        self.server.server_close()
        with self.assertLogs("test"):
            self.assertIsNone(self.service.get_value("a"))
            self.assertFalse(self.service.delete_value("a"))
        with self.assertRaises(Exception):
            self.service.set_value("a", 1)

    def test_the_nodes_socket_is_used_where_it_can_be(self):
        directory = tempfile.mkdtemp()
        path = os.path.join(directory, "api.sock")
        local = LocalServer(path, LocalApi)
        local.keys, local.seen = {}, []
        threading.Thread(target=local.serve_forever, daemon=True).start()
        self.addCleanup(local.server_close)
        self.addCleanup(local.shutdown)
        url = "http://127.0.0.1:%d/v1" % self.server.server_address[1]
        given = {"ST2_ACTION_API_SOCKET": path, "ST2_ACTION_API_URL": url}
        with mock.patch.dict(os.environ, given):
            self.service.set_value("a", "near")
            self.assertEqual((len(local.seen), len(self.server.seen)), (1, 0))
            self.assertEqual(local.seen[0][:2], ("PUT", "/v1/keys/p.Cls:a"))
            # Another API than the node's is asked as it stands.
            far = ActionDatastoreService(logging.getLogger("test"), "p", "Cls", url + "/", "token")
            far.set_value("a", "far")
            self.assertEqual((len(local.seen), len(self.server.seen)), (1, 1))
        # Who can't open the socket uses the address.
        with mock.patch.dict(os.environ, dict(given, ST2_ACTION_API_SOCKET=os.path.join(directory, "none"))):
            self.assertEqual(self.service.get_value("a"), "far")


if __name__ == "__main__":
    unittest.main()
