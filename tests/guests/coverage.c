// Reads four bytes, and goes other ways by them: a loop of so many rounds, or of a thousand, a word or none, one of three functions, and
// so many threads or processes that do the same.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char input[4];
static volatile int sum;

static void first(void) { sum += 1; }
static void second(void) { sum += 2; }
static void third(void) { sum += 3; }
static void (*volatile const functions[])(void) = {first, second, third};

static void rounds(unsigned n) { __asm__ volatile("1: dec %0; jnz 1b" : "+r"(n)); }

static void *work(void *unused) {
    rounds(input[0] ? input[0] : 1000);
    functions[input[2] % 3]();
    return unused;
}

int main(void) {
    if (read(0, input, sizeof input) != sizeof input) return 1;
    if (input[1] == 'w') puts("a word");
    work(NULL);
    if (input[3] == 't') {
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, work, NULL);
        for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    }
    if (input[3] == 'p') {
        for (int i = 0; i < 3; i++) {
            if (fork() == 0) {
                work(NULL);
                _exit(0);
            }
            wait(NULL);
        }
    }
    if (input[3] == 'l') {
        for (int i = 0; i < 200000; i++) work(NULL);
    }
    printf("%d\n", sum);
    return 0;
}
