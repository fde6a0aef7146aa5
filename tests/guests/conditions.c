// What has conditional breakpoints: instructions of many kinds, at labels that are symbols, passed again and again.
//
//   conditions loop N          passes each site N times
//   conditions threads N       two threads do, and a call in each round
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

long counter, sum, table[8];

// One round. %rdi is the round's number, %rsi the table.
long round_of(long number, long *table);
asm(".globl round_of, site_mov, site_load, site_rip, site_add, site_push, site_cmp, site_jump, site_call, site_ret\n"
    "round_of:\n"
    "site_push: push %rbx\n"
    "site_mov:  mov %rdi, %rbx\n"
    "site_load: mov 8(%rsi), %rax\n"
    "site_rip:  add %rax, counter(%rip)\n"
    "site_add:  add $3, %rbx\n"
    "site_cmp:  cmp $100, %rbx\n"
    "site_jump: jl 1f\n"
    "           lea 1(%rbx), %rbx\n"
    "1:\n"
    "site_call: call leaf\n"
    "           mov %rbx, (%rsi)\n"
    "           pop %rbx\n"
    "site_ret:  ret\n"
    "leaf:      lea (%rbx,%rax), %rax\n"
    "           ret\n");

static void *rounds(void *n) {
    long own[8] = {0, 1};
    for (long i = 0; i < (long)n; i++) {
        sum += round_of(i, own);
        getppid();
    }
    return 0;
}

int main(int argc, char **argv) {
    long n = argc > 2 ? atol(argv[2]) : 10;
    table[1] = 1;
    if (argc > 1 && !strcmp(argv[1], "threads")) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            pthread_create(&threads[i], 0, rounds, (void *)n);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], 0);
    } else {
        for (long i = 0; i < n; i++)
            sum += round_of(i, table);
    }
    printf("%ld %ld\n", counter, sum);
    return 0;
}
