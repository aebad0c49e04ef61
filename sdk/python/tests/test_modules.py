import datetime
import unittest

import st2common
from st2actions.runners import pythonrunner
from st2common import log as logging
from st2common.exceptions.action import InvalidActionParameterException
from st2common.runners.base_action import Action
from st2common.util import date, isotime, monkey_patch, shell
from st2reactor.sensor.base import PollingSensor, Sensor


class Modules(unittest.TestCase):
    def test_names_that_packs_import(self):
        self.assertIs(pythonrunner.Action, Action)
        self.assertEqual(logging.AUDIT, 60)
        self.assertEqual(logging.getLogger("x").name, "st2.x")
        self.assertTrue(callable(logging.Logger.audit))
        self.assertTrue(issubclass(InvalidActionParameterException, Exception))
        self.assertTrue(st2common.__version__)
        monkey_patch.monkey_patch()

    def test_times(self):
        when = datetime.datetime(2015, 1, 1, tzinfo=datetime.timezone.utc)
        self.assertEqual(isotime.format(when), "2015-01-01T00:00:00.000000+00:00")
        self.assertEqual(isotime.format(when, offset=False), "2015-01-01T00:00:00.000000Z")
        self.assertEqual(isotime.format("2015-01-01 00:00:00Z", usec=False), "2015-01-01T00:00:00+00:00")
        self.assertEqual(isotime.format(0), "1970-01-01T00:00:00.000000+00:00")
        self.assertEqual(isotime.parse("2015-01-01T00:00:00.000Z"), when)
        with self.assertRaisesRegex(ValueError, "does not match expected format"):
            isotime.parse("2015-01-01T02:00:00+02:00")
        self.assertEqual(isotime.parse("2015-01-01T02:00:00+02:00", validate_value=False), when)
        self.assertFalse(isotime.validate("never", raise_exception=False))
        self.assertEqual(date.convert_to_utc(when.replace(tzinfo=None)), when)
        self.assertEqual(date.append_milliseconds_to_time(when, 1500).microsecond, 500000)

    def test_shell(self):
        self.assertEqual(shell.run_command(["sh", "-c", "echo a; echo b >&2; exit 3"]), (3, "a\n", "b\n"))
        self.assertEqual(shell.quote_unix("a'b"), "'a'\"'\"'b'")

    def test_sensors_are_abstract(self):
        for base in (Sensor, PollingSensor):
            with self.assertRaises(TypeError):
                base(sensor_service=None)

    def test_a_missing_key_says_where_to_look(self):
        class Some(Action):
            def run(self):
                return None

        action = Some({"a": 1})
        self.assertEqual((action.config["a"], action.config.get("b"), "b" in action.config), (1, None, False))
        with self.assertRaisesRegex(ValueError, 'Config for pack "unknown" is missing key "b"'):
            action.config["b"]
        self.assertEqual(Some().config, {})
        with self.assertRaises(TypeError):
            Action()


if __name__ == "__main__":
    unittest.main()
