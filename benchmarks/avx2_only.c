/* Hides the instruction sets after AVX2 from a process and its children, whose libraries then choose
 * their code as on a processor with AVX2 alone. benchmarks/older_processor.py compiles and preloads
 * it. The processor must be able to fault on CPUID ("cpuid_fault" in /proc/cpuinfo).
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Of leaf 7. AVX-VNNI computes on 256 bits, but came years after AVX2: it is hidden too. */
#define HIDDEN_EBX (1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31)
#define HIDDEN_ECX (1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14)
#define HIDDEN_EDX (1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25)
#define HIDDEN_EAX_1 (1u << 4 | 1u << 5 | 1u << 21 | 1u << 23)
#define HIDDEN_EDX_1 (1u << 4 | 1u << 5 | 1u << 8 | 1u << 10 | 1u << 19)

typedef int (*setter)(int, const struct sigaction *, struct sigaction *);
static struct sigaction others; /* what the program itself set for SIGSEGV */

static setter real_setter(void) { return (setter)dlsym(RTLD_NEXT, "sigaction"); }

static long answers(int yes) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, (long)yes); }

static void faulted(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    /* CPUID faults with the kernel's own code, not with an address that was read. */
    if (info->si_code == SI_KERNEL && code[0] == 0x0f && code[1] == 0xa2) {
        unsigned leaf = (unsigned)registers[REG_RAX], part = (unsigned)registers[REG_RCX];
        unsigned a, b, c, d;
        answers(1);
        __cpuid_count(leaf, part, a, b, c, d);
        answers(0);
        if (leaf == 7 && part == 0) {
            b &= ~HIDDEN_EBX, c &= ~HIDDEN_ECX, d &= ~HIDDEN_EDX;
        } else if (leaf == 7 && part == 1) {
            a &= ~HIDDEN_EAX_1, d &= ~HIDDEN_EDX_1;
        }
        registers[REG_RAX] = a, registers[REG_RBX] = b;
        registers[REG_RCX] = c, registers[REG_RDX] = d;
        registers[REG_RIP] += 2;
    } else if (others.sa_flags & SA_SIGINFO && others.sa_sigaction) {
        others.sa_sigaction(number, info, context);
    } else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) {
        others.sa_handler(number);
    } else {
        struct sigaction none = {.sa_handler = SIG_DFL};
        real_setter()(SIGSEGV, &none, NULL); /* the instruction runs again, and ends the process */
    }
}

/* Both keep the handler above in place: programs set their own, Ray and NNCF among them. */
int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    if (number != SIGSEGV) return real_setter()(number, new, old);
    if (old) *old = others;
    if (new) others = *new;
    return 0;
}

sighandler_t signal(int number, sighandler_t handler) {
    struct sigaction old, new = {.sa_handler = handler, .sa_flags = SA_RESTART};
    return sigaction(number, &new, &old) ? SIG_ERR : old.sa_handler;
}

__attribute__((constructor)) static void hide(void) {
    /* No alternate stack: a program's own may be too small for the registers of AMX. */
    struct sigaction action = {.sa_sigaction = faulted, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (real_setter()(SIGSEGV, &action, NULL) || answers(0)) {
        fputs("this processor cannot hide its instructions: no cpuid_fault\n", stderr);
        exit(1);
    }
}
