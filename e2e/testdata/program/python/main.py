# Reads CSV from stdin with the standard library, writes to scratch memory, and
# finds that its own measured folder is read-only.
import csv
import hashlib
import json
import os
import sys
import zlib

rows = list(csv.DictReader(sys.stdin))
print(json.dumps({"rows": len(rows), "total": sum(int(r["amount"]) for r in rows), "args": sys.argv[1:]}, sort_keys=True))
with open("/tmp/out.z", "wb") as f:
    f.write(zlib.compress(b"0123456789" * 10000))
with open("/tmp/out.z", "rb") as f:
    print(hashlib.sha256(zlib.decompress(f.read())).hexdigest())
print(os.environ["WHO"], sys.platform, sorted(os.listdir("/app")))
try:
    open("/app/main.py", "a")
except OSError as e:
    print(e.strerror)
sys.exit(5)
