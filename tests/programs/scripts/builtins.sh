# Only what a shell does by itself.
i=0
while [ $i -lt 200 ]; do
    i=$((i + 1))
    case $i in
    *0) printf '%d ' $i ;;
    *) ;;
    esac
done
echo
fact() { if [ "$1" -le 1 ]; then result=1; else fact $(($1 - 1)); result=$((result * $1)); fi; }
fact 15
echo "15! = $result"
while read -r word rest; do
    echo "[$word] [$rest]"
done < keys.txt
{ echo one; echo two; } > shell.out
read -r line < shell.out && echo "read $line"
for f in *.txt; do echo "file $f"; done
set -- a 'b c' d
echo "$# $2 $*"
x=hello.world.txt
echo "${x%.*} ${x##*.} ${#x} ${y:-default}"
[ -f words.txt ] && [ ! -d words.txt ] && [ -d tree ] && echo tests
trap 'echo leaving' EXIT
umask 027; umask
cd tree && pwd
cd ..
printf '%s|%5d|%-5s|%x|%o\n' str 42 ab 255 8
echo "$((0x1f & 7)) $((1 << 20)) $((7 % 3)) $((-7 / 2))"
missing-program-xyz 2> /dev/null || echo "status $?"
exit 5
