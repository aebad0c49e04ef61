"""The client against an API that says what it was asked."""

import http.server
import json
import os
import threading
import unittest
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

from st2client.client import Client
from st2client.models import ActionAliasMatch, Execution, KeyValuePair, LiveAction
from st2client.utils import httpclient


class Api(http.server.BaseHTTPRequestHandler):
    def _serve(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = (self.command, url.path, dict(parse_qsl(url.query)), json.loads(body) if body else None)
        self.server.seen.append(asked + (dict(self.headers),))
        status, answer = self.server.answers.get((self.command, url.path), (200, {"id": "1", "name": "n"}))
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Total-Count", "7")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, *args):
        pass


class Calls(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.server.seen, self.server.answers = [], {}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        patched = mock.patch.dict(os.environ, {"ST2_AUTH_TOKEN": "from-env"})
        patched.start()
        self.addCleanup(patched.stop)
        self.url = "http://127.0.0.1:%d/v1" % self.server.server_address[1]
        self.client = Client(api_url=self.url, stream_url=self.url)

    def answer(self, method, path, answer, status=200):
        self.server.answers[(method, "/v1" + path)] = (status, answer)

    def asked(self):
        return self.server.seen[-1][:4]

    def test_lists_and_single_ones(self):
        self.answer("GET", "/rules", [{"name": "a", "pack": "p"}])
        found = self.client.rules.get_all(limit=5, pack="p")
        self.assertEqual([item.name for item in found], ["a"])
        self.assertEqual(self.asked(), ("GET", "/v1/rules", {"limit": "5", "pack": "p"}, None))
        self.answer("GET", "/rules/", [{"name": "a"}, {"name": "a"}])
        with self.assertRaisesRegex(Exception, "More than one"):
            self.client.rules.get_by_name("a", pack="p")
        self.answer("GET", "/rules/", [])
        self.assertIsNone(self.client.rules.get_by_name("a"))
        self.assertEqual(self.client.rules.query_with_count(name="a"), ([], 7))
        self.answer("GET", "/rules/zz", {"faultstring": "no"}, 404)
        self.assertIsNone(self.client.rules.get_by_ref_or_id("zz"))

    def test_executions(self):
        self.client.executions.create(Execution(action="core.noop", parameters={}))
        self.assertEqual(self.asked(), ("POST", "/v1/executions", {}, {"action": "core.noop", "parameters": {}}))
        self.client.liveactions.create(LiveAction(action="core.noop"))
        self.assertEqual(self.asked()[:2], ("POST", "/v1/executions"))
        self.client.liveactions.re_run("5", tasks=["a", "b"], no_reset=["b"])
        body = {"parameters": {}, "tasks": ["a", "b"], "reset": ["a"], "delay": 0}
        self.assertEqual(self.asked(), ("POST", "/v1/executions/5/re_run", {}, body))
        self.client.executions.pause("5")
        self.assertEqual(self.asked(), ("PUT", "/v1/executions/5", {}, {"status": "pausing"}))
        self.assertEqual(self.client.executions.delete_by_id("5"), {"id": "1", "name": "n"})
        self.answer("GET", "/executions/5/output", "text")
        self.assertEqual(self.client.executions.get_output("5", "stdout"), "text")
        self.answer("GET", "/executions/5/children", [{"id": "6"}])
        self.assertEqual(self.client.executions.get_children("5")[0].id, "6")
        self.assertIs(self.client.managers["LiveAction"], self.client.liveactions)

    def test_keys(self):
        pair = KeyValuePair(name="a.b:c", value="1")
        self.assertEqual(pair.id, "a.b:c")
        self.client.keys.update(pair)
        self.assertEqual(self.asked()[:2], ("PUT", "/v1/keys/a.b:c"))
        self.client.keys.get_by_name("x", decrypt=True)
        self.assertEqual(self.asked(), ("GET", "/v1/keys/x/", {"decrypt": "true"}, None))
        self.answer("GET", "/keys/x/", {"faultstring": "no"}, 404)
        self.assertEqual(self.client.keys.get_by_name("x"), [])
        self.answer("DELETE", "/keys/a.b:c", "", 204)
        self.assertIs(self.client.keys.delete(pair), True)

    def test_others(self):
        self.client.inquiries.respond("9", {"continue": True})
        self.assertEqual(self.asked(), ("PUT", "/v1/inquiries/9", {}, {"id": "9", "response": {"continue": True}}))
        self.client.webhooks.post_generic_webhook("p.t", {"a": 1}, trace_tag="tag")
        self.assertEqual(self.asked(), ("POST", "/v1/webhooks/st2", {}, {"trigger": "p.t", "payload": {"a": 1}}))
        self.assertEqual(self.server.seen[-1][4]["St2-Trace-Tag"], "tag")
        self.answer("POST", "/actionalias/match", {"actionalias": {"name": "al"}, "representation": "r {{x}}"})
        alias, text = self.client.managers["ActionAlias"].match(ActionAliasMatch(command="r 1"))
        self.assertEqual((alias.name, text), ("al", "r {{x}}"))
        self.answer("GET", "/stream", "event: e\ndata: {\"id\": 1}\n\n\n\nevent: e\ndata: {\"id\": 2}\n\n")
        heard = list(self.client.managers["Stream"].listen(["e", "f"]))
        self.assertEqual(heard, [{"id": 1}, {"id": 2}])
        self.assertEqual(self.asked()[2], {"events": "e,f"})

    def test_errors_say_what_the_service_said(self):
        self.answer("POST", "/executions", {"faultstring": "no such action"}, 400)
        with self.assertRaisesRegex(httpclient.HTTPError, "(?s)400 Client Error: .*\nMESSAGE: no such action") as caught:
            self.client.executions.create(Execution(action="a"))
        self.assertEqual(caught.exception.response.status_code, 400)

    def test_who_asks(self):
        self.answer("GET", "/actions", [])
        self.client.actions.get_all(token="t")
        self.assertEqual(self.server.seen[-1][4]["X-Auth-Token"], "t")
        self.client.actions.get_all()
        self.assertEqual(self.server.seen[-1][4]["X-Auth-Token"], "from-env")
        Client(api_url=self.url, token="mine", api_key="k")
        self.client.actions.get_all()
        heads = self.server.seen[-1][4]
        self.assertEqual((heads["X-Auth-Token"], heads["St2-Api-Key"]), ("mine", "k"))


class Settings(unittest.TestCase):
    def test_addresses(self):
        with mock.patch.dict(os.environ, clear=True):
            client = Client(base_url="http://localhost")
            self.assertEqual(client.endpoints["api"], "http://localhost:9101/v1")
            self.assertEqual(client.endpoints["auth"], "http://localhost:9100")
            os.environ["ST2_API_URL"] = "http://x/v1"
            self.assertEqual(Client().endpoints["api"], "http://x/v1")
            with self.assertRaisesRegex(ValueError, "does not exist"):
                Client(cacert="/no/such/file")

    def test_everything_a_pack_may_name_is_there(self):
        client = Client()
        names = (
            "actions apikeys keys executions liveactions inquiries packs policies policytypes rules runners sensors tokens "
            "triggertypes triggerinstances trace ruleenforcements webhooks workflows"
        )
        for name in names.split():
            self.assertTrue(hasattr(client, name), name)
        managed = "ActionAlias ActionAliasExecution Config ConfigSchema Trigger Timer Stream ServiceRegistryGroups "
        managed += "ServiceRegistryMembers Role UserRoleAssignment LiveAction Token"
        for name in managed.split():
            self.assertIn(name, client.managers)


if __name__ == "__main__":
    unittest.main()
