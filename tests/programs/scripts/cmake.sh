# A small C project, configured by cmake and built by ninja in parallel.
set -eu
cd "$(mktemp -d)"
cat > CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.10)
project(sums C)
add_library(sums STATIC sum.c)
add_executable(adds main.c)
target_link_libraries(adds sums)
END
echo 'int sum(int a, int b) { return a + b; }' > sum.c
printf '#include <stdio.h>\nint sum(int, int);\nint main(void) { printf("%%d\\n", sum(2, 3)); return 0; }\n' > main.c
cmake -G Ninja -B build . | grep -v seconds | sed "s#$PWD#.#g"
ninja -C build -j4 | sed 's/^.*\r//' | tail -n 1; build/adds; ninja -C build
