/* What tests/gdb.rs debugs while it runs: each part shows a debugger something else. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile int counter, seen;

int twice(int n) {
    return 2 * n;
}

void count(int i) {
    counter += i & 1;
}

void handler(int signal) {
    seen = signal;
}

volatile struct {
    long before, value, behind;
} watched;

void store(long value) {
    watched.value = value;
}

void load(void) {
    seen = watched.value;
}

void neighbours(void) {
    watched.behind = watched.before;
}

void spin(void) {
    for (;;) {
        seen++;
    }
}

void *work(void *name) {
    for (int i = 0; i < 4; i++) {
        count(1);
        usleep(1000);
    }
    return name;
}

int main(int argc, char **argv) {
    const char *part = argv[1];
    if (!strcmp(part, "count")) {
        for (int i = 0; i < 60; i++) {
            count(i);
        }
        printf("counted %d\n", counter);
        return 3;
    } else if (!strcmp(part, "uses")) {
        store(1);
        neighbours();
        load();
        int ends[2];
        pipe(ends);
        write(ends[1], "12345678", 8);
        read(ends[0], (void *)&watched.value, 8);
        store(7);
    } else if (!strcmp(part, "crash")) {
        puts("before");
        fflush(stdout);
        *(volatile int *)8 = 1;
    } else if (!strcmp(part, "signals")) {
        signal(SIGUSR1, handler);
        raise(SIGUSR1);
        printf("seen %d\n", seen);
        fflush(stdout);
        raise(SIGTERM);
        puts("not ended");
    } else if (!strcmp(part, "threads")) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) {
            pthread_create(&threads[i], 0, work, 0);
        }
        for (int i = 0; i < 2; i++) {
            pthread_join(threads[i], 0);
        }
        printf("together %d\n", counter);
    } else if (!strcmp(part, "spin")) {
        spin();
    } else if (!strcmp(part, "sleep")) {
        sleep(100);
        puts("slept");
    } else if (!strcmp(part, "read")) {
        char text[16];
        printf("read %zd\n", read(0, text, sizeof text));
    } else if (!strcmp(part, "stuck")) {
        int ends[2];
        pipe(ends);
        read(ends[0], &seen, 1);
    }
    return 0;
}
