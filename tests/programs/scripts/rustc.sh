# rustc compiles, with threads, and runs what it made.
set -eu
dir=$(mktemp -d)
echo 'fn main() { println!("{}", (1..=10).product::<u32>()); std::process::exit(3) }' > "$dir/hello.rs"
cd "$dir"; "$RUSTC" -C debuginfo=0 -o hello hello.rs; ./hello || echo $?
