/* Programs whose tasks compute side by side, and instructions and faults of all kinds while another task spins: what
 * is printed does not depend on where a task loses the CPU. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int stop;

static void *spin(void *nothing) {
    while (!stop)
        ;
    return nothing;
}

static volatile int turn;
static volatile long both;

static void *take_turns(void *which) {
    int me = which != NULL;
    for (int i = 0; i < 500; i++) {
        while (turn != me)
            ;
        both++;
        turn = !me;
    }
    return NULL;
}

static void turns(void) {
    pthread_t other;
    pthread_create(&other, NULL, take_turns, &other);
    take_turns(NULL);
    pthread_join(other, NULL);
    printf("%ld turns\n", both);
}

static unsigned long table_sum(unsigned n) {
    unsigned long sum = 0;
    for (unsigned i = 0; i < n; i++) {
        switch (i * 2654435761u >> 28) {
        case 0: sum += 3; break;
        case 1: sum ^= i; break;
        case 2: sum *= 5; break;
        case 3: sum -= i; break;
        case 4: sum = sum << 1 | sum >> 63; break;
        case 5: sum += sum >> 3; break;
        case 6: sum ^= 0x55; break;
        case 7: sum += i * i; break;
        case 8: sum = ~sum; break;
        default: sum += 1; break;
        }
    }
    return sum;
}

static long ackermann(long m, long n) {
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static long twice(long x) { return 2 * x; }
static long plus(long x) { return x + 7; }
static long (*volatile functions[])(long) = {twice, plus, labs};

static int by_number(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

void *hole;
unsigned long word = 0x1122334455667788;

static void instructions(void) {
    printf("table %lu\n", table_sum(5000));
    printf("ackermann %ld\n", ackermann(2, 9));
    long x = 1;
    for (int i = 0; i < 300; i++)
        x = functions[i % 3](x) & 0xffffff;
    printf("functions %ld\n", x);
    int numbers[300];
    for (int i = 0; i < 300; i++)
        numbers[i] = i * 7919 % 1009;
    qsort(numbers, 300, sizeof *numbers, by_number);
    printf("sorted %d %d %d\n", numbers[0], numbers[150], numbers[299]);

    unsigned long a, b, c, flags;
    /* `loop`, `loope`, `jrcxz`, and flags that live across them. */
    asm volatile("mov $10, %%ecx; xor %%eax, %%eax; stc\n1: lea 3(%%rax), %%rax; loop 1b; setc %%bl; movzbl %%bl, %%ebx"
                 : "=a"(a), "=b"(b), "=c"(c)::"cc");
    printf("loop %lu %lu %lu\n", a, b, c);
    asm volatile("xor %%ecx, %%ecx; mov $1, %%eax; jrcxz 1f; mov $2, %%eax\n1: mov $3, %%ecx; jrcxz 2f; add $4, %%eax\n2:"
                 : "=a"(a), "=c"(c)::"cc");
    printf("jrcxz %lu %lu\n", a, c);
    /* A flag that is set before a branch that goes back, and read behind it. */
    asm volatile("mov $5, %%ecx\n1: dec %%ecx; stc; jrcxz 2f; jmp 1b\n2: pushfq; pop %0" : "=r"(flags), "=c"(c)::"cc");
    printf("carry %lu\n", flags & 1);
    /* By its own address, with each register that may stand in for it. */
    asm volatile("mov $1, %%rax; mov $2, %%rcx; mov $3, %%rdx; mov $4, %%rbx; add word(%%rip), %%rax; add %%rcx, word(%%rip);"
                 "add %%rdx, %%rax; add %%rbx, %%rax; lea word(%%rip), %%rdx; sub (%%rdx), %%rax"
                 : "=a"(a)::"rbx", "rcx", "rdx", "cc", "memory");
    printf("by rip %ld, %lx\n", (long)a, word);
    asm volatile("lea 2f(%%rip), %%rax; mov %%rax, hole(%%rip); call *hole(%%rip); jmp 3f\n2: mov $9, %%eax; ret\n3:"
                 : "=a"(a)::"rcx", "cc", "memory");
    printf("call by rip %lu\n", a);
    /* `ret` with a number, and a jump by the stack. */
    asm volatile("mov %%rsp, %%rbx; push $1; push $2; lea 1f(%%rip), %%rax; push %%rax; ret $16\n"
                 "1: sub %%rsp, %%rbx; lea 2f(%%rip), %%rcx; push %%rcx; jmp *(%%rsp)\n2: pop %%rcx"
                 : "=b"(b)::"rax", "rcx", "cc", "memory");
    printf("ret 16 %lu\n", b);
    char from[100], to[100];
    memset(from, 'x', sizeof from);
    void *source = from, *goal = to;
    c = sizeof from;
    asm volatile("rep movsb" : "+S"(source), "+D"(goal), "+c"(c)::"memory");
    printf("rep movsb %d %lu\n", memcmp(from, to, sizeof to), c);
    long double root = 1;
    for (int i = 0; i < 40; i++)
        root = (root + 2 / root) / 2;
    printf("x87 %.18Lf\n", root);
    unsigned eax = 0, ebx, ecx = 0, edx;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    printf("cpuid %d\n", eax > 0);
    unsigned low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    printf("rdtsc %d\n", (low | high) != 0);
    for (int i = 0; i < 50; i++)
        asm volatile("pause");
    /* A trap flag of its own. */
    printf("to the end\n");
}

