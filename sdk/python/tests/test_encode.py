import collections
import dataclasses
import datetime
import enum
import json
import unittest
import uuid

from squall_host import encode


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


Pair = collections.namedtuple("Pair", "ok value")


def answer(value):
    document = json.loads(encode.answer(value))
    return document["result"], document["status"]


class Encode(unittest.TestCase):
    def test_values_that_have_a_form(self):
        when = datetime.datetime(2020, 1, 2, 3, 4, 5)
        ident = uuid.UUID(int=1)
        for value, result in [
            (None, None),
            ({"a": (1, 2.5, True)}, {"a": [1, 2.5, True]}),
            (float("nan"), None),
            (float("-inf"), None),
            (when, "2020-01-02T03:04:05"),
            (ident, str(ident)),
            (Colour.RED, "red"),
            (Point(1, 2.0), {"x": 1, "y": 2.0}),
            (collections.OrderedDict(b=1), {"b": 1}),
            ([2**63], [2**63]),
            ((True, 1, 2), [True, 1, 2]),
            ("žluť ☃", "žluť ☃"),
        ]:
            self.assertEqual(answer(value), (result, None), value)

    def test_pairs_are_status_and_result(self):
        self.assertEqual(answer((True, {"k": 1})), ({"k": 1}, True))
        self.assertEqual(answer((False, 1)), (1, False))
        self.assertEqual(answer((None, 1)), (1, None))
        self.assertEqual(answer(Pair(True, {"k": 1})), ({"k": 1}, True))
        for pair in [(1, "b"), ("a", "b")]:
            with self.assertRaises(encode.InvalidStatus):
                encode.answer(pair)

    def test_values_that_have_none_become_text(self):
        self.assertEqual(answer({1: 2}), ("{1: 2}, 'status': None}", None))
        self.assertEqual(answer((True, {1: 2})), ("{1: 2}", True))
        self.assertEqual(answer((False, {1})), ("{1}", False))
        self.assertEqual(answer(2**70), ("1180591620717411303424, 'status': None}", None))
        self.assertEqual(answer((True, "\ud800")), ("?", True))
        deep = []
        for _ in range(400):
            deep = [deep]
        self.assertIsInstance(answer((True, deep))[0], str)


if __name__ == "__main__":
    unittest.main()
