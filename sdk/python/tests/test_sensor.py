"""A sensor's process against a container that these tests play."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

HOST = os.path.join(os.path.dirname(__file__), "..", "squall_host", "__main__.py")

BASE = """
import os, threading, time
from st2reactor.sensor.base import PollingSensor, Sensor
class Rest:
    def setup(self): pass
    def cleanup(self): pass
    def poll(self): pass
    def add_trigger(self, trigger): pass
    def update_trigger(self, trigger): pass
    def remove_trigger(self, trigger): pass
"""

WAITING = """
class S(Rest, Sensor):
    def run(self): threading.Event().wait()
"""


class Container:
    """The other end of the channel of one process."""

    def __init__(self, text, config=None, until=None, pack="p", **request):
        self.directory = tempfile.TemporaryDirectory()
        path = os.path.join(self.directory.name, "sensor_file.py")
        with open(path, "w") as file:
            file.write(BASE + textwrap.dedent(text))
        self.socket, theirs = socket.socketpair()
        given = {"kind": "sensor", "file_path": path, "pack": pack, "class_name": "S", "env": {}, "path": []}
        given.update(request)
        command = [sys.executable, HOST, "once"]
        # The channel is at descriptor 3.
        os.set_inheritable(theirs.fileno(), True)
        shell = ["/bin/sh", "-c", 'exec "$@" 3<&%d' % theirs.fileno(), "sh"] + command
        self.process = subprocess.Popen(
            shell, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        theirs.close()
        data = json.dumps(given).encode()
        self.socket.sendall(len(data).to_bytes(8, "little") + data)
        self.buffer = b""
        start = {"type": "start", "config": config or {}, "pack_directory": self.directory.name}
        if until is not None:
            start["lease_until"] = time.monotonic() + until
        self.say(**start)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.directory.cleanup()

    def say(self, **message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, kind, seconds=10):
        """The next message of this type; others are skipped."""
        deadline = time.monotonic() + seconds
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                message = json.loads(line)
                if message["type"] == kind:
                    return message
                continue
            if not select.select([self.socket], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError("no message %s" % kind)
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError("the process closed: %r" % (self.process.communicate(),))
            self.buffer += data

    def acknowledge(self, message):
        self.say(type="ack", id=message["id"], instance="0" * 24)

    def exit_code(self, seconds=10):
        return self.process.wait(seconds)


class Lease(unittest.TestCase):
    def test_a_process_whose_lease_is_not_renewed_ends_by_itself(self):
        with Container(WAITING, until=1.5) as container:
            container.hear("ready")
            began = time.monotonic()
            container.say(type="lease", until=began + 1.0)
            self.assertEqual(container.exit_code(), -signal.SIGKILL)
            self.assertTrue(0.7 < time.monotonic() - began < 1.6)

    def test_a_renewed_lease_is_believed(self):
        with Container(WAITING, until=1.0) as container:
            container.hear("ready")
            for _ in range(6):
                container.say(type="lease", until=time.monotonic() + 1.0)
                time.sleep(0.25)
            self.assertIsNone(container.process.poll())

    def test_a_process_without_a_container_ends(self):
        with Container(WAITING) as container:
            container.hear("ready")
            container.socket.close()
            self.assertEqual(container.exit_code(), -signal.SIGKILL)

    def test_a_stopped_process_does_nothing_more_when_it_goes_on_after_its_lease(self):
        text = """
        class S(Rest, PollingSensor):
            def poll(self):
                with open(self.config["file"], "a") as file: file.write("x")
                self._sensor_service._link.check_lease()
                self.sensor_service.dispatch("p.e")
        """
        with tempfile.NamedTemporaryFile() as file:
            with Container(text, config={"file": file.name}, until=1.0) as container:
                container.hear("dispatch")
                os.killpg(container.process.pid, signal.SIGSTOP)
                time.sleep(1.2)
                os.killpg(container.process.pid, signal.SIGCONT)
                self.assertEqual(container.exit_code(), -signal.SIGKILL)
                self.assertEqual(file.read(), b"x")


class Events(unittest.TestCase):
    def test_dispatch_returns_when_it_is_acknowledged(self):
        text = """
        class S(Rest, Sensor):
            def run(self):
                self.sensor_service.dispatch(trigger="p.e", payload={"nan": float("nan")}, trace_tag="t")
                self.sensor_service.dispatch("p.bad")
                self.sensor_service.dispatch("p.after", {"o": object, 1: 2})
        """
        with Container(text) as container:
            first = container.hear("dispatch")
            self.assertEqual(first["payload"], {"nan": None})
            self.assertEqual((first["trigger"], first["trace_context"]), ("p.e", {"trace_tag": "t"}))
            with self.assertRaises(AssertionError):
                container.hear("dispatch", 0.3)
            container.acknowledge(first)
            container.say(type="ack", id=container.hear("dispatch")["id"], error="it is bad")
            log = container.hear("log")
            self.assertIn("The trigger p.bad is not dispatched: it is bad", log["message"])
            self.assertEqual((log["level"], log["logger"]), ("WARNING", "st2.SensorWrapper.p.S"))
            after = container.hear("dispatch")
            self.assertEqual(after["payload"]["o"], "<class 'object'>")
            container.acknowledge(after)
            self.assertEqual(container.exit_code(), 0)

    def test_a_payload_is_a_dict_and_messages_are_bounded(self):
        text = """
        class S(Rest, Sensor):
            def run(self):
                try: self.sensor_service.dispatch("p.e", ["list"])
                except ValueError as error: self.sensor_service.dispatch("p.e", {"error": str(error)})
                self.sensor_service.dispatch("p.large", {"text": "x" * (1 << 21)})
        """
        with Container(text) as container:
            message = container.hear("dispatch")
            self.assertIn("is a dict, not list", message["payload"]["error"])
            container.acknowledge(message)
            self.assertIn("p.large is not dispatched: the message has", container.hear("log")["message"])
            self.assertEqual(container.exit_code(), 0)

    def test_triggers_come_after_setup_one_by_one(self):
        text = """
        class S(Rest, Sensor):
            def setup(self): time.sleep(0.3); self.done = True
            def add_trigger(self, trigger):
                assert self.done
                if trigger["ref"] == "p.bad": raise ValueError("bad trigger")
                self.sensor_service.dispatch("p.e", {"add": trigger["ref"]})
            def remove_trigger(self, trigger): self.sensor_service.dispatch("p.e", {"remove": trigger["ref"]})
            def run(self): threading.Event().wait()
        """
        with Container(text) as container:
            for change, ref in (("create", "p.bad"), ("create", "p.a"), ("delete", "p.a")):
                container.say(type="trigger", change=change, trigger={"ref": ref})
            self.assertIn("bad trigger", container.hear("log")["message"])
            seen = []
            for _ in range(2):
                seen.append(container.hear("dispatch"))
                container.acknowledge(seen[-1])
            self.assertEqual([event["payload"] for event in seen], [{"add": "p.a"}, {"remove": "p.a"}])


class Life(unittest.TestCase):
    def test_sigterm_cleans_up_even_in_the_middle_of_a_dispatch(self):
        text = """
        class S(Rest, PollingSensor):
            def poll(self): self.sensor_service.dispatch("p.e")
            def cleanup(self): self.sensor_service.get_logger("end").info("cleaned %s", self.get_poll_interval())
        """
        with Container(text, poll_interval=7) as container:
            ready = container.hear("ready")
            self.assertTrue(ready["heartbeat"])
            self.assertEqual([os.path.basename(path) for path in ready["files"]], ["sensor_file.py"])
            container.hear("dispatch")
            container.process.send_signal(signal.SIGTERM)
            log = container.hear("log")
            self.assertEqual((log["message"], log["logger"]), ("cleaned 7", "st2.SensorWrapper.p.S.end"))
            self.assertEqual(container.exit_code(), 0)

    def test_an_exception_ends_it_with_its_traceback(self):
        text = """
        class S(Rest, Sensor):
            def run(self): raise KeyError("no luck")
        """
        with Container(text) as container:
            self.assertEqual(container.exit_code(), 1)
            error = container.process.stderr.read().decode()
            self.assertTrue(error.rstrip().endswith("KeyError: 'no luck'"), error)
            self.assertNotIn("squall_host", error)

    def test_a_class_need_not_inherit_but_has_to_be_complete(self):
        with Container("class S:\n    def __init__(self, sensor_service, config): pass\n") as container:
            self.assertEqual(container.exit_code(), 1)
            self.assertIn("lacks the methods: add_trigger, cleanup", container.process.stderr.read().decode())
        text = """
        class S(Rest):
            def __init__(self, sensor_service, config): self.service = sensor_service; self.config = config
            def run(self): self.service.dispatch("p.e", self.config)
        """
        with Container(text, config={"a": 1}, poll_interval=9) as container:
            message = container.hear("dispatch")
            self.assertEqual(message["payload"], {"a": 1})
            container.acknowledge(message)
            self.assertEqual(container.exit_code(), 0)

    def test_it_answers_pings_and_tells_of_modules_that_came_later(self):
        text = """
        class S(Rest, Sensor):
            def add_trigger(self, trigger):
                import later
                self.sensor_service.dispatch("p.e")
            def run(self): threading.Event().wait()
        """
        with Container(text) as container:
            with open(os.path.join(container.directory.name, "later.py"), "w") as file:
                file.write("A = 1\n")
            container.hear("ready")
            container.say(type="trigger", change="create", trigger={"ref": "p.a"})
            container.hear("dispatch")
            container.say(type="ping")
            files = [os.path.basename(path) for path in container.hear("files")["files"]]
            self.assertEqual(files, ["later.py", "sensor_file.py"])
            container.hear("pong")

    def test_a_pack_that_patches_the_library_reaches_no_thread_of_ours(self):
        text = """
        import select, os as real
        class S(Rest, Sensor):
            def run(self):
                def gone(*_): raise RuntimeError("patched")
                select.poll = real.read = real.write = time.monotonic = gone
                threading.Thread = threading.Lock = gone
                self.sensor_service.get_logger("x").info("logged")
                self.sensor_service.dispatch("p.e")
        """
        with Container(text, until=30) as container:
            self.assertEqual(container.hear("log")["message"], "logged")
            container.acknowledge(container.hear("dispatch"))
            self.assertEqual(container.exit_code(), 0)


class Datastore(unittest.TestCase):
    def test_pairs_are_the_sensors_own_and_the_token_may_be_renewed(self):
        import threading
        from http.server import ThreadingHTTPServer

        from tests.test_datastore import Api

        server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        server.keys, server.seen = {}, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        text = """
        class S(Rest, Sensor):
            def run(self):
                service = self.sensor_service
                service.set_value("n", 5)
                service.dispatch("p.e", {"value": service.get_value("n"), "none": service.get_value("other")})
                service.dispatch("p.e", {"names": [pair.name for pair in service.list_values()],
                                         "deleted": service.delete_value("n"), "user": service.get_user_info()})
        """
        url = "http://127.0.0.1:%d/v1" % server.server_address[1]
        with Container(text, env={"ST2_AUTH_TOKEN": "first", "ST2_ACTION_API_URL": url}) as container:
            message = container.hear("dispatch")
            self.assertEqual(message["payload"], {"value": "5", "none": None})
            container.say(type="token", token="second")
            container.acknowledge(message)
            message = container.hear("dispatch")
            expected = {"names": ["p.S:n"], "deleted": True, "user": {"username": "ana"}}
            self.assertEqual(message["payload"], expected)
            container.acknowledge(message)
            container.exit_code()
        tokens = [seen[3] for seen in server.seen]
        self.assertEqual((tokens[0], tokens[-1]), ("first", "second"))


if __name__ == "__main__":
    unittest.main()
