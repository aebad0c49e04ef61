import unittest

from st2tests.formats import Mismatch, extract


class Formats(unittest.TestCase):
    CASES = (
        ("run {{cmd}} on {{hosts}}", "run date on localhost", {"cmd": "date", "hosts": "localhost"}),
        ("run {{cmd}} on {{hosts}}", "run 'date -u' on a,b", {"cmd": "date -u", "hosts": "a,b"}),
        ("run {{cmd}} on {{hosts}}", 'run "ls -l" on h key="va lue"', {"cmd": "ls -l", "hosts": "h", "key": "va lue"}),
        ("run {{cmd}} on {{hosts}}", 'run date on localhost env={"a": "b"}',
         {"cmd": "date", "hosts": "localhost", "env": '{"a": "b"}'}),
        ("run {{cmd}} on {{hosts}}", "RUN date on x", None),
        ("deploy {{ app }} {{ver=1.0}}", "deploy web", {"app": "web", "ver": "1.0"}),
        ("deploy {{ app }} {{ver=1.0}}", "deploy web 2.0", {"app": "web", "ver": "2.0"}),
        ("deploy {{ app }} {{ver=1.0}}", "deploy web ver=3", {"app": "web", "ver": "3"}),
        ("greet {{name=World}}", "greet", {"name": "World"}),
        ("greet {{name=World}}", "greet Bob", {"name": "Bob"}),
        ("greet {{name=World}}", "hi", None),
        ("(show|list) {{ what }}( in {{ where }})?", "show x", {"what": "x", "where": None}),
        ("(show|list) {{ what }}( in {{ where }})?", "show x in 'a b'", {"what": "x", "where": "a b"}),
        ("hello", "hello x=1", {"x": "1"}),
        ("hello", "hello there", None),
        ('say {{ msg="hi there" }}', "say", {"msg": "hi there"}),
        ("say {{ msg='' }}", "say", {"msg": ""}),
        ("x {{p}}", 'x {"a":1}', {"p": '{"a":1}'}),
        ("x {{p}}", "x a=b", None),
        ("{{ key }}=(?P<v>\\d+)", "foo=12", None),
        ("multi (JIRA-[0-9]+)|{{t}}", "multi JIRA-1", {"t": None}),
        ("^\\s*exact {{x}}$", "exact 5", {"x": "5 "}),
    )

    def test_commands_give_what_the_node_would_take_from_them(self):
        for text, command, expected in self.CASES:
            with self.subTest(format=text, command=command):
                if expected is None:
                    with self.assertRaises(Mismatch):
                        extract(text, command)
                else:
                    self.assertEqual(extract(text, command), expected)

    def test_nothing_at_all_is_no_match(self):
        with self.assertRaisesRegex(Mismatch, "No value supplied"):
            extract("{{a=}}", "")


if __name__ == "__main__":
    unittest.main()
