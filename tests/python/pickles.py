"""Makes values, pickles each in every protocol, and compares what a reader makes of it.

Prints a pickle in hexadecimal digits a line. The reader answers with the value as JSON and, on a
line of its own, that JSON as a pickle; or with "not plain". Runs with Python 2 and 3.
"""
from __future__ import print_function

import collections
import datetime
import decimal
import json
import random
import sys

try:
    import cPickle as pickle
except ImportError:
    import pickle

PYTHON_2 = sys.version_info[0] == 2
if PYTHON_2:
    text, character = unicode, unichr  # noqa: F821
    integer = (int, long)  # noqa: F821
else:
    text, character = str, chr
    integer = int


class Thing(object):
    def __init__(self):
        self.name = "thing"


class Words(list):
    pass


def some_text(rng):
    alphabet = [u"a", u"Z", u" ", u"\n", u"\r", u"\\", u"'", u'"', u"\0", u"\x1a", u"\x7f", u"\xe9", u"\u20ac", u"\uffff", u"\U0001f600"]
    if not PYTHON_2:
        alphabet.append(u"\ud800")
    return u"".join(rng.choice(alphabet) for _ in range(rng.choice([0, 1, 3, 20, 300])))


def some_integer(rng):
    bits = rng.choice([1, 7, 8, 15, 16, 31, 32, 63, 64, 65, 200, 2000])
    return rng.choice([-1, 1]) * (rng.getrandbits(bits) + rng.choice([-1, 0, 1]))


def some_float(rng):
    return rng.choice([0.0, -0.0, 1.5, 1e16, 1e-9, 5e-324, 1.7976931348623157e308, rng.uniform(-1e6, 1e6)])


def plain(rng, depth=0):
    """A value that has JSON."""
    makers = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: some_integer(rng),
        lambda: some_float(rng),
        lambda: some_text(rng),
        lambda: some_text(rng).encode("utf-8", "ignore"),
    ]
    if depth < 4:
        makers += 2 * [
            lambda: [plain(rng, depth + 1) for _ in range(rng.randrange(5))],
            lambda: tuple(plain(rng, depth + 1) for _ in range(rng.randrange(5))),
            lambda: {some_text(rng): plain(rng, depth + 1) for _ in range(rng.randrange(5))},
            lambda: 2 * [plain(rng, depth + 1)],
        ]
    return rng.choice(makers)()


def not_plain(rng):
    value = rng.choice([
        lambda: {1: 2},
        lambda: {(1, 2): 3},
        lambda: {None: 1},
        lambda: {1, 2},
        lambda: frozenset([1]),
        lambda: float("inf"),
        lambda: float("nan"),
        lambda: b"\xff\xfe",
        lambda: bytearray(b"abc"),
        lambda: Thing(),
        lambda: Thing,
        lambda: Words([1, 2]),
        lambda: len,
        lambda: datetime.datetime(2026, 1, 2),
        lambda: decimal.Decimal("1.5"),
        lambda: collections.OrderedDict(a=1),
        lambda: collections.defaultdict(list, a=[1]),
        lambda: 1j,
    ])()
    return rng.choice([value, [value], {u"payload": (value, 1)}])


def as_json(value):
    """What the value is in JSON, as Python reads that again."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (integer, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {as_json(key): as_json(item) for key, item in value.items()}
    return value


def same(one, other):
    """Equal, and of one type: True is no 1, and 1 no 1.0."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return isinstance(other, float) and repr(one) == repr(other)
    if isinstance(one, bool) or one is None:
        return one is other
    if isinstance(one, integer):
        return isinstance(other, integer) and not isinstance(other, bool) and one == other
    return isinstance(one, text) and one == other


def ask(pickled):
    print("".join("%02x" % byte for byte in bytearray(pickled)))
    sys.stdout.flush()
    answer = sys.stdin.readline()
    return answer[:-1] if PYTHON_2 else answer.rstrip("\n")


def main():
    rng = random.Random(6)
    count = 0
    for number in range(1500):
        is_plain = number % 5 > 0
        value = plain(rng) if is_plain else not_plain(rng)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            try:
                pickled = pickle.dumps(value, protocol)
            except UnicodeEncodeError:
                # Python 3 writes no half of a surrogate pair in protocol 0.
                continue
            answer = ask(pickled)
            count += 1
            if not is_plain:
                assert answer == "not plain", (value, protocol, answer)
                continue
            expected = as_json(value)
            assert same(expected, json.loads(answer)), (value, protocol, answer)
            digits = sys.stdin.readline().strip()
            again = pickle.loads(bytes(bytearray.fromhex(digits)))
            assert same(expected, again), (value, protocol, again)
    print("all", count)


if __name__ == "__main__":
    if not PYTHON_2:
        sys.stdin = open(0, encoding="utf-8")
    main()
