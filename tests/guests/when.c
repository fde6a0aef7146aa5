/* What tests/when.rs looks into: files that are made, renamed and removed, memory that changes, a signal, a call that
   waits, a child, and a crash. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int counter;
char buffer[32];
volatile int seen;

void handler(int signal) {
    seen = signal;
}

void count(void) {
    for (int i = 0; i < 5; i++) counter += 3;
}

int main(void) {
    open("/no/such/config", O_RDONLY);
    int made = open("/tmp/made", O_RDWR | O_CREAT | O_TRUNC, 0644);
    write(made, "first\n", 6);
    write(made, "second\n", 7);
    pread(made, buffer, sizeof buffer, 0);
    int copy = dup(made);
    write(copy, "third\n", 6);
    rename("/tmp/made", "/tmp/kept");
    char *mapped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
    mapped[0] = 'F';

    int gone = open("/tmp/gone", O_WRONLY | O_CREAT, 0600);
    write(gone, "not for long\n", 13);
    close(gone);
    unlink("/tmp/gone");

    count();
    signal(SIGUSR1, handler);
    raise(SIGUSR1);

    int ends[2];
    pipe(ends);
    if (fork() == 0) {
        counter = 1000;
        int own = open("/tmp/kept", O_WRONLY | O_APPEND);
        write(own, "child\n", 6);
        write(ends[1], "x", 1);
        _exit(3);
    }
    char byte;
    read(ends[0], &byte, 1);
    wait(0);
    chdir("/tmp");
    *(volatile int *)0x1234 = 1;
}
