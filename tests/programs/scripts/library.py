"""The extension modules that the sandbox promises: each with known inputs."""
import base64
import binascii
import bisect
import bz2
import csv
import decimal
import fractions
import hashlib
import heapq
import hmac
import io
import json
import lzma
import math
import pickle
import re
import sqlite3
import statistics
import struct
import textwrap
import unicodedata
import uuid
import zlib

data = json.load(open("data.json", encoding="utf-8"))
print(len(data), json.dumps(data[:3], sort_keys=True, ensure_ascii=False), sum(r["x"] for r in data))
try:
    json.loads('{"a": [1, 2,, 3]}')
except json.JSONDecodeError as e:
    print(e)

words = open("words.txt", encoding="utf-8").read()
print(len(re.findall(r"\b(an|be)\w*", words)), re.sub(r"(\w)\1", r"<\1>", words[:80]))
print(re.match(r"(?P<a>\w+)\s(?P<b>\w+)", words).groupdict())

with decimal.localcontext() as c:
    c.prec = 80
    print(decimal.Decimal(2).sqrt(), decimal.Decimal(1) / 7, decimal.Decimal("1e-30").exp())
try:
    decimal.Decimal(1) / 0
except decimal.DivisionByZero as e:
    print(repr(e))
print(fractions.Fraction(355, 113) + fractions.Fraction(1, 7), math.comb(60, 30), math.isqrt(10**40))

raw = open("random.bin", "rb").read()
for name in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(name, raw)
    print(name, h.hexdigest(32) if name.startswith("shake") else h.hexdigest())
print(hashlib.pbkdf2_hmac("sha256", b"pass", b"salt", 1000).hex(), hashlib.scrypt(b"p", salt=b"s", n=64, r=8, p=1).hex())
print(hmac.new(b"key", raw, "sha1").hexdigest())
print(zlib.crc32(raw), zlib.adler32(raw), binascii.crc_hqx(raw, 0))
for pack, unpack in ((zlib.compress, zlib.decompress), (bz2.compress, bz2.decompress), (lzma.compress, lzma.decompress)):
    packed = pack(words.encode())
    print(pack.__module__, len(packed), hashlib.md5(packed).hexdigest(), unpack(packed) == words.encode())
try:
    zlib.decompress(raw)
except zlib.error as e:
    print(e)
print(base64.b85encode(raw[:40]), base64.b32encode(b"dejavm"))

db = sqlite3.connect("shop.db")
for row in db.execute("SELECT city, count(*), sum(amount * price) FROM sale s JOIN customer c ON c.id = s.customer "
                      "JOIN item i ON i.id = s.item GROUP BY city ORDER BY 2 DESC, 1"):
    print(row)
with db:
    db.execute("CREATE TABLE blob (id INTEGER PRIMARY KEY, b BLOB)")
    db.executemany("INSERT INTO blob (b) VALUES (?)", ((raw[n : n + 700],) for n in range(0, 70_000, 700)))
db.create_function("sha", 1, lambda b: hashlib.sha1(b).hexdigest())
print(db.execute("SELECT count(*), sum(length(b)), max(sha(b)) FROM blob").fetchone(), sqlite3.sqlite_version)
try:
    db.execute("INSERT INTO blob VALUES (1, NULL)")
except sqlite3.IntegrityError as e:
    print(e)
db.close()

print(struct.pack("<hIq5sd", -2, 7, -1, b"abc", 1.5).hex(), struct.unpack(">3H", raw[:6]), struct.calcsize("@iP"))
for c in "aé€ß١😀":
    print(unicodedata.name(c), unicodedata.category(c), unicodedata.normalize("NFD", c).encode().hex())
print(unicodedata.unidata_version, "ẞ".casefold(), "ﬁ".upper())

print(statistics.mean(r["x"] for r in data), statistics.stdev(r["x"] for r in data))
heap = [r["x"] for r in data]
heapq.heapify(heap)
print([heapq.heappop(heap) for _ in range(5)], bisect.bisect([1, 3, 5], 4))
rows = list(csv.DictReader(open("table.csv", encoding="utf-8")))
print(len(rows), sum(float(r["price"]) for r in rows))
out = io.StringIO()
csv.writer(out).writerows([["a", 'b "q"', "c,d"], [1, None, 2.5]])
print(repr(out.getvalue()))
print(len(pickle.dumps(rows)), pickle.loads(pickle.dumps(data)) == data)
print(textwrap.fill(open("prose.txt", encoding="utf-8").read()[:400], 60))
print(uuid.uuid5(uuid.NAMESPACE_DNS, "example.org"), float("1e400"), 0.1 + 0.2, repr(1e22), round(2.5))
