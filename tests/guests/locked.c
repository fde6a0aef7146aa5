/* Two threads that take two locks in different orders, each with some work between the last system call and the second lock. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t locks[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static volatile long sum;
static long rounds;

static void work(long n) {
    for (long i = 0; i < n; i++) sum += i;
}

static void *take(void *number) {
    long first = (long)number;
    pthread_mutex_lock(&locks[first]);
    usleep(1000);
    work(rounds);
    pthread_mutex_lock(&locks[!first]);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[2];
    rounds = argc > 1 ? atol(argv[1]) : 1;
    for (long i = 0; i < 2; i++) pthread_create(&threads[i], NULL, take, (void *)i);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return 0;
}