int main(int, char **);
static jmp_buf back;
static volatile sig_atomic_t traps;
static volatile unsigned long told[6];

static void tell(int signal, siginfo_t *info, void *raw) {
    greg_t *regs = ((ucontext_t *)raw)->uc_mcontext.gregs;
    told[0] = regs[REG_RIP], told[1] = regs[REG_RAX], told[2] = regs[REG_RCX], told[3] = regs[REG_RDX];
    told[4] = regs[REG_RSP], told[5] = (unsigned long)info->si_addr;
    (void)signal;
    siglongjmp(back, 1);
}

static void count(int signal) {
    (void)signal;
    traps++;
}

extern char f_load, f_push, f_call, f_ret, f_jump, f_rip, f_ud, f_div, f_after_int3;
static char *volatile nowhere;

#define FAULT(name, at, ...)                                                                                         \
    do {                                                                                                             \
        if (sigsetjmp(back, 1) == 0) {                                                                               \
            asm volatile(__VA_ARGS__);                                                                               \
            printf(name " did not fault\n");                                                                         \
        } else {                                                                                                     \
            long behind = told[0] - (unsigned long)(at);                                                             \
            /* Addresses of the program differ from run to run. */                                                   \
            unsigned long about = told[5] - (told[5] > 0x10000 ? (unsigned long)main & ~0xfffUL : 0);                \
            printf(name " at %ld: %lx %lx %lx, address %lx\n", behind, told[1], told[2], told[3], about);            \
        }                                                                                                            \
    } while (0)
#define CLOBBERS "rax", "rcx", "rdx", "rbx", "cc", "memory"

static void faults(void) {
    static char stack[1 << 16];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    for (int round = 0; round < 3; round++) {
        FAULT("load", &f_load, "mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; .globl f_load\nf_load: mov 0x10, %%rbx" ::: CLOBBERS);
        FAULT("rip", &f_rip, "mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; .globl f_rip\nf_rip: mov %%rax, main(%%rip)" ::: CLOBBERS);
        FAULT("push", &f_push, "mov %%rsp, %%rbx; mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; mov $64, %%esp; .globl f_push\nf_push: call 1f\n1: mov %%rbx, %%rsp" ::: CLOBBERS);
        FAULT("call", &f_call, "mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; .globl f_call\nf_call: call *0x20(%%rax)" ::: CLOBBERS);
        FAULT("ret", &f_ret, "mov %%rsp, %%rbx; mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; mov $64, %%esp; .globl f_ret\nf_ret: ret\nmov %%rbx, %%rsp" ::: CLOBBERS);
        FAULT("jump", 0x40, "mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; mov $0x40, %%ebx; jmp *%%rbx" ::: CLOBBERS);
        FAULT("ud2", &f_ud, "mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; .globl f_ud\nf_ud: ud2" ::: CLOBBERS);
        FAULT("div", &f_div, "mov $1, %%eax; mov $2, %%ecx; mov $0, %%edx; xor %%ebx, %%ebx; .globl f_div\nf_div: div %%ebx" ::: CLOBBERS);
        FAULT("int3", &f_after_int3, "mov $1, %%eax; mov $2, %%ecx; mov $3, %%edx; int3; .globl f_after_int3\nf_after_int3: nop" ::: CLOBBERS);
        /* To where no address is: CPUs differ in whether they are there already, or still at the jump. */
        if (sigsetjmp(back, 1) == 0)
            asm volatile("mov $0x4141414141414141, %%rax; mov $2, %%ecx; push %%rax; ret" ::: CLOBBERS);
        else
            printf("smashed: %lx %lx, address %lx\n", told[1], told[2], told[5]);
    }
    printf("to the end\n");
}

