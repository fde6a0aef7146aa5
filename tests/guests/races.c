// Mistakes between two threads that an ordinary run does not show: one is through with its part long before the
// other begins, unless it loses the CPU between two instructions, and for milliseconds.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static volatile int ready, users = 2, sum;
static char *shared;

// Some work.
static void count(void) {
    for (int i = 0; i < 16; i++)
        sum += i;
}

// The flag is set, and looked at, without the lock.
static void *waker(void *arg) {
    ready = 1;
    pthread_cond_signal(&c);
    return arg;
}

static void *waiter(void *arg) {
    if (!ready) {
        count();
        pthread_mutex_lock(&a);
        pthread_cond_wait(&c, &a);
        pthread_mutex_unlock(&a);
    }
    return arg;
}

static void both(pthread_mutex_t *first, pthread_mutex_t *second) {
    pthread_mutex_lock(first);
    count();
    pthread_mutex_lock(second);
    pthread_mutex_unlock(second);
    pthread_mutex_unlock(first);
}

static void *forwards(void *arg) {
    both(&a, &b);
    return arg;
}

static void *backwards(void *arg) {
    both(&b, &a);
    return arg;
}

// The count goes down, and is looked at a little later.
static void *user(void *arg) {
    users--;
    count();
    if (users == 0)
        free(shared);
    return arg;
}

static volatile int x;

// Loaded, one more, and stored: between any two of these the other may do the same.
static void *adder(void *arg) {
    for (int i = 0; i < 16; i++)
        x = x + 1;
    return arg;
}

static void *(*late)(void *);

static void *later(void *arg) {
    // Some 2 ms.
    for (volatile int i = 0; i < 1000000; i++)
        ;
    return late(arg);
}

static void two(void *(*early)(void *), void *(*other)(void *)) {
    pthread_t thread;
    late = other;
    pthread_create(&thread, 0, later, 0);
    early(0);
    pthread_join(thread, 0);
}

int main(int argc, char **argv) {
    shared = malloc(3000);
    if (!strcmp(argv[1], "wake-up"))
        two(waiter, waker);
    else if (!strcmp(argv[1], "order"))
        two(forwards, backwards);
    else if (!strcmp(argv[1], "free"))
        two(user, user);
    else if (!strcmp(argv[1], "update")) {
        two(adder, adder);
        if (x != 32)
            return 1;
    } else if (!strcmp(argv[1], "none"))
        two(forwards, forwards);
    puts("to the end");
    return argc > 2 ? atoi(argv[2]) : 0;
}
