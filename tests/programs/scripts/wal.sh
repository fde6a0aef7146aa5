# One database in WAL mode, written by two processes at once.
set -eu
cd "$(mktemp -d)"
sqlite3 a.db 'pragma journal_mode=wal; create table t(who, n);'
for who in one two; do
    (for n in 1 2 3 4 5 6; do echo "insert into t values('$who', $n);"; done | sqlite3 -cmd '.timeout 20000' a.db) &
done
wait
sqlite3 a.db 'select who, count(*), sum(n) from t group by who; pragma wal_checkpoint; pragma integrity_check;'
ls
