# rsync, tar through gzip, find -exec, xargs with several processes.
set -eu
to=$(mktemp -d)
rsync -a tree/ "$to/one"; rsync -ai --delete tree/ "$to/one"; diff -r --no-dereference tree "$to/one" && echo same
tar -cf - tree | gzip -n | (cd "$to" && tar -xzf -); (cd "$to" && find tree | sort)
find tree -type f -exec cksum {} + | sort; find tree -name '*.txt' -exec sh -c 'wc -l < "$1"' sh {} \; | sort -n
seq 12 | xargs -P4 -n2 sh -c 'echo $(($0 * $1))' | sort -n
tar -C tree -cf "$to/tree.tar" . && tar -tf "$to/tree.tar" | sort
