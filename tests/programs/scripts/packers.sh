# Compressors with threads.
set -eu
to=$(mktemp -d); cat words.txt prose.txt random.bin words.txt > "$to/all"; cd "$to"
pigz -nkp4 -b128 all; zstd -qk -T4 all -o all.zst; xz -kT4 --block-size=131072 all
for p in 'pigz -dc' 'gzip -dc'; do $p all.gz | sha256sum; done; zstd -T4 -dc all.zst | sha256sum; xz -T4 -dc all.xz | sha256sum; sha256sum all; cksum all.gz all.xz
