# Pipelines, subshells, background jobs, traps, here-documents, process substitution.
set -u
echo one; /bin/echo two | cat
(echo in a subshell; exit 3); echo "status $?"
for i in 1 2 3; do echo "$i"; done | sort -rn | tr '\n' ' '; echo
words=$(cut -c1-3 words.txt | sort | uniq -c | sort -rn | head -5 | awk '{ print $1, $2 }')
echo "$words" | sha256sum
sleep 2 & first=$!
{ sleep 1; echo from the background; } &
wait $first; echo "waited: $?"; wait
cat <<END | tr a-z A-Z
here $(echo a document) with $((6 * 7))
END
diff <(seq 3) <(seq 4); echo "diff: $?"
trap 'echo got USR1' USR1; kill -USR1 $$
trap 'echo at exit' EXIT
(kill -TERM $BASHPID; echo not reached); echo "killed: $?"
yes | head -n 3
seq 100000 | { read -r line; echo "$line"; }
export NAME=value; env | grep ^NAME; bash -c 'echo "$NAME in $0"' child
find tree -type f -print0 | xargs -0 -n 2 wc -c | sort | tail -n 3
cd "$(mktemp -d)"; mkfifo pipe
(echo through a FIFO > pipe) & cat pipe; wait
exec 3>&1; echo by a descriptor >&3; exec 3>&-
coproc bc; echo '2 ^ 64' >&"${COPROC[1]}"; read -r answer <&"${COPROC[0]}"; echo "$answer"
exit 5
