# A wheel, made by hand, installed into a virtual environment.
set -eu
cd "$(mktemp -d)"
/usr/bin/python3 -m venv --without-pip env
mkdir -p wheel/small wheel/small-1.0.dist-info; cd wheel
echo 'def answer(): return 42' > small/__init__.py
printf 'Metadata-Version: 2.1\nName: small\nVersion: 1.0\n' > small-1.0.dist-info/METADATA
printf 'Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n' > small-1.0.dist-info/WHEEL
printf 'small/__init__.py,,\nsmall-1.0.dist-info/METADATA,,\nsmall-1.0.dist-info/WHEEL,,\nsmall-1.0.dist-info/RECORD,,\n' > small-1.0.dist-info/RECORD
python3 -c 'import zipfile, os
with zipfile.ZipFile("../small-1.0-py3-none-any.whl", "w") as z:
    for d, _, names in os.walk("."):
        for n in sorted(names): z.write(os.path.join(d, n))'
cd ..
/usr/bin/python3 -m pip --python env/bin/python install -q --no-index --no-deps ./small-1.0-py3-none-any.whl
env/bin/python -c 'import small, sys; print(small.answer(), sys.prefix != sys.base_prefix)'
/usr/bin/python3 -m pip --python env/bin/python list --format=freeze
