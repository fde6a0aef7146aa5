/* Some lines run for some inputs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int twice(int x) {
    return 2 * x;
}
static int never(int x) {
    return 3 * x;
}
int main(void) {
    char in[64] = "";
    long n = read(0, in, sizeof in);
    int sum = 0;
    for (long i = 0; i < n; i++)
        sum += twice(in[i]);
    if (n == 63)
        sum += never(n);
    return sum > 100;
}
