"""The base classes for tests of packs, used as a pack would."""

import importlib.util
import os
import tempfile
import textwrap
import unittest

from st2common.models.system.action import ShellScriptAction
from st2common.runners.base_action import Action
from st2reactor.sensor.base import PollingSensor
from st2tests.base import BaseActionTestCase, BaseSensorTestCase
from st2tests.pack_resource import BasePackResourceTestCase


class Greet(Action):
    def run(self, name):
        self.action_service.set_value("last", {"name": name}, ttl=3)
        return True, self.config["greeting"] + name


class Old(Action):
    def __init__(self, config):
        super().__init__(config)

    def run(self):
        return self.action_service.get_user_info()["username"]


class GreetTest(BaseActionTestCase):
    action_cls = Greet

    def test_an_action_runs_with_a_datastore_in_memory(self):
        action = self.get_action_instance({"greeting": "hi "})
        self.assertEqual(action.run("ana"), (True, "hi ana"))
        self.assertEqual(self.action_service.get_value("last"), {"name": "ana"})
        names = [item.name for item in self.action_service.list_values(prefix="la")]
        self.assertEqual(names, ["tests.Greet:last"])
        self.assertTrue(self.action_service.delete_value("last"))
        self.assertFalse(self.action_service.delete_value("last"))
        self.assertIsNone(self.action_service.get_value("last"))
        with self.assertRaisesRegex(ValueError, "Scope user is unsupported"):
            self.action_service.get_value("last", scope="user")
        with self.assertRaisesRegex(ValueError, 'pack "tests" is missing key "greeting"'):
            self.get_action_instance().run("x")


class OldTest(BaseActionTestCase):
    action_cls = Old

    def test_older_constructors_get_the_service_afterwards(self):
        self.assertEqual(self.get_action_instance().run(), "admin")


class Poll(PollingSensor):
    def setup(self):
        self.seen = self.sensor_service.get_value("seen") or 0

    def poll(self):
        self.seen += 1
        self.sensor_service.set_value("seen", self.seen)
        self.sensor_service.get_logger(__name__).info("seen %d", self.seen)
        self.sensor_service.dispatch("p.seen", {"n": self.seen}, trace_tag="t%d" % self.seen)

    def cleanup(self):
        pass

    add_trigger = update_trigger = remove_trigger = lambda self, trigger: None


class PollTest(BaseSensorTestCase):
    sensor_cls = Poll

    def test_what_a_sensor_dispatches_can_be_asked_for(self):
        sensor = self.get_sensor_instance({"a": 1}, poll_interval=7)
        self.assertEqual((sensor.config, sensor.get_poll_interval()), ({"a": 1}, 7))
        sensor.setup()
        sensor.poll()
        sensor.poll()
        self.assertTriggerDispatched("p.seen", {"n": 1})
        self.assertEqual(self.get_last_dispatched_trigger()["payload"], {"n": 2})
        self.assertEqual([item["trace_context"].trace_tag for item in self.get_dispatched_triggers()], ["t1", "t2"])
        with self.assertRaisesRegex(AssertionError, "hasn't been dispatched"):
            self.assertTriggerDispatched("p.seen", {"n": 3})
        with self.assertRaisesRegex(AssertionError, "hasn't been dispatched"):
            self.assertTriggerDispatched("p.other")


class Pack(unittest.TestCase):
    """Tests inside a pack's folder find its aliases and fixtures."""

    def pack_test(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        files = {
            "aliases/one.json": '{"name": "one", "pack": "p", "action_ref": "p.run", "formats": ["a {{x}}", '
            '{"display": "b <y>", "representation": ["b {{y=1}}", "c {{y}}"]}, {"display": "only shown"}]}',
            "tests/fixtures/a.txt": "content",
            "tests/test_it.py": textwrap.dedent(text),
        }
        for name, content in files.items():
            path = os.path.join(folder.name, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        spec = importlib.util.spec_from_file_location("test_it", os.path.join(folder.name, "tests/test_it.py"))
        module = importlib.util.module_from_spec(spec)
        import sys

        sys.modules["test_it"] = module
        self.addCleanup(sys.modules.pop, "test_it")
        spec.loader.exec_module(module)
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
        return result

    def test_aliases_and_fixtures(self):
        result = self.pack_test(
            """
            from st2tests.base import BaseActionAliasTestCase as Base
            class One(Base):
                action_alias_name = "one"
                def test_good(self):
                    formats = self.action_alias_db.get_format_strings()
                    self.assertEqual(formats, ["a {{x}}", "b {{y=1}}", "c {{y}}"])
                    self.assertCommandMatchesExactlyOneFormatString(formats, "b 5")
                    self.assertExtractedParametersMatch(formats[1], "b", {"y": "1"})
                    self.assertEqual(self.action_alias_db.action_ref, "p.run")
                    self.assertEqual(self.get_fixture_content("a.txt"), "content")
                def test_bad_parameters(self):
                    self.assertExtractedParametersMatch("a {{x}}", "a 1", {"x": "2"})
                def test_unknown_format(self):
                    self.assertExtractedParametersMatch("z {{x}}", "z 1", {"x": "1"})
                def test_no_match(self):
                    self.assertCommandMatchesExactlyOneFormatString(["a {{x}}"], "q")
                def test_two_matches(self):
                    self.assertCommandMatchesExactlyOneFormatString(["a {{x}}", "{{y}}"], "a 1")
            class Two(Base):
                action_alias_name = "missing"
                def test_is_not_reached(self):
                    pass
            """
        )
        self.assertEqual(result.testsRun, 6)
        failed = sorted(test.id().rsplit(".", 1)[1] for test, _ in result.failures)
        self.assertEqual(failed, ["test_bad_parameters", "test_no_match", "test_two_matches", "test_unknown_format"])
        self.assertEqual(len(result.errors), 1)
        self.assertIn('Alias with name "missing" not found', result.errors[0][1])


class Other(BasePackResourceTestCase):
    def test_a_script_s_command_line(self):
        named = {"--a": "x y", "--b": True, "--c": False, "--d": None, "--e": "", "--f": 5, "--g": [1, "b c"], "--i": 0}
        action = ShellScriptAction("n", "1", "/p/my script.sh", named, ["p q", "", "1"])
        expected = (
            "'/p/my script.sh' --a='x y' --b --f=5 --g='[1, '\"'\"'b c'\"'\"']' --i=0 'p q' '' 1"
        )
        self.assertEqual(action.get_full_command_string(), expected)
        self.assertEqual(action._get_script_arguments({"k": "v"}), "k=v")
        sudo = ShellScriptAction("n", "1", "/s", sudo=True)
        self.assertEqual(sudo.get_full_command_string(), "sudo -E -- bash -c /s")


if __name__ == "__main__":
    unittest.main()
