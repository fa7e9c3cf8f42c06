"""Map/Reduce over RestMQ's routes: mappers count the words of files, a reducer sums them up.
Start `dsmq --port 8888`, the reducer, and as many mappers as you like:

python3 examples/restmq_mapreduce.py reduce [--count FILES] [--top WORDS]
python3 examples/restmq_mapreduce.py map FILE...

Nothing has to be there in time: what is mapped before a reducer listens waits in the queue.
"""

import argparse
import collections
import json
import urllib.parse
import urllib.request

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--url", default="http://localhost:8888")
parser.add_argument("--queue", default="reducer")
roles = parser.add_subparsers(dest="role", required=True)
mapper = roles.add_parser("map")
mapper.add_argument("files", nargs="+")
reducer = roles.add_parser("reduce")
reducer.add_argument("--count", type=int, default=1_000_000)
reducer.add_argument("--top", type=int, default=10)
args = parser.parse_args()


def map_file(name):
    """Count the words of a file, and put the counts into the queue."""
    with open(name, encoding="utf-8") as file:
        words = collections.Counter(file.read().lower().split())
    counts = json.dumps({"file": name, "words": words})
    form = urllib.parse.urlencode({"value": counts}).encode()
    with urllib.request.urlopen(f"{args.url}/q/{args.queue}", form) as answer:
        answer.read()  # the key of what was added: it is in the queue
    print(f"sent: {name}: {words.total()} words", flush=True)


def reduce_all():
    """Sum up what comes: a line of the answer is a message, and the answer never ends."""
    total, files = collections.Counter(), 0
    with urllib.request.urlopen(f"{args.url}/c/{args.queue}") as lines:
        for line in lines:
            counts = json.loads(json.loads(line)["value"])
            words = collections.Counter(counts["words"])
            print(f"file: {counts['file']}: {words.total()} words", flush=True)
            total, files = total + words, files + 1
            if files == args.count:
                break
    print(f"total: {total.total()} words in {files} files")
    for word, count in total.most_common(args.top):
        print(f"{word}: {count}")


if args.role == "map":
    for name in args.files:
        map_file(name)
else:
    reduce_all()
