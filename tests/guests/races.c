// Mistakes between two threads that an ordinary run hardly ever shows.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static volatile int ready, users = 2, sum;
static char *shared;

// The flag is set, and looked at, without the lock.
static void *waker(void *arg) {
    ready = 1;
    pthread_cond_signal(&c);
    return arg;
}

static void *waiter(void *arg) {
    if (!ready) {
        pthread_mutex_lock(&a);
        pthread_cond_wait(&c, &a);
        pthread_mutex_unlock(&a);
    }
    return arg;
}

static void both(pthread_mutex_t *first, pthread_mutex_t *second) {
    pthread_mutex_lock(first);
    pthread_mutex_lock(second);
    sum++;
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

// The count goes down and is looked at in two steps.
static void *user(void *arg) {
    users--;
    if (users == 0)
        free(shared);
    return arg;
}

static void two(void *(*one)(void *), void *(*other)(void *)) {
    pthread_t threads[2];
    pthread_create(&threads[0], 0, one, 0);
    pthread_create(&threads[1], 0, other, 0);
    pthread_join(threads[0], 0);
    pthread_join(threads[1], 0);
}

int main(int argc, char **argv) {
    shared = malloc(3000);
    if (!strcmp(argv[1], "wake-up"))
        two(waiter, waker);
    else if (!strcmp(argv[1], "order"))
        two(forwards, backwards);
    else if (!strcmp(argv[1], "free"))
        two(user, user);
    else if (!strcmp(argv[1], "none"))
        two(forwards, forwards);
    puts("to the end");
    return argc > 2 ? atoi(argv[2]) : 0;
}
