#!/bin/sh
# The libraries of one image as a layer of its own: installs what requirements/NAME.txt pins into /layers/NAME, without
# what the layers BELOW have already, and without what no process needs.
# Usage: layer.sh NAME [BELOW…]
set -eu

name=$1
shift
site=lib/python$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages
found=
for below in "$@"; do
    found=$found/layers/$below/$site:
done
PYTHONPATH=$found pip --python /opt/telemetry/bin/python install --no-cache-dir --require-hashes \
    --prefix "/layers/$name" --requirement "requirements/$name.txt"

cd "/layers/$name/$site"
# What tests, types and compiles against libraries.
find . -depth -type d \( -name tests -o -name include \) -exec rm -r {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.[ch]' \) -delete
# What Arrow brings to talk with servers and S3; it is made to be without.
rm -rf pyarrow/*flight* pyarrow/*_s3* pyarrow/_s3fs* pyarrow/src
# Debugging symbols. What lies in *.libs has been rewritten, and strip might break it.
find . -type f -name '*.so*' ! -path '*.libs/*' -exec strip --strip-unneeded {} +
