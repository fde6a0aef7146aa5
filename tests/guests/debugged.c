/* What tests/debug.rs debugs: each part goes wrong, or somewhere, in its own way. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct node {
    struct node *next;
    int value;
};
static struct node *head;
volatile int counter, seen;

static void add(int value) {
    struct node *node = malloc(sizeof *node);
    node->next = head;
    node->value = value;
    head = node;
}

/* The guilty store. */
void scribble(int i) {
    if (i == 7) memset(&head->next, 0x41, 6);
}

static int sum(void) {
    int sum = 0;
    for (struct node *node = head; node; node = node->next) sum += node->value;
    return sum;
}

void handler(int signal) {
    seen = signal;
}

int deep(int depth) {
    if (depth == 0) {
        write(1, "bottom\n", 7);
        return 0;
    }
    return deep(depth - 1) + 1;
}

void count(int i) {
    counter += i & 1;
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

int main(int argc, char **argv) {
    const char *part = argv[1];
    if (!strcmp(part, "heap")) {
        for (int i = 0; i < 10; i++) {
            add(i);
            scribble(i);
        }
        write(1, "sum\n", 4);
        return sum();
    } else if (!strcmp(part, "signal")) {
        signal(SIGUSR1, handler);
        counter = 1;
        raise(SIGUSR1);
        counter = 2;
        return seen;
    } else if (!strcmp(part, "fork")) {
        counter = 1;
        pid_t child = fork();
        if (child == 0) execl("/bin/true", "true", NULL);
        int status;
        waitpid(child, &status, 0);
        counter = 2;
        abort();
    } else if (!strcmp(part, "deep")) {
        return deep(10000) != 10000;
    } else if (!strcmp(part, "count")) {
        for (int i = 0; i < 60; i++) count(i);
        raise(SIGKILL);
    } else if (!strcmp(part, "uses")) {
        int ends[2];
        store(1);
        neighbours();
        load();
        pipe(ends);
        write(ends[1], (void *)&watched.value, sizeof watched.value);
        store(2);
        read(ends[0], (void *)&watched.value, sizeof watched.value);
        store(1);
        load();
        raise(SIGKILL);
    } else if (!strcmp(part, "compute")) {
        write(1, "begin\n", 6);
        for (int i = 0; i < 600000000; i++) counter = i;
        write(1, "end\n", 4);
    }
    return 2;
}
