// Copies what its input says the length of.
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static char header(const char *data, long size) {
    char name[8] = "";
    if (size > 1 && data[0] == 'H') memcpy(name, data + 2, data[1] & 15);
    return name[0];
}

int main(void) {
    char in[64] = "";
    return header(in, read(0, in, sizeof in));
}
