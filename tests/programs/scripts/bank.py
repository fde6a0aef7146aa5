"""Classes, generators, exceptions, files, a large job; ends with a traceback."""
import contextlib
import datetime
import functools
import itertools
import os
import random
import sys
import tempfile
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    CREDIT = 1
    DEBIT = -1


@dataclass(order=True)
class Entry:
    day: datetime.date
    amount: int
    kind: Kind = field(compare=False)


class Overdrawn(Exception):
    pass


class Account:
    def __init__(self, owner):
        self.owner = owner
        self.entries = []

    @property
    def balance(self):
        return sum(e.amount * e.kind.value for e in self.entries)

    def book(self, entry):
        if entry.kind is Kind.DEBIT and entry.amount > self.balance:
            raise Overdrawn(f"{self.owner} has {self.balance}, wants {entry.amount}")
        self.entries.append(entry)

    def __repr__(self):
        return f"<{type(self).__name__} {self.owner} {self.balance}>"


def days(start):
    for n in itertools.count():
        yield start + datetime.timedelta(days=n * 3)


@functools.lru_cache(maxsize=None)
def ways(n, coins=(1, 5, 10, 25, 50)):
    if n < 0 or not coins:
        return 0
    return 1 if n == 0 else ways(n, coins[:-1]) + ways(n - coins[-1], coins)


@contextlib.contextmanager
def section(name):
    print("==", name)
    try:
        yield
    finally:
        print("--", name)


with section("accounts"):
    rng = random.Random(2024)
    accounts = [Account(name) for name in ("ann", "bob", "cem", "dee")]
    refused = Counter()
    for day in itertools.islice(days(datetime.date(2023, 12, 30)), 300):
        account = rng.choice(accounts)
        entry = Entry(day, rng.randrange(1, 500), rng.choice(list(Kind)))
        try:
            account.book(entry)
        except Overdrawn as e:
            refused[account.owner] += 1
            last = e
    print(accounts, sorted(refused.items()), last)
    print(max(accounts[0].entries), rng.random(), rng.gauss(0, 1), rng.sample(range(100), 5))

with section("files"):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "ledger.txt")
        with open(path, "w", encoding="utf-8") as f:
            for a in accounts:
                for e in a.entries:
                    f.write(f"{a.owner}\t{e.day:%Y-%m-%d}\t{e.amount * e.kind.value:+d}\té\n")
        print(os.path.getsize(path), sorted(os.listdir(d)))
        totals = defaultdict(int)
        with open(path, encoding="utf-8") as f:
            for line in f:
                owner, _, amount, _ = line.split("\t")
                totals[owner] += int(amount)
        assert totals == {a.owner: a.balance for a in accounts}
        os.rename(path, path + ".old")
        with open(path + ".old", "rb+") as f:
            f.seek(-4, os.SEEK_END)
            print(f.read())
            f.truncate(10)
        print(os.stat(path + ".old").st_size)
        try:
            open(path)
        except FileNotFoundError as e:
            print(type(e).__name__, e.errno, e.strerror)
    print(os.path.exists(d))

with section("large"):
    numbers = {n: str(n) for n in range(60_000)}
    print(len(numbers), sum(map(len, numbers.values())), numbers[59_999])
    squares = sorted((n * n % 1009, n) for n in range(30_000))
    print(squares[0], squares[-1], len(set(s for s, _ in squares)))
    print(ways(300), len(str(2**5000)), 3**200 % 10**9)
    q = deque(range(1000), maxlen=10)
    q.rotate(3)
    print(list(q))
    P = namedtuple("P", "x y")
    print(P(1, 2)._replace(y=9), OrderedDict(a=1, b=2))
    text = "".join(chr(97 + n * n % 26) for n in range(50_000))
    print(Counter(text).most_common(3), hash(12345678901234567890), text.count("abz"))

with section("dates"):
    t = datetime.datetime(2024, 2, 29, 23, 59, 59, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    print(t.isoformat(), t.astimezone(datetime.timezone.utc), t.timestamp(), t.strftime("%A %j %U"))
    print(datetime.date(2024, 12, 30).isocalendar(), datetime.datetime.fromtimestamp(0, datetime.timezone.utc))

print("warning: last", file=sys.stderr)


def deep(n):
    return deep(n - 1) if n else accounts[0].book(Entry(datetime.date.min, 10**9, Kind.DEBIT))


try:
    deep(2)
except Overdrawn as e:
    raise RuntimeError("the end") from e
