/* What tests/backtrace.rs looks at: each part ends in its own way, with frames that are known. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void (*volatile nowhere)(void);
static volatile int *volatile null;

__attribute__((noinline)) static int store(int value) {
    *null = value;
    return value;
}

__attribute__((noinline)) static int call(void) {
    nowhere();
    return 1;
}

__attribute__((noinline)) static void handler(int signal) {
    store(signal);
}

__attribute__((noinline)) static int interrupted(void) {
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    return 1;
}

/* What it returns to is no more. */
__attribute__((noinline)) static int smash(void) {
    long words[2];
    memset(words, 0x41, 64);
    return store(1);
}

__attribute__((noinline)) static int deep(int depth) {
    return depth == 0 ? store(1) : deep(depth - 1) + 1;
}

int main(int argc, char **argv) {
    const char *part = argv[1];
    if (!strcmp(part, "store")) return store(1) + 1;
    if (!strcmp(part, "call")) return call() + 1;
    if (!strcmp(part, "signal")) return interrupted() + 1;
    if (!strcmp(part, "smash")) return smash() + 1;
    if (!strcmp(part, "deep")) return deep(5000) + 1;
    return 2;
}
