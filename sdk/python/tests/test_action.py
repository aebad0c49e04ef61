import os
import tempfile
import textwrap
import unittest

from squall_host import action


class Load(unittest.TestCase):
    def load(self, text, name="some", config=None):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, name + ".py")
            with open(path, "w", encoding="utf-8") as file:
                file.write(textwrap.dedent(text))
            return action.load({"file_path": path, "pack": "p", "config": config, "log_level": "INFO"})

    def test_the_first_class_with_run_is_taken_whatever_it_inherits(self):
        instance = self.load(
            """
            from st2common.runners.base_action import Action
            class Zeta(Action):
                def run(self): return "zeta"
            class Base(Action):
                pass
            class Alpha:
                def __init__(self, config, action_service): self.config = config
                def run(self): return "alpha"
            class Aaa:
                pass
            """,
            name="one",
        )
        self.assertEqual(instance.run(), "alpha")

    def test_old_constructors_get_the_service_afterwards(self):
        instance = self.load(
            """
            from st2actions.runners.pythonrunner import Action
            class Old(Action):
                def __init__(self, config):
                    super().__init__(config)
                    self.early = self.action_service
                def run(self): return self.config["a"]
            """,
            name="two",
            config={"a": 5},
        )
        self.assertIsNone(instance.early)
        self.assertEqual(instance.run(), 5)
        self.assertEqual(instance.action_service._action_wrapper._class_name, "Old")
        with self.assertRaisesRegex(ValueError, 'pack "p" is missing key "zz"'):
            instance.config["zz"]

    def test_files_that_do_not_serve_say_why(self):
        with self.assertRaisesRegex(action.LoadError, "Found no classes in plugin file"):
            self.load("x = 1", name="three")
        with self.assertRaisesRegex(action.LoadError, "(?s)Traceback.*ImportError: Failed to load action class .*: no way"):
            self.load("raise ImportError('no way')", name="four")
        with self.assertRaisesRegex(action.LoadError, "SyntaxError: Failed to load action class"):
            self.load("def", name="five")

    def test_a_file_named_like_a_library_module_harms_nobody(self):
        import json

        instance = self.load(
            """
            import json
            class A:
                def __init__(self, **kw): pass
                def run(self): return json.dumps([1])
            """,
            name="json",
        )
        self.assertEqual(instance.run(), "[1]")
        self.assertEqual(json.dumps([2]), "[2]")


if __name__ == "__main__":
    unittest.main()
