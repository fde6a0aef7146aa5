# The Go compiler and linker, and what they made.
set -eu
dir=$(mktemp -d); cp channels.go "$dir/main.go"; cd "$dir"
GOCACHE=$dir/cache GOFLAGS=-mod=mod GOTOOLCHAIN=local go build -o channels main.go; ./channels || echo $?
