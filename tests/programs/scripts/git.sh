# A repository: commits, branches, a merge, a conflict, a clone, gc and fsck.
set -eu
cd "$(mktemp -d)"
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C \
    GIT_COMMITTER_EMAIL=c@example.org GIT_AUTHOR_DATE='2026-01-01 00:00:00 +0000' GIT_COMMITTER_DATE='2026-01-01 00:00:00 +0000'
git init -q -b main repository; cd repository
seq 20 > numbers; echo text > notes; git add .; git commit -qm first
git checkout -qb other; sed -i 's/^3$/three/' numbers; git commit -qam second
git checkout -q main; sed -i 's/^17$/seventeen/' numbers; git commit -qam third
git merge -q --no-edit other; git log --graph --format='%h %s' ; git diff --stat HEAD~1
git branch -v; git tag -a -m marked v1; git describe
git checkout -qb conflict HEAD~1; echo ours > notes; git commit -qam ours
git checkout -q main; echo theirs > notes; git commit -qam theirs
git merge conflict || echo "merge: $?"
git status --short; git merge --abort; git stash list
git clone -q . ../clone; cd ../clone; git log --oneline | wc -l; git rev-parse HEAD
cd ../repository; git gc -q; git fsck --full; git count-objects -v | grep -v size
git cat-file -p HEAD:notes; git blame -s numbers | sed -n 1,4p; git archive HEAD | tar -t