/* Code that the program makes: written in place, and made anew where it was run before. */
static void generated(void) {
    unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xff, 0xc8, 0x75, 0xfc, 0xb8, 0, 0, 0, 0, 0xc3};
    unsigned char *both_ways = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *by_turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int file = memfd_create("code", 0);
    if (ftruncate(file, 4096) != 0)
        abort();
    unsigned char *written = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *run = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    long sum = 0;
    for (int i = 1; i <= 60; i++) {
        code[1] = i, code[10] = i;
        memcpy(both_ways, code, sizeof code);
        sum = sum * 3 + ((int (*)(void))both_ways)();
        mprotect(by_turns, 4096, PROT_READ | PROT_WRITE);
        memcpy(by_turns, code, sizeof code);
        mprotect(by_turns, 4096, PROT_READ | PROT_EXEC);
        sum = sum * 5 + ((int (*)(void))by_turns)();
        memcpy(written, code, sizeof code);
        sum = sum * 7 + ((int (*)(void))run)();
    }
    printf("generated %ld\n", sum);
}

static void processes(void) {
    for (int i = 0; i < 6; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            printf("child %d: %lu %ld\n", i, table_sum(300 * i), ackermann(2, i));
            fflush(stdout);
            _exit(i);
        }
        int status;
        waitpid(child, &status, 0);
        printf("status %d\n", WEXITSTATUS(status));
    }
}

/* What the monitor runs in the place of the code lies above all that a program may map: whoever writes there, jumps
 * there, or has its own branches go there harms itself alone. */
static void hostile(void) {
    const unsigned long words = 0x7fffff010000, copies = 0x7fffff133000;
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t other;
            pthread_create(&other, NULL, spin, NULL);
            ualarm(20000, 0);
            unsigned long x = table_sum(100 + i);
            volatile unsigned long *word = (volatile unsigned long *)words;
            unsigned long values[] = {0, 1, -1, 1UL << 63, copies + i, 0x4141414141414141, (unsigned long)hostile};
            switch (i % 4) {
            case 0:
                for (int n = 0; n < 3000; n++)
                    word[n % 9] = values[(i / 4 + n) % 7], x += ackermann(1, 3);
                break;
            case 1:
                asm volatile("push %0; ret" ::"r"(copies + 7 * i) : "memory");
                break;
            case 2:
                asm volatile("call *%0" ::"r"(copies + 0x200 + 3 * i) : "memory", "rax", "rcx", "rdx");
                break;
            case 3:
                asm volatile("mov %0, %%rsp; call *%%rsp" ::"r"(words + 8 * i) : "memory");
                break;
            }
            _exit(x & 1);
        }
        int status;
        if (waitpid(child, &status, 0) != child)
            abort();
    }
    printf("to the end\n");
}

static void stepped(void) {
    signal(SIGTRAP, count);
    long x = 0;
    asm volatile("pushfq; orq $0x100, (%%rsp); popfq; mov $5, %%ecx\n1: inc %%rax; dec %%ecx; jnz 1b; pushfq; andq $~0x100, (%%rsp); popfq"
                 : "+a"(x)::"rcx", "cc", "memory");
    printf("stepped %ld: %d traps\n", x, (int)traps);
}

static void interrupts(void) {
    signal(SIGALRM, count);
    alarm(1);
    unsigned long rounds = 0;
    while (!traps)
        rounds++;
    printf("alarm behind some rounds: %d\n", rounds > 0);
}

int main(int argc, char **argv) {
    const char *part = argc > 1 ? argv[1] : "";
    if (strcmp(part, "turns") == 0) {
        turns();
        return 0;
    }
    pthread_t other;
    pthread_create(&other, NULL, spin, NULL);
    if (strcmp(part, "instructions") == 0)
        instructions();
    else if (strcmp(part, "faults") == 0)
        faults();
    else if (strcmp(part, "generated") == 0)
        generated();
    else if (strcmp(part, "processes") == 0)
        processes();
    else if (strcmp(part, "hostile") == 0)
        hostile();
    else if (strcmp(part, "stepped") == 0)
        stepped();
    else if (strcmp(part, "interrupts") == 0)
        interrupts();
    stop = 1;
    pthread_join(other, NULL);
    return 0;
}
